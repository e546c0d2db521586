"""The comparison of predictions in two precisions, and the noise floor beside it."""

from __future__ import annotations

import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny import tiny_folder, tiny_run, tiny_tower

BENCHMARKS = Path(__file__).resolve().parents[2] / "scripts" / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Any]:
    """The script's names, loaded as Python does for a script that is run."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return runpy.run_path(str(BENCHMARKS / "compare_precisions.py"))


def test_the_noise_floor_computes_the_same_function_with_other_sums(
    script: Mapping[str, Any],
) -> None:
    tower = tiny_tower()
    other = script["reordered"](tower)
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    features, reordered = tower.encode(pixels), other.encode(pixels)
    torch.testing.assert_close(reordered, features)
    assert not torch.equal(reordered, features)
    assert not torch.equal(other.blocks[0].fc_weight, tower.blocks[0].fc_weight)


def test_agreement_counts_queries_with_the_same_prediction(script: Mapping[str, Any]) -> None:
    fp32 = np.array([[0.6, 0.4], [0.45, 0.55], [0.2, 0.8], [0.9, 0.1]])
    bf16 = np.array([[0.6, 0.4], [0.52, 0.48], [0.3, 0.7], [0.9, 0.1]])
    found = script["agreement"](fp32, bf16)
    assert (found["queries"], found["same"], found["share"]) == (4, 3, 0.75)
    assert found["largest_probability_change"] == pytest.approx(0.1)
    assert found["margin_of_changed"] == pytest.approx(0.1)
    assert script["agreement"](fp32, fp32)["margin_of_changed"] == 0.0


def test_rows_of_the_default_precision_are_compared_with_those_of_fp32(
    script: Mapping[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "tiny").mkdir()
    run = tiny_run(tiny_folder(tmp_path / "tiny"), tmp_path / "run", episodes=2)
    settings = run.model_dump(mode="json", exclude_unset=True)
    settings["adapter"], settings["head"] = ["frozen", "st-adapter"], [script["ORDERED"]]
    settings["tuning"] = {"steps": 1, "recipe": "none"}
    rows = script["compare"](settings, "tuned", ("mixed", "noise floor"))
    frozen, adapted, floor, _ = rows
    assert [row["against"] for row in rows] == ["mixed"] * 2 + ["noise floor"] * 2
    assert frozen["largest_probability_change"] == 0.0
    assert adapted["largest_probability_change"] > 0.0
    assert floor["largest_probability_change"] > 0.0
