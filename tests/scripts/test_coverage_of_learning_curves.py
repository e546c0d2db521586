"""The script that holds learning curves against what more clips brought, and its record."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from fewshot_i2v.statistics.learning_curve import fit_learning_curve
from tests.cli.pilots import some, write

ROOT = Path(__file__).resolve().parents[2]


def test_expectations_are_held_against_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    script = importlib.import_module("coverage_of_learning_curves")
    means = {1: 0.5, 2: 0.6, 4: 0.7, 8: 0.2, 32: 0.9}
    for shot, mean in means.items():
        write(tmp_path / "sweep", "frozen", some(shot, mean), shot=shot)
    out = tmp_path / "record.json"
    arguments = [str(tmp_path / "sweep"), "--json", str(out)]
    result = CliRunner().invoke(script.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    record = json.loads(out.read_text())
    values = {shot: some(shot, mean).mean(axis=(1, 2)) for shot, mean in means.items()}
    assert record["curves"][0]["accuracy"] == {
        str(shot): pytest.approx(100 * row.mean(), abs=0.01) for shot, row in values.items()
    }
    lines = {(line["run"], line["from"], line["clips"]): line for line in record["lines"]}
    twice = lines["sweep", "all episodes", "up to 2 times"]
    accuracies = {shot: dict(enumerate(values[shot].tolist())) for shot in (1, 2, 4)}
    expected = fit_learning_curve(accuracies, dict.fromkeys(accuracies, 1000)).expect(8)
    error = 100 * (expected.mean - np.mean(values[8]))
    # 8 clips are below what 4 had; of 32 only those that 8 were the most of are near enough
    assert (twice["expectations"], twice["below, %"], twice["within, %"]) == (1, 100, 0)
    assert twice["error, mean"] == pytest.approx(error, abs=0.01)
    assert twice["enough, %"] is None
    far = lines["sweep", "all episodes", "2 to 4 times"]
    assert (far["expectations"], far["above, %"], far["enough, %"]) == (1, 100, 0)
    assert lines["all runs", "30 episodes", "up to 2 times"]["expectations"] == 1


def test_what_was_recorded_is_what_is_claimed() -> None:
    record = json.loads(
        (ROOT / "scripts/benchmarks/results/learning-curve-coverage.json").read_text()
    )
    guide = (ROOT / "fewshot_i2v/statistics/README.md").read_text(encoding="utf-8")
    assert f"of {len(record['curves'])} rows without fine-tuning" in " ".join(guide.split())
    lines = [line for line in record["lines"] if line["run"] == "all runs"]
    assert len(lines) == 4
    for line in lines:
        median, wide = line["error, median of sizes"], line["error, 95 % of sizes within"]
        said = f"| {line['expectations']} | {median:.1f}, {wide:.1f}"
        assert said in guide
        assert f"| {line['within, %']:.0f} % | {line['enough, %']:.0f} % |" in guide
