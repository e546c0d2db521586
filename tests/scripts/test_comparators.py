"""The intervals that the coverage studies compare with, against scipy and the slow way."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import scipy.stats

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics import bounded_interval
from fewshot_i2v.statistics.jackknife import ClusterKind, JackknifeEstimate
from tests.statistics.test_jackknife import ends, hard_classes, hard_groups

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def comparators(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("_comparators")


@pytest.mark.parametrize(("successes", "n"), [(0, 7), (7, 7), (3, 10), (380, 400)])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_wilson_is_that_of_scipy(
    comparators: ModuleType, successes: int, n: int, level: float
) -> None:
    got = comparators.wilson(successes, n, level)
    expected = scipy.stats.binomtest(successes, n).proportion_ci(level, "wilson")
    assert ends(got) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert (got.mean, got.n) == (successes / n, n)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_needs_trials(comparators: ModuleType, successes: int, n: int) -> None:
    with pytest.raises(UsageError, match="expected at least 1 trial"):
        comparators.wilson(successes, n)


def test_the_bootstrap_is_the_percentile_t_one_of_drawn_values(comparators: ModuleType) -> None:
    values = np.array([0.4, 0.6, 0.6, 0.8, 0.2, 1.0, 0.8, 0.4, 0.6, 0.0])
    drawn = np.random.default_rng(3).choice(values, size=(60_000, len(values)))
    errors = drawn.std(1) / np.sqrt(len(values))
    ratios = (drawn.mean(1) - values.mean())[errors > 0] / errors[errors > 0]
    error = values.std() / np.sqrt(len(values))
    expected = values.mean() - error * np.quantile(ratios, [0.95, 0.05])
    got = comparators.bootstrap_mean(values.tolist(), 0.9, repeats=60_000, seed=1)
    assert ends(got) == pytest.approx(tuple(expected), abs=0.01)
    assert (got.n, got.method) == (10, "percentile-t bootstrap")


def test_a_bootstrap_with_too_little_spread_is_as_wide_as_can_be(comparators: ModuleType) -> None:
    assert comparators.bootstrap_mean([1.0] * 9 + [0.8]).low == 0
    assert comparators.bootstrap_mean([1.0] * 9) == bounded_interval([1.0] * 9)


@pytest.mark.parametrize("by", ["clips", "groups", "classes"])
def test_bootstrap_and_jackknife_agree_and_draws_repeat(
    comparators: ModuleType, by: ClusterKind
) -> None:
    outcomes = hard_classes() if by == "classes" else hard_groups()
    groups = None
    if by == "groups":
        groups = {clip: str(int(clip.split("/")[1]) // 2) for clip in outcomes.clips}
    plain = JackknifeEstimate.from_outcomes(outcomes, by, groups).interval()
    drawn = [
        comparators.cluster_bootstrap(outcomes, by, groups=groups, seed=seed, repeats=4000)
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1]
    assert ends(drawn[0]) != ends(drawn[2])
    assert ends(drawn[0]) == pytest.approx(ends(plain), abs=0.1 * (plain.half_width or 0))
    assert (drawn[0].mean, drawn[0].n) == (plain.mean, plain.n)
