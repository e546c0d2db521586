"""Episodes are drawn evenly: compared with what a good generator gives under the same rules."""

from __future__ import annotations

from functools import cache
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chisquare

from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.data.episodes.sampler import EpisodeSampler
from tests.data.splits.samples import make_split

EPISODES, CLASSES, WAY, CLIPS = 3000, 8, 3, 6
Members = NDArray[np.bool_]


@pytest.fixture(scope="module", params=[0, 1])
def episodes(request: pytest.FixtureRequest) -> list[Episode]:
    """3-way, 1 support and 2 query clips, of 8 classes with 6 clips."""
    split = make_split(CLASSES, CLIPS)
    sampler = EpisodeSampler(split, seed=request.param, way=WAY, shot=1, query=2)
    return [sampler[i] for i in range(EPISODES)]


def _spread(members: Members, size: int) -> float:
    """Chi-square statistic of how often each set of `size` columns occurs together."""
    columns = combinations(range(members.shape[1]), size)
    counts = np.array([members[:, list(c)].all(axis=1).sum() for c in columns])
    return float(((counts - counts.mean()) ** 2 / counts.mean()).sum())


def _random_members(shape: tuple[int, ...], size: int, seed: int) -> Members:
    ranks = np.random.default_rng(seed).random(shape).argsort(axis=1).argsort(axis=1)
    return np.asarray(ranks < size)


@cache
def _random_spreads(shape: tuple[int, ...], chosen: int, size: int) -> list[float]:
    return [_spread(_random_members(shape, chosen, seed), size) for seed in range(200)]


def _assert_ordinary(members: Members, size: int) -> None:
    """Neither less even than any of 200 random draws nor more even than all of them."""
    drawn = _random_spreads(members.shape, int(members[0].sum()), size)
    assert min(drawn) <= _spread(members, size) <= max(drawn)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_classes_and_sets_of_classes_are_equally_frequent(
    episodes: list[Episode], size: int
) -> None:
    members = np.zeros((EPISODES, CLASSES), dtype=bool)
    for i, spec in enumerate(episodes):
        members[i, [int(name[1:]) for name in spec.classes]] = True
    _assert_ordinary(members, size)


@pytest.mark.parametrize("size", [1, 2])
def test_clips_and_pairs_of_clips_are_equally_frequent(episodes: list[Episode], size: int) -> None:
    rows = []
    for spec in episodes:
        if "c0" in spec.classes:
            at = spec.classes.index("c0")
            row = np.zeros(CLIPS, dtype=bool)
            row[[int(n[-7:-4]) for n in (*spec.support[at], *spec.query[at])]] = True
            rows.append(row)
    assert len(rows) == pytest.approx(EPISODES * WAY / CLASSES, rel=0.1)
    _assert_ordinary(np.stack(rows), size)


def test_every_assignment_to_support_and_query_is_equally_frequent(
    episodes: list[Episode],
) -> None:
    counts = np.zeros((CLIPS, CLIPS, CLIPS))
    for spec in episodes:
        for support, query in zip(spec.support, spec.query, strict=True):
            counts[tuple(int(n[-7:-4]) for n in (*support, *query))] += 1
    possible = [i for i in np.ndindex(counts.shape) if len(set(i)) == 3]
    assert counts.sum() == sum(counts[i] for i in possible)
    p = chisquare([counts[i] for i in possible]).pvalue
    assert 0.001 < p < 0.999


def test_label_of_a_class_is_even(episodes: list[Episode]) -> None:
    counts = np.zeros((CLASSES, WAY))
    for spec in episodes:
        for label, name in enumerate(spec.classes):
            counts[int(name[1:]), label] += 1
    assert all(chisquare(row).pvalue > 0.0005 for row in counts)


@pytest.mark.parametrize(("seeds", "step"), [((0, 0), 1), ((0, 1), 0), ((0, 1), 1)])
def test_neighbouring_episodes_and_seeds_are_unrelated(seeds: tuple[int, int], step: int) -> None:
    a, b = (EpisodeSampler(make_split(20), seed=s, way=5, shot=1, query=1) for s in seeds)
    common = [len(set(a[i].classes) & set(b[i + step].classes)) for i in range(2000)]
    # hypergeometric: 5 * 5 / 20, variance 5 * 1/4 * 3/4 * 15/19
    assert abs(np.mean(common) - 1.25) < 4 * np.sqrt(0.74 / 2000)


def test_classes_and_clips_are_unrelated() -> None:
    """The first query clip of a class does not depend on the class's label."""
    sampler = EpisodeSampler(make_split(4, 5), seed=0, way=4, shot=1, query=1)
    counts = np.zeros((4, 5))
    for i in range(3000):
        for label, names in enumerate(sampler[i].query):
            counts[label, int(names[0][-7:-4])] += 1
    assert chisquare(counts.ravel()).pvalue > 0.001
