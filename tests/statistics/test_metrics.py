"""Log loss and Brier score against scikit-learn and counting by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as log_loss_score

from fewshot_i2v.errors import UsageError
from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.statistics.metrics import MIN_PROBABILITY, brier_score, log_loss
from fewshot_i2v.statistics.predictions import PredictionTable
from tests.statistics.made_runs import episode, some_records


def brier(records: Sequence[EpisodeRecord]) -> float:
    """Brier score of records, as a report computes it from their probabilities."""
    labels = [row[c] for r in records for c, row in zip(r.labels, r.probabilities, strict=True)]
    everything = [p for r in records for row in r.probabilities for p in row]
    return brier_score(np.array(labels), np.array(everything))


def test_scores_are_those_of_scikit_learn() -> None:
    records = some_records(1, episodes=15, way=3, query=3)
    truth = [c for r in records for c in r.labels]
    rows = np.array([p for r in records for p in r.probabilities])
    rows /= rows.sum(axis=1, keepdims=True)
    found = log_loss(PredictionTable.from_records(records))
    assert found == pytest.approx(log_loss_score(truth, rows, labels=[0, 1, 2]), abs=1e-4)
    expected = brier_score_loss(truth, rows, labels=[0, 1, 2], scale_by_half=False)
    assert brier(records) == pytest.approx(expected, abs=1e-4)


def test_the_brier_score_is_over_all_classes_also_where_their_number_differs() -> None:
    two, four = (
        some_records(seed, episodes=6, classes=6, way=way, query=2)
        for seed, way in enumerate((2, 4))
    )
    records = [*two, *(replace(r, index=r.index + 6) for r in four)]
    by_hand = [
        sum((p - (c == label)) ** 2 for c, p in enumerate(row))
        for r in records
        for label, row in zip(r.labels, r.probabilities, strict=True)
    ]
    assert brier(records) == pytest.approx(np.mean(by_hand))


def test_guessing_gives_what_the_docstrings_say() -> None:
    clips = [[f"{name}/{i}" for i in range(3)] for name in "abcde"]
    records = [episode(0, list("abcde"), clips, 1, [0] * 10)]
    assert brier(records) == pytest.approx(1 - 1 / 5)
    assert log_loss(PredictionTable.from_records(records)) == pytest.approx(np.log(5))


def test_a_probability_recorded_as_zero_counts_as_the_largest_that_is() -> None:
    clips = [["a/0", "a/1"], ["b/0", "b/1"]]
    records = [episode(0, ["a", "b"], clips, 1, [0, 0], [[1.0, 4e-7], [0.9999996, 4e-7]])]
    assert records[0].probabilities[1][1] == 0
    assert log_loss(PredictionTable.from_records(records)) == pytest.approx(
        -np.log(MIN_PROBABILITY) / 2
    )


def test_without_an_episode_there_is_no_score() -> None:
    empty = PredictionTable.from_records([])
    with pytest.raises(UsageError, match="no episode succeeded"):
        log_loss(empty)
    with pytest.raises(UsageError, match="no episode succeeded"):
        brier([])
