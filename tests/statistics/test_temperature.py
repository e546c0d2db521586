"""The temperature calibrates held-out probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.temperature import fit_temperature, softmax


def test_it_finds_the_temperature_that_labels_were_drawn_with() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(4000, 4)) * 6
    probabilities = softmax(logits, 3.0)
    labels = (probabilities.cumsum(1) > generator.random((4000, 1))).argmax(1)
    assert fit_temperature(logits, labels) == pytest.approx(3.0, rel=0.08)


def test_clips_that_are_all_right_do_not_make_it_certain() -> None:
    logits = np.eye(3)[[0, 1, 2, 0]] * 5
    temperature = fit_temperature(logits, [0, 1, 2, 0])
    # the target of four right clips is 5 / 6
    assert softmax(logits, temperature).max(1) == pytest.approx(5 / 6, abs=0.01)


def test_a_large_number_does_not_overflow() -> None:
    assert softmax([[1e4, 0.0]]).tolist() == [[1.0, 0.0]]


def test_one_class_cannot_be_calibrated() -> None:
    with pytest.raises(UsageError, match="two or more"):
        fit_temperature(np.zeros((3, 1)), [0, 0, 0])
