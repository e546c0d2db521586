"""What leaving out clips, groups and classes changes, against recomputing every mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.statistics import Interval, leave_one_out
from fewshot_i2v.statistics.jackknife import ClusterKind, GroupScope, JackknifeEstimate
from fewshot_i2v.statistics.predictions import PredictionTable
from tests.statistics.made_runs import apart, episode, some_records


def ends(interval: Interval) -> tuple[float, float]:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


def jackknife_variance(changes: leave_one_out.LeaveOneOutChanges) -> float:
    return float(np.sum(changes.factor * changes.change**2))


@dataclass
class Asked:
    """One prediction, as the tests recompute means from it."""

    episode: int
    classes: Sequence[str]
    label: str
    right: bool
    weight: float
    query: str
    support: dict[str, set[str]]

    def has(self, clips: set[str], name: str) -> bool:
        """Whether clips are part of it, as support of a class or as its own query."""
        return bool(self.support[name] & clips) or (self.label == name and self.query in clips)


def asked(records: Sequence[EpisodeRecord]) -> Iterator[Asked]:
    for r in records:
        names = [name for row in r.query for name in row]
        support = {c: set(row) for c, row in zip(r.classes, r.support, strict=True)}
        for name, label, guess in zip(names, r.labels, r.predictions, strict=True):
            weight = 1 / len(names) / len(records)
            yield Asked(r.index, r.classes, r.classes[label], label == guess, weight, name, support)


def mean(parts: Sequence[tuple[float, float]]) -> float:
    return sum(w * x for w, x in parts) / sum(w for w, _ in parts)


def change_without(records: Sequence[EpisodeRecord], clips: set[str]) -> float:
    """What leaving clips out changes, every class asked as often as before."""
    everything = list(asked(records))
    labels = {p.label for p in everything}
    level = {c: mean([(p.weight, p.right) for p in everything if p.label == c]) for c in labels}
    total = 0.0
    for name in {clip.split("/")[0] for clip in clips}:
        for other in (False, True):
            here = [p for p in everything if name in p.classes and (p.label != name) == other]
            left = [p for p in here if not p.has(clips, name)]
            if len(left) < len(here):
                share = sum(p.weight for p in here)
                means = [
                    mean([(p.weight, p.right - level[p.label]) for p in part])
                    for part in (left, here)
                ]
                total += share * (means[0] - means[1])
    return total


@pytest.mark.parametrize(("seed", "shot"), [(3, 1), (4, 2)])
def test_leaving_out_a_clip_is_recomputing_without_it(seed: int, shot: int) -> None:
    records = some_records(seed, episodes=14, shot=shot, query=(1, 2))
    outcomes = PredictionTable.from_records(records)
    found = JackknifeEstimate.from_outcomes(outcomes, "clips").changes
    expected = np.array([change_without(records, {clip}) for clip in outcomes.clips])
    assert found.change == pytest.approx(expected, abs=1e-12)
    assert np.abs(expected).max() > 0.01
    sizes = np.array([sum(c[:2] == clip[:2] for c in outcomes.clips) for clip in outcomes.clips])
    assert jackknife_variance(found) == pytest.approx(np.sum((sizes - 1) / sizes * expected**2))
    assert found.dof == len(outcomes.clips) - len(outcomes.classes)


def test_where_everything_counts_the_same_it_is_leaving_out_and_taking_the_mean() -> None:
    """One class is asked; then leaving a clip out needs no weights."""
    generator = np.random.default_rng(1)
    records = []
    for t in range(30):
        own = [f"a/{i}" for i in generator.permutation(5)[:2]]
        clips = [own, [f"b/{generator.integers(5)}"]]
        records.append(episode(t, ["a", "b"], clips, 1, [int(generator.random() < 0.4)]))
    outcomes = PredictionTable.from_records(records)
    found = JackknifeEstimate.from_outcomes(outcomes, "clips").changes
    full = float(np.mean([r.accuracy or 0.0 for r in records]))
    for clip, change in zip(outcomes.clips, found.change, strict=True):
        left = [
            r.accuracy or 0.0
            for r in records
            if clip not in {*r.query[0], *r.support[0], *r.support[1]}
        ]
        assert change == pytest.approx(float(np.mean(left)) - full, abs=1e-12)


@pytest.mark.parametrize("scope", ["class", "global"])
def test_leaving_out_a_group_drops_each_prediction_once(scope: GroupScope) -> None:
    records = some_records(5, episodes=16, shot=2, query=2, clips=8)
    outcomes = PredictionTable.from_records(records)
    groups = {clip: f"g{int(clip.split('/')[1]) % 4}" for clip in outcomes.clips}
    found = JackknifeEstimate.from_outcomes(outcomes, "groups", groups, scope).changes
    keys = {c: (g, c.split("/")[0] if scope == "class" else "") for c, g in groups.items()}
    expected = [
        change_without(records, {clip for clip, key in keys.items() if key == wanted})
        for wanted in set(keys.values())
    ]
    assert sorted(found.change) == pytest.approx(sorted(expected), abs=1e-12)
    assert len(expected) == (16 if scope == "class" else 4)
    assert len(set(found.stratum.tolist())) == (4 if scope == "class" else 1)


def test_leaving_out_a_class_is_recomputing_without_its_episodes() -> None:
    records = some_records(7, episodes=30, classes=6, query=(1, 3))
    outcomes = PredictionTable.from_records(records)
    found = JackknifeEstimate.from_outcomes(outcomes, "classes").changes
    full = np.mean([r.accuracy or 0.0 for r in records])
    expected = [
        np.mean([r.accuracy or 0.0 for r in records if name not in r.classes]) - full
        for name in outcomes.classes
    ]
    assert found.change == pytest.approx(expected, abs=1e-12)
    assert found.dof == 5


def test_a_class_in_every_episode_cannot_be_left_out() -> None:
    outcomes = PredictionTable.from_records(some_records(8, episodes=20, classes=4, way=4))
    assert JackknifeEstimate.from_outcomes(outcomes, "classes").changes.stuck.tolist() == [
        0,
        1,
        2,
        3,
    ]
    outcomes = PredictionTable.from_records(some_records(8, episodes=20, classes=5, way=4))
    assert not len(JackknifeEstimate.from_outcomes(outcomes, "classes").changes.stuck)


def test_labels_alone_would_show_too_little_of_what_pairs_of_classes_add() -> None:
    """Why they are not left out as labels: with 5 classes it would be 3/8 of the variance."""
    generator, way = np.random.default_rng(0), 5
    confused = np.triu(generator.random((20_000, way, way)), 1)
    right = 1 - (confused + confused.transpose(0, 2, 1)).sum(2)
    of_labels = right.var(1, ddof=1).mean() / way
    assert of_labels / right.mean(1).var() == pytest.approx((way - 2) / (2 * way - 2), rel=0.05)


def test_clips_of_one_episode_each_are_not_shared() -> None:
    assert not JackknifeEstimate.from_outcomes(apart(6, {0: 1}), "clips").changes.clusters_shared
    assert JackknifeEstimate.from_outcomes(apart(6, {0: 1}), "classes").changes.clusters_shared
    records = some_records(3, episodes=20)
    assert JackknifeEstimate.from_outcomes(
        PredictionTable.from_records(records), "clips"
    ).changes.clusters_shared


def test_only_products_of_two_episodes_count() -> None:
    """Squares of what single episodes add are taken out, less what the mean ties together."""
    records = some_records(9, episodes=25, shot=1, query=1, classes=3, clips=5)
    outcomes = PredictionTable.from_records(records)
    found = JackknifeEstimate.from_outcomes(outcomes, "clips").changes
    assert (found.cross <= found.change**2 + 1e-15).all()
    assert found.cross.min() < 0
    assert 0 <= found.variance < jackknife_variance(found)


def test_without_effects_of_clips_nothing_is_left_of_the_variance_on_average() -> None:
    cross, raw = [], []
    for seed in range(150):
        outcomes = PredictionTable.from_records(some_records(seed, episodes=30, shot=2, clips=8))
        found = JackknifeEstimate.from_outcomes(outcomes, "clips").changes
        cross.append(np.sum(found.factor * found.cross))
        raw.append(jackknife_variance(found))
    error = np.std(cross) / np.sqrt(len(cross))
    assert abs(np.mean(cross)) < 3 * error
    assert error < 0.03 * np.mean(raw)


@pytest.mark.parametrize("by", ["clips", "classes"])
def test_episodes_without_support_count_their_queries(by: ClusterKind) -> None:
    """As heads have them that read the names of the classes only."""
    records = some_records(17, episodes=60, shot=0, query=1, clips=10, classes=6)
    outcomes = PredictionTable.from_records(records)
    assert len(outcomes.support_clip) == 0
    found = JackknifeEstimate.from_outcomes(outcomes, by).changes
    if by == "clips":
        expected = [change_without(records, {clip}) for clip in outcomes.clips]
        assert found.change == pytest.approx(expected, abs=1e-12)
    if by == "clips":
        low, high = ends(JackknifeEstimate.from_outcomes(outcomes, by).interval())
        assert low < outcomes.mean < high
    else:
        full = np.mean([r.accuracy or 0.0 for r in records])
        left = [r.accuracy or 0.0 for r in records if outcomes.classes[2] not in r.classes]
        assert found.change[2] == pytest.approx(np.mean(left) - full, abs=1e-12)


@pytest.mark.parametrize("scope", ["class", "global"])
@pytest.mark.parametrize("entries", [1, 40, 200])
def test_few_clusters_at_a_time_give_the_same_to_the_bit(
    entries: int, scope: GroupScope, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long runs are not in memory at once; ranges of clusters may be of one, or of none at all."""
    outcomes = PredictionTable.from_records(some_records(3, episodes=40))
    groups = {clip: str(sum(clip.encode()) % 7) for clip in outcomes.clips}
    at_once = [
        JackknifeEstimate.from_outcomes(outcomes, "clips"),
        JackknifeEstimate.from_outcomes(outcomes, "groups", groups, scope),
    ]
    monkeypatch.setattr(leave_one_out, "_BLOCK", entries)
    apart = [
        JackknifeEstimate.from_outcomes(outcomes, "clips"),
        JackknifeEstimate.from_outcomes(outcomes, "groups", groups, scope),
    ]
    for one, other in zip(at_once, apart, strict=True):
        for name in ("change", "cross", "stratum", "stuck"):
            np.testing.assert_array_equal(getattr(one.changes, name), getattr(other.changes, name))
        assert one.changes.clusters_shared == other.changes.clusters_shared
