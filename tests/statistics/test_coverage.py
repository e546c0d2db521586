"""The simulation of coverage: that it runs, and that what it recorded is what the docs say."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT / "scripts" / "benchmarks" / "results" / "interval-coverage.json"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("coverage_of_intervals")


@pytest.fixture
def benchmark(script: ModuleType) -> ModuleType:
    """What it simulates."""
    return importlib.import_module("_simulated_benchmark")


@pytest.mark.slow
def test_a_quick_run_holds_what_is_claimed(script: ModuleType, tmp_path: Path) -> None:
    _run_quickly(script, tmp_path)


def test_a_few_settings_hold_what_is_claimed(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [s for s in script.settings(40) if s.name in ("1-shot", "1-shot near 1, disjoint")]
    monkeypatch.setattr(script, "settings", lambda _times: few)
    _run_quickly(script, tmp_path)


def _run_quickly(script: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "coverage.json"
    result = CliRunner().invoke(
        script.main, ["--quick", "--output", str(path)], catch_exceptions=False
    )
    assert result.exit_code == 0
    found = json.loads(path.read_text())
    assert result.output.count("\n") == len(found["lines"]) + 2
    for line in found["lines"]:
        assert line["repetitions"] == (10 if line["interval"] == "BCa" else 40)
        if line["claimed"]:
            assert line["coverage"] >= 0.85, line


def recorded() -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = json.loads(RECORDED.read_text())["lines"]
    return lines


def test_the_recorded_intervals_hold_what_they_claim(script: ModuleType) -> None:
    """95 % but for the error of the repetitions; what is too careful is named, with a reason."""
    rules = importlib.import_module("_coverage_table")
    claimed = [line for line in recorded() if line["claimed"]]
    small = [line for line in claimed if "accuracies" in line["setting"]]
    assert len(small) == 40
    assert len(claimed) == 101
    for line in claimed:
        assert line["coverage"] >= rules.LOW, line
        assert line["coverage"] <= rules.HIGH or rules.careful(line), line
    others = [line["coverage"] for line in claimed if line not in small]
    assert max(others) <= 0.98
    assert 0.945 <= np.mean(others) <= 0.965
    # each reason is needed
    given = {rules.careful(line) for line in claimed} - {None}
    assert given == set(rules.CAREFUL.values())


def test_the_record_is_of_all_settings(script: ModuleType) -> None:
    found = {(line["setting"], line["interval"], line["truth"]) for line in recorded()}
    for setting in script.settings(1000):
        wanted = [*setting.claims.items(), *setting.also.items()]
        assert {(setting.name, *pair) for pair in wanted} <= found
    plain = script.plain_lines(2, 0, quick=False)
    assert {(x["setting"], x["interval"], x["truth"]) for x in plain} <= found


@pytest.mark.slow
def test_the_record_is_of_the_present_code(script: ModuleType) -> None:
    """The cheapest setting of each kind, again; only a full run repeats all of it."""
    settings = script.settings(1000)
    lines = [line for line in recorded() if line["setting"] == "5-shot, 5 queries, disjoint"]
    number = next(i for i, s in enumerate(settings) if s.name == lines[0]["setting"])
    few = replace(settings[number], claims={"Student t": "clips"})
    (again,) = script.repeated(few, number)
    assert again == next(line for line in lines if line["interval"] == "Student t")


def test_the_short_table_says_what_was_recorded(script: ModuleType) -> None:
    result = CliRunner().invoke(script.main, ["--recorded", str(RECORDED)], catch_exceptions=False)
    assert result.exit_code == 0
    rows = importlib.import_module("_coverage_table").ROWS
    assert result.output.count("\n| ") == len(rows)
    closed = "| Student t, 10,000 episodes | other clips of these classes (**not claimed**)"
    assert f"{closed} | wrong: clips are in many episodes | 95 | 39.0 |" in result.output
    for why in importlib.import_module("_coverage_table").CAREFUL.values():
        assert why in result.output


def test_the_recorded_alternatives_do_not_hold() -> None:
    worst: dict[str, float] = {}
    for line in recorded():
        if not line["claimed"]:
            name = line["interval"]
            worst[name] = min(worst.get(name, 1.0), line["coverage"])
    assert worst["BCa"] < 0.9
    assert worst["weights of the query only"] < 0.92
    assert worst["jackknife, clips"] < 0.85
    wide = [x for x in recorded() if x["interval"] == "products of weights"]
    right = [x for x in recorded() if x["interval"] == "jackknife, clips" and x["claimed"]]
    assert min(x["half_width"] for x in wide) > max(x["half_width"] for x in right)


def test_the_recorded_closed_interval_does_not_hold_other_clips() -> None:
    found = {
        line["episodes"]: line["coverage"]
        for line in recorded()
        if (line["setting"], line["interval"]) == ("1-shot", "Student t")
        and line["truth"] == "clips"
    }
    assert found[200] > found[1000] > found[10000]
    assert found[10000] < 0.5


@pytest.mark.parametrize(("shot", "query"), [(1, 1), (2, 3)])
def test_the_truths_are_the_means_over_very_many_episodes(
    benchmark: ModuleType, shot: int, query: int
) -> None:
    design = benchmark.Design(classes=6, clips=8, way=3, shot=shot, query=query, pull=0.3)
    generator = np.random.default_rng(0)
    classes = benchmark.some_classes(design, generator)
    clips = benchmark.some_clips(design, generator)
    drawn = benchmark.shared_episodes(design, 8_000, generator)
    outcomes = benchmark.answered(design, classes, clips, drawn, generator)
    error = outcomes.accuracies.std() / np.sqrt(8_000)
    assert abs(outcomes.mean - benchmark.truth_here(design, classes, clips)) < 4 * error
    several = [
        benchmark.truth_here(design, classes, benchmark.some_clips(design, generator))
        for _ in range(400)
    ]
    error = np.std(several) / np.sqrt(400)
    assert abs(np.mean(several) - benchmark.truth_of_clips(design, classes)) < 4 * error
    several = [
        benchmark.truth_of_clips(design, benchmark.some_classes(design, generator))
        for _ in range(400)
    ]
    error = np.std(several) / np.sqrt(400)
    assert abs(np.mean(several) - benchmark.truth_of_classes(design)) < 4 * error


def test_drawn_episodes_are_sound(benchmark: ModuleType) -> None:
    design = benchmark.Design(classes=6, clips=8, way=3, shot=2, query=2)
    generator = np.random.default_rng(1)
    classes, clips = benchmark.shared_episodes(design, 500, generator)
    assert all(len(set(row)) == 3 for row in classes.tolist())
    assert all(len(set(row)) == 4 for rows in clips.tolist() for row in rows)
    assert np.bincount(clips.ravel(), minlength=8).min() > 600
    classes, clips = benchmark.disjoint_episodes(design, generator)
    assert classes.shape == (4, 3)
    used = [
        (c, i)
        for names, rows in zip(classes.tolist(), clips.tolist(), strict=True)
        for c, row in zip(names, rows, strict=True)
        for i in row
    ]
    assert len(used) == len(set(used)) == 48
