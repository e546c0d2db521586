"""The script that averages recorded logits gives what a run with the key records."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from fewshot_i2v.evaluation import evaluate
from fewshot_i2v.runs.run_folder import RunData, read_run
from tests.tiny import tiny_folder, tiny_run

MIN_LOSS = 2.3
"""Between the first losses of the episodes below."""
SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def _row(folder: Path, name: str, adapter: str, **tuning: Any) -> RunData:
    tuning = {"recipe": "none", "steps": 5, "lr": 0.3} | tuning
    changes = {"head": "prototype", "shot": [2], "query": 4, "episodes": 6}
    config = tiny_run(folder, folder / name, adapter=adapter, tuning=tuning, **changes)
    return read_run(evaluate.run(config).rows[0].folder)


@pytest.mark.parametrize("keys", [{"untuned_weight": 0.5}, {"min_loss": MIN_LOSS}], ids=str)
def test_rows_are_those_of_a_run_with_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, float]
) -> None:
    folder = tiny_folder(tmp_path)
    _row(folder, "runs", "frozen")
    tuned = _row(folder, "runs", "aim")
    below = [record.losses[0] < MIN_LOSS for record in tuned.records.values()]
    assert 0 < sum(below) < len(below)
    expected = _row(folder, "expected", "aim", **keys)
    monkeypatch.syspath_prepend(str(SCRIPTS))
    main = runpy.run_path(str(SCRIPTS / "mix_untuned.py"))["main"]
    command = [str(folder / "runs"), "--weight", str(keys.get("untuned_weight", 0))]
    command += ["--min-loss", str(keys.get("min_loss", 0)), "--out", str(folder / "mixed")]
    done = CliRunner().invoke(main, command, catch_exceptions=False)
    assert done.output == "aim-prototype-2shot: 6 episodes\n"
    mixed = read_run(folder / "mixed" / "aim-prototype-2shot")
    tuning = mixed.header["identity"]["config"]["tuning"]
    assert {key: tuning.get(key, 0) for key in ("untuned_weight", "min_loss")} == {
        "untuned_weight": 0,
        "min_loss": 0,
    } | keys
    for index, record in expected.records.items():
        found = mixed.records[index]
        assert (found.predictions, found.accuracy) == (record.predictions, record.accuracy)
        assert len(found.losses) == len(record.losses)
        assert np.allclose(found.probabilities, record.probabilities, atol=2e-5)
    assert any(
        mixed.records[i].probabilities != record.probabilities
        for i, record in tuned.records.items()
    )


def test_a_row_with_one_of_the_keys_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its records are the mean already."""
    folder = tiny_folder(tmp_path)
    _row(folder, "runs", "frozen")
    _row(folder, "runs", "aim", untuned_weight=0.25)
    monkeypatch.syspath_prepend(str(SCRIPTS))
    main = runpy.run_path(str(SCRIPTS / "mix_untuned.py"))["main"]
    done = CliRunner().invoke(main, [str(folder / "runs"), "--out", str(folder / "mixed")])
    assert done.exit_code == 1
    assert "aim-prototype-2shot: this row was tuned with untuned_weight 0.25" in done.output
    assert not (folder / "mixed").exists()
