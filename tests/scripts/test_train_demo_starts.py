"""The script that makes starting points to ship."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from fewshot_i2v.models.checkpoints.starting_point import read_start
from tests.models.made_starts import make_start
from tests.models.saved import tiny_encoder

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "train_demo_starts.py"))


@pytest.mark.slow
def test_it_trains_and_writes_a_start_in_half_precision(tmp_path: Path) -> None:
    given = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out"), "--steps", "1"]
    given += ["--adapter", "m-adapter", "--cache", str(tmp_path / "cache")]
    result = CliRunner().invoke(SCRIPT["main"], given, catch_exceptions=False)
    assert result.exit_code == 0
    start = read_start(tmp_path / "out" / "m-adapter", "m-adapter")
    assert start.facts.stored == "float16"
    assert {tensor.dtype for tensor in start.tensors.values()} == {torch.float32}


def test_a_start_in_half_precision_has_the_head_and_the_rates(tmp_path: Path) -> None:
    make_start(tmp_path / "whole", tiny_encoder(tmp_path), "aim", head="trx", rate=0.01)
    whole = read_start(tmp_path / "whole", "aim")
    SCRIPT["store_in_half"](whole, tmp_path / "half")
    half = read_start(tmp_path / "half", "aim")
    assert half.facts.stored == "float16"
    for kind in ("", "head", "rates"):
        before, after = ((getattr(s, kind) if kind else s).tensors for s in (whole, half))
        assert before
        assert before.keys() == after.keys()
        for name, tensor in before.items():
            assert torch.equal(after[name], tensor.half().float()), name


@pytest.mark.parametrize("adapter", SCRIPT["ADAPTERS"])
def test_the_guide_has_the_kept_step_and_the_validation_curve(adapter: str) -> None:
    metadata = json.loads((SCRIPT["OUT"] / adapter / "adapter.json").read_text(encoding="utf-8"))
    facts = metadata["about"]["start"]
    looks = [f"{look['step']}: {100 * look['accuracy']:.1f}" for look in facts["curve"]]
    kept = [look["step"] for look in facts["curve"]].index(facts["best_step"])
    looks[kept] = f"**{looks[kept]}**"
    row = f"| {facts['best_step']} | {', '.join(looks)} |"
    assert row in (ROOT / "scripts" / "README.md").read_text(encoding="utf-8")
