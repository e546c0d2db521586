"""How many clips are planned: against made-up benchmarks whose truths are known."""

from __future__ import annotations

import importlib
from dataclasses import replace
from math import sqrt
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics import sample_size as plan
from fewshot_i2v.statistics.clip_variance import (
    CLIP_SHARE,
    ClipVariance,
    clips_for_difference,
    clips_for_half_width,
    components_over_clips,
    detectable_over_clips,
    estimate_clip_variance,
    half_width_over_clips,
    max_clip_variance,
)
from fewshot_i2v.statistics.jackknife import JackknifeEstimate
from fewshot_i2v.statistics.predictions import PredictionTable
from fewshot_i2v.statistics.variance_components import estimate_components

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark that the simulation of coverage uses."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("_simulated_benchmark")


def cells(outcomes: PredictionTable, way: int, query: int) -> list[list[list[float]]]:
    """Right or wrong by episode and class."""
    right = outcomes.correct.astype(float).reshape(len(outcomes), way, query)
    return [[list(row) for row in episode] for episode in right.tolist()]


def moves(made: ModuleType, design: Any, classes: Any, times: int) -> float:  # noqa: ANN401
    """Variance over sets of clips of the mean over all episodes; known without drawing any."""
    generator = np.random.default_rng(7)
    means = [
        made.truth_here(design, classes, made.some_clips(design, generator)) for _ in range(times)
    ]
    return float(np.var(means, ddof=1))


@pytest.mark.parametrize(("query", "episodes"), [(1, 4000), (5, 400)])
def test_a_pilot_foretells_what_more_clips_leave(
    made: ModuleType, query: int, episodes: int
) -> None:
    design = made.Design(classes=10, clips=30, query=query)
    generator = np.random.default_rng(query)
    classes = made.some_classes(design, generator)
    units = []
    for _ in range(15):
        clips = made.some_clips(design, generator)
        drawn = made.shared_episodes(design, episodes, generator)
        outcomes = made.answered(design, classes, clips, drawn, generator)
        spread = estimate_clip_variance(outcomes, [30] * 10)
        assert spread is not None
        units.append(spread.single_clip_variance)
    truth = moves(made, replace(design, clips=90), classes, 400)
    assert np.mean(units) / 90 == pytest.approx(truth, rel=0.25)


@pytest.mark.parametrize(("shot", "pull"), [(1, 0.05), (1, 0.3), (3, 0.05)])
def test_it_is_no_more_than_the_spread_of_episodes_allows(
    made: ModuleType, shot: int, pull: float
) -> None:
    design = made.Design(classes=10, clips=40, shot=shot, query=5, pull=pull)
    generator = np.random.default_rng(shot)
    classes, clips = made.some_classes(design, generator), made.some_clips(design, generator)
    drawn = made.shared_episodes(design, 3000, generator)
    outcomes = made.answered(design, classes, clips, drawn, generator)
    found = estimate_components(cells(outcomes, 5, 5))
    most = max_clip_variance(found, 5, shot, 10)
    assert most.dof is None
    spread = estimate_clip_variance(outcomes, [40] * 10)
    assert spread is not None
    assert spread.dof is not None
    assert spread.single_clip_variance < most.single_clip_variance
    # and no less than the cheapest way in which no clip is used twice would leave
    best = plan.best_query_count(found, 5, shot)
    apart = 5 * (shot + best) * (found.between + found.within / (5 * best)) / 10
    assert most.single_clip_variance < apart <= 2 * most.single_clip_variance * (1 + 1e-9)


def test_episodes_on_few_clips_are_more_alike_than_on_others(made: ModuleType) -> None:
    """Episodes on 8 clips per class, 7 of them in each: others spread more than these."""
    hard = {"query_sd": 8.0, "support_sd": 1.0, "pull": 0.0}
    design = made.Design(classes=5, clips=8, shot=2, query=5, **hard)
    generator = np.random.default_rng(5)
    classes = made.some_classes(design, generator)
    inside, across, most = [], [], []
    for _ in range(30):
        clips = made.some_clips(design, generator)
        drawn = made.shared_episodes(design, 300, generator)
        outcomes = made.answered(design, classes, clips, drawn, generator)
        found = estimate_components(cells(outcomes, 5, 5))
        spread = estimate_clip_variance(outcomes, [8] * 5)
        bound = max_clip_variance(found, 5, 2, 5, clips=8)
        most.append(bound.single_clip_variance)
        inside.append(outcomes.accuracies.var(ddof=1))
        across.append(components_over_clips(found, spread or bound, 8).deviation() ** 2)
    fresh = []
    for _ in range(800):
        clips = made.some_clips(design, generator)
        drawn = made.shared_episodes(design, 2, generator)
        fresh.append(made.answered(design, classes, clips, drawn, generator).accuracies[0])
    truth = np.var(fresh, ddof=1)
    assert np.mean(inside) < 0.8 * truth
    assert np.mean(across) == pytest.approx(truth, rel=0.2)
    assert np.mean(most) / 8 > moves_by_episodes(made, design, classes)


def moves_by_episodes(made: ModuleType, design: Any, classes: Any) -> float:  # noqa: ANN401
    """As `moves`, for more than one support clip: from many episodes, without their chance."""
    generator = np.random.default_rng(8)
    means, noise = [], []
    for _ in range(100):
        clips = made.some_clips(design, generator)
        drawn = made.shared_episodes(design, 1000, generator)
        values = made.answered(design, classes, clips, drawn, generator).accuracies
        means.append(values.mean())
        noise.append(values.var(ddof=1) / 1000)
    return float(np.var(means, ddof=1) - np.mean(noise))


def test_the_planned_clips_and_episodes_give_the_half_width(made: ModuleType) -> None:
    """From a pilot on 40 clips to a run on as many as planned: the interval is as wide as asked."""
    design = made.Design(classes=12, clips=40, query=5)
    generator = np.random.default_rng(3)
    classes, clips = made.some_classes(design, generator), made.some_clips(design, generator)
    pilot = made.answered(
        design, classes, clips, made.shared_episodes(design, 500, generator), generator
    )
    spread = estimate_clip_variance(pilot, [40] * 12)
    assert spread is not None
    target = 0.012
    needed = clips_for_half_width(spread, target)
    deviation = float(pilot.accuracies.std(ddof=1))
    episodes = plan.episodes_for_half_width(deviation, target * sqrt(1 - CLIP_SHARE))
    larger = replace(design, clips=needed)
    there, widths = 0, []
    for _ in range(40):
        clips = made.some_clips(larger, generator)
        drawn = made.shared_episodes(larger, episodes, generator)
        outcomes = made.answered(larger, classes, clips, drawn, generator)
        interval = JackknifeEstimate.from_outcomes(outcomes, "clips").interval()
        assert interval.half_width is not None
        widths.append(interval.half_width)
        there += abs(outcomes.mean - made.truth_of_clips(larger, classes)) <= target
    assert np.mean(widths) == pytest.approx(target, rel=0.15)
    assert there >= 34


def test_short_pilots_do_not_tell(made: ModuleType) -> None:
    design = made.Design(classes=10, clips=60, query=5)
    generator = np.random.default_rng(4)
    classes, clips = made.some_classes(design, generator), made.some_clips(design, generator)
    drawn = made.shared_episodes(design, 12, generator)
    outcomes = made.answered(design, classes, clips, drawn, generator)
    assert estimate_clip_variance(outcomes, [60] * 10) is None
    assert estimate_clip_variance(outcomes, [60] * 10, baseline=outcomes) is None


def test_figures_of_a_spread() -> None:
    spread = ClipVariance(0.04)
    assert half_width_over_clips(spread, 100) == pytest.approx(1.959964 * 0.02)
    assert detectable_over_clips(spread, 100) == pytest.approx((1.959964 + 0.841621) * 0.02)
    needed = clips_for_half_width(spread, 0.01)
    assert needed == 2049
    # three quarters of the variance are the clips'
    assert half_width_over_clips(spread, needed) == pytest.approx(0.01 * sqrt(0.75), rel=1e-3)
    more = clips_for_difference(spread, 0.02, power=0.9, level=0.99)
    assert detectable_over_clips(spread, more, power=0.9, level=0.99) == pytest.approx(
        0.02 * sqrt(0.75), rel=1e-3
    )
    assert clips_for_half_width(ClipVariance(0.0), 0.01) == 1
    with pytest.raises(UsageError, match="the aim is 0"):
        clips_for_half_width(spread, 0)
