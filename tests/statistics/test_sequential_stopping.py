"""Stopping where the mean is known well enough."""

from __future__ import annotations

import importlib
import json
from math import sqrt
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics import mean_interval, sequential_stopping
from fewshot_i2v.statistics.sequential_stopping import StoppingDecision, decide_stopping

Values = list[float | None]
ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT / "scripts" / "benchmarks" / "results" / "stopping-coverage.json"


def some(seed: int, count: int, mean: float = 0.8, queries: int = 25) -> Values:
    generator = np.random.default_rng(seed)
    chance = generator.beta(mean * 9, (1 - mean) * 9, size=count)
    return [float(x) for x in generator.binomial(queries, chance) / queries]


def drawn(rows: list[Values], target: float, batch: int) -> StoppingDecision:
    """Plays a run through that goes on in batches, often past what it was asked for."""
    there = 0
    while True:
        decision = decide_stopping([row[:there] for row in rows], target)
        if decision.stop:
            return decision
        assert decision.episodes > there
        there = -(-decision.episodes // batch) * batch


def enough(values: NDArray[np.float64], n: int, target: float, level: float = 0.95) -> bool:
    """Whether n values are enough, by what `values` show; straight from the definition."""
    away = max(values.mean(), 1 - values.mean())
    variance = values.var(ddof=1) + away**2 / n
    return bool(stats.t.ppf((1 + level) / 2, len(values) - 1) * sqrt(variance / n) <= target)


def test_first_look_after_the_pilot() -> None:
    decision = decide_stopping([some(0, 29)], 0.02)
    assert decision == StoppingDecision(False, 30, False, (None,), 0)
    assert decide_stopping([[]], 0.02).episodes == 30


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_it_asks_for_the_fewest_that_would_do(level: float) -> None:
    row = some(1, 30)
    values = np.array(row, dtype=float)
    asked = decide_stopping([row], 0.04, level=level).episodes
    needed = next(n for n in range(2, 2000) if enough(values, n, 0.04, level))
    assert asked in (needed, -(-needed // 2))
    assert (asked == needed) == (needed <= 60)


def test_it_stops_where_both_widths_are_below_the_target() -> None:
    row = some(2, 3000)
    decision = decide_stopping([row], 0.01)
    assert decision.stop
    assert decision.target_met
    values = [v for v in row[: decision.episodes] if v is not None]
    assert enough(np.array(values), decision.episodes, 0.01)
    plain, (ours,) = mean_interval(values).half_width, decision.half_widths
    assert plain is not None
    assert ours is not None
    assert plain < ours <= 0.01


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 300), st.sampled_from([0.02, 0.05]))
def test_the_end_does_not_depend_on_how_the_run_got_there(
    seed: int, batch: int, target: float
) -> None:
    rows = [some(seed, 4000), some(seed + 1, 4000, mean=0.95)]
    once = decide_stopping(rows, target)
    assert once.stop
    assert drawn(rows, target, batch) == once
    assert decide_stopping([row[: once.episodes] for row in rows], target) == once
    assert not decide_stopping([row[: once.episodes - 1] for row in rows], target).stop


def test_rows_go_on_until_the_last_one_is_done() -> None:
    easy, hard = some(3, 4000, mean=0.97), some(4, 4000, mean=0.5)
    both = decide_stopping([easy, hard], 0.02)
    assert (
        both.episodes
        >= decide_stopping([hard], 0.02).episodes
        > decide_stopping([easy], 0.02).episodes
    )
    assert all(width is not None and width <= 0.02 for width in both.half_widths)
    assert decide_stopping([easy, hard[:100]], 0.02) == decide_stopping(
        [easy[:100], hard[:100]], 0.02
    )


def test_equal_values_are_no_certainty() -> None:
    decision = decide_stopping([[1.0] * 30], 0.01)
    assert not decision.stop
    assert 150 < decide_stopping([[1.0] * 1000], 0.01).episodes < 250


def test_failed_episodes_are_made_up_for() -> None:
    row = some(5, 3000)
    whole = decide_stopping([row], 0.02)
    holes: Values = [None if i % 2 else v for i, v in enumerate(some(5, 6000))]
    decision = decide_stopping([holes], 0.02)
    assert decision.target_met
    assert decision.episodes > 1.5 * whole.episodes
    nothing = decide_stopping([[None] * 100], 0.02)
    assert not nothing.stop
    assert nothing.half_widths == (None,)


def test_the_cap_stops_it() -> None:
    row = some(6, 3000)
    decision = decide_stopping([row], 0.01, cap=100)
    assert (decision.stop, decision.episodes, decision.target_met) == (True, 100, False)
    assert decide_stopping([row[:99]], 0.01, cap=100) == StoppingDecision(
        False, 100, False, decide_stopping([row[:99]], 0.01, cap=100).half_widths, 1
    )
    assert decide_stopping([row], 0.01, cap=12).episodes == 12
    assert decide_stopping([row[:11]], 0.01, cap=12).episodes == 12
    assert decide_stopping([row], 0.05, cap=3000) == decide_stopping([row], 0.05)


@pytest.mark.parametrize(
    ("mean", "queries", "common", "target"),
    [(0.98, 5, 0.3, 0.01), (0.98, 25, 0.05, 0.01), (0.9, 5, 0.3, 0.02), (0.5, 25, 0.05, 0.03)],
)
def test_it_keeps_its_coverage_where_the_plain_interval_does_not(
    mean: float, queries: int, common: float, target: float
) -> None:
    generator = np.random.default_rng(11)
    size, times = 1 / common - 1, 150
    ours = plain = 0
    for _ in range(times):
        chance = generator.beta(mean * size, (1 - mean) * size, size=1500)
        values = generator.binomial(queries, chance) / queries
        decision = decide_stopping([values.tolist()], target)
        assert decision.stop
        ours += abs(values[: decision.episodes].mean() - mean) <= target
        n = np.arange(2, 1501)
        variance = (np.cumsum(values**2)[1:] - np.cumsum(values)[1:] ** 2 / n) / (n - 1)
        width = stats.t.ppf(0.975, n - 1) * np.sqrt(np.maximum(variance, 0) / n)
        plain += abs(values[: n[np.argmax(width <= target)]].mean() - mean) <= target
    # three standard errors below 95 %
    assert ours / times > 0.95 - 3 * sqrt(0.95 * 0.05 / times)
    assert plain / times < 0.92


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"target": 0.0}, "target is 0.0; expected a half-width above 0 and below 0.5"),
        ({"target": 1.0}, "target is 1.0"),
        ({"level": 95}, "level is 95"),
        ({"cap": 0}, "cap is 0"),
        ({"rows": []}, "rows: empty"),
        ({"rows": [[0.5, float("nan")]]}, r"rows\[0\]\[1\] is nan"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        decide_stopping(**{"rows": [[0.5]], "target": 0.01, **given})  # type: ignore[arg-type]


def test_the_simulation_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    script = importlib.import_module("coverage_of_stopping")
    path = tmp_path / "coverage.json"
    given = ["--times", "10", "--most", "40", "--rows", "2", "--output", str(path)]
    result = CliRunner().invoke(script.main, given, catch_exceptions=False)
    assert result.exit_code == 0
    found = json.loads(path.read_text())
    assert result.output.count("\n") == len(found["settings"]) + 5
    for line in found["settings"]:
        assert line["fixed"] <= 40
        assert line["rule"] >= 30
        assert 0 <= line["plain_within"] <= 1
    again = CliRunner().invoke(script.main, given, catch_exceptions=False)
    assert again.output == result.output


def test_what_was_recorded_is_what_is_claimed() -> None:
    lines = json.loads(RECORDED.read_text())["settings"]
    said = " ".join((sequential_stopping.__doc__ or "").split())
    worst = min(line["rule_within"] for line in lines)
    assert f"in {100 * worst:.1f} % or more of the runs of each of {len(lines)} settings" in said
    for mean in (0.98, 0.5):
        plain = [
            100 * line["plain_within"]
            for line in lines
            if (line["setting"]["mean"], line["setting"]["target"]) == (mean, 0.01)
        ]
        assert f"{min(plain):.0f} to {max(plain) + 1e-6:.0f} %" in said
    # careful where 30 episodes are more than enough, or where few can show the spread; else exact
    for line in lines:
        assert line["rule_within"] >= 0.93
        assert line["rule_within"] <= 0.97 or line["rule"] >= 1.25 * line["fixed"], line
    extra = fmean(line["rule"] / line["fixed"] for line in lines if line["fixed"] >= 200)
    assert extra == pytest.approx(1.2, abs=0.05)
    assert "with a fifth more episodes" in said
