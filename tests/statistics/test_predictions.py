"""Records as arrays, against the records themselves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.predictions import PredictionTable
from tests.runs.record_samples import failed, record
from tests.statistics.made_runs import some_records


@given(st.integers(0, 50), st.integers(1, 6), st.integers(1, 3), st.integers(2, 4))
def test_the_arrays_say_what_the_records_say(seed: int, episodes: int, shot: int, way: int) -> None:
    records = some_records(seed, episodes=episodes, way=way, shot=shot, query=(1, 3))
    found = PredictionTable.from_records(records)
    asked = zip(
        *(getattr(found, name).tolist() for name in ("episode", "label", "predicted", "query")),
        found.correct.tolist(),
        found.probability.tolist(),
        found.confidence.tolist(),
        strict=True,
    )
    told = [
        (t, r.classes[label], r.classes[guess], clip, label == guess, row[label], row[guess])
        for t, r in enumerate(records)
        for label, guess, clip, row in zip(
            r.labels,
            r.predictions,
            [name for names in r.query for name in names],
            r.probabilities,
            strict=True,
        )
    ]
    read = [
        (t, found.classes[label], found.classes[guess], found.clips[clip], *rest)
        for t, label, guess, clip, *rest in asked
    ]
    assert read == told
    support = zip(found.support_episode, found.support_clip, found.support_class, strict=True)
    assert [(t, found.clips[i], found.classes[c]) for t, i, c in support] == [
        (t, clip, name)
        for t, r in enumerate(records)
        for name, clips in zip(r.classes, r.support, strict=True)
        for clip in clips
    ]
    members = zip(found.member_episode, found.member_class, strict=True)
    assert [(t, found.classes[c]) for t, c in members] == [
        (t, name) for t, r in enumerate(records) for name in r.classes
    ]
    assert found.accuracies == pytest.approx([r.accuracy for r in records])
    assert found.mean == pytest.approx(np.mean([r.accuracy for r in records]))
    assert found.weights @ found.correct == pytest.approx(found.mean)
    assert found.queries.tolist() == [len(r.labels) for r in records]


def test_episodes_are_in_the_order_of_their_numbers_and_failed_ones_are_counted() -> None:
    found = PredictionTable.from_records([record(7), failed(1), record(3), failed(9)])
    assert found.index.tolist() == [3, 7]
    assert found.accuracies.tolist() == [record(3).accuracy, record(7).accuracy]
    assert (len(found), found.failed) == (2, 2)
    assert found.clips == tuple(dict.fromkeys(found.clips))
    assert set(found.classes) == set(record(3).classes)


def test_nothing_but_failures_has_no_mean() -> None:
    found = PredictionTable.from_records([failed(0), failed(1)])
    assert (len(found), len(found.query), found.accuracies.tolist()) == (0, 0, [])
    with pytest.raises(UsageError, match=r"no episode succeeded \(2 failed\)"):
        _ = found.mean


def test_two_records_of_one_episode_are_refused() -> None:
    with pytest.raises(UsageError, match="episode 4: two records"):
        PredictionTable.from_records([record(4), record(2), record(4)])


@pytest.mark.parametrize(
    "changes",
    [
        {"query": [["a"], ["b"]]},
        {"labels": [0, 0, 1]},
        {"predictions": []},
        {"support": [["a"]]},
        {"query": [[], []], "labels": [], "predictions": [], "probabilities": []},
    ],
)
def test_records_that_contradict_themselves_are_refused(changes: dict[str, Any]) -> None:
    odd = SimpleNamespace(**{**record(5).to_dict(), **changes})
    with pytest.raises(UsageError, match=r"episode 5: .* expected as many"):
        PredictionTable.from_records([record(2), odd])
