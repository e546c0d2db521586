"""The choice among methods: the simplest of the best, and what luck adds to its accuracy."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.method_choice import (
    accuracy_of_choice,
    cannot_be_best,
    choose_method,
)


def test_the_simplest_within_one_error_of_the_best_is_chosen() -> None:
    simple, better, best = np.zeros(40), np.zeros(40), np.zeros(40)
    simple[:20], better[5:], best[:36] = 1, 1, 1
    assert choose_method(np.stack([simple, better, best], 1)) == 1
    assert choose_method(np.stack([best, better, simple], 1)) == 0
    assert choose_method(np.stack([simple, best], 1)) == 1


def test_clips_of_one_group_count_once() -> None:
    # all clips in which the second is better are of one person
    first, second = np.ones(40), np.ones(40)
    first[:8] = 0
    answers = np.stack([first, second], 1)
    assert choose_method(answers) == 1
    assert choose_method(answers, [i // 8 for i in range(40)]) == 0
    assert choose_method(answers, ["one"] * 40) == 1  # no second group: clips are the units


def test_the_best_of_equal_methods_is_not_promised_its_luck() -> None:
    rng = np.random.default_rng(0)
    raw, expected = [], []
    for _ in range(20):
        correct = rng.random((30, 8)) < 0.6
        raw.append(correct.mean(0)[choose_method(correct)])
        expected.append(accuracy_of_choice(correct))
    assert np.mean(raw) > 0.64
    assert np.mean(expected) == pytest.approx(0.6, abs=0.03)


def test_a_method_that_is_always_best_loses_nothing() -> None:
    correct = np.zeros((40, 3))
    correct[::2, 0] = correct[:38, 2] = 1
    assert choose_method(correct) == 2
    assert accuracy_of_choice(correct) == pytest.approx(38 / 40, abs=0.005)
    assert accuracy_of_choice(correct[:, 2:]) == 38 / 40
    assert accuracy_of_choice(correct, seed=1) == accuracy_of_choice(correct, seed=1)


def test_wrong_use_is_refused() -> None:
    for answers in (np.zeros((0, 2)), np.zeros((3, 0)), np.zeros(3)):
        with pytest.raises(UsageError, match="clips, methods"):
            choose_method(answers)


def _run_race(
    correct: NDArray[np.float64], folds: NDArray[np.int64], simple: int, groups: list[int]
) -> tuple[int, NDArray[np.float64]]:
    """A race as `fit` runs it: stops methods, and finishes those that may be chosen after all."""
    seen = correct.copy()
    right_of_simpler = int(correct[:, :simple].sum(0).max())
    for method in range(simple, correct.shape[1]):
        for fold in range(int(folds.max())):
            right = int(correct[folds <= fold, method].sum())
            if cannot_be_best(right, int((folds > fold).sum()), right_of_simpler):
                seen[folds > fold, method] = np.nan
                break
    while True:
        chosen = choose_method(seen, groups)
        stopped = [m for m in range(chosen + 1) if np.isnan(seen[:, m]).any()]
        if not stopped:
            return chosen, seen
        seen[:, stopped] = correct[:, stopped]


@pytest.mark.parametrize("n_groups", [40, 8])
def test_a_race_chooses_as_without_it(n_groups: int) -> None:
    rng = np.random.default_rng(0)
    folds, groups = np.arange(40) % 5, [i % n_groups for i in range(40)]
    stopped = tuned = 0
    for _ in range(300):
        hard = rng.random((40, 1))
        levels = rng.uniform(0.5, 1.1, 5)
        correct = (hard + rng.normal(0, 0.3, (40, 5)) < levels).astype(np.float64)
        chosen, seen = _run_race(correct, folds, 2, groups)
        assert chosen == choose_method(correct, groups)
        stopped += int(np.isnan(seen).any())
        tuned += chosen >= 2
    assert stopped > 60, "methods are stopped"
    assert tuned > 60, "fine-tuned methods are chosen"


def test_a_race_changes_the_promise_little() -> None:
    rng = np.random.default_rng(1)
    folds, groups = np.arange(60) % 5, list(range(60))
    differences = []
    for _ in range(12):
        hard = rng.random((60, 1))
        levels = np.array([0.8, 0.9, 0.8, 0.7])
        correct = (hard + rng.normal(0, 0.2, (60, 4)) < levels).astype(np.float64)
        _, seen = _run_race(correct, folds, 2, groups)
        if np.isnan(seen).any():
            differences.append(accuracy_of_choice(seen) - accuracy_of_choice(correct))
    assert len(differences) > 6
    assert abs(np.mean(differences)) < 0.005
    assert np.abs(differences).max() < 0.02
