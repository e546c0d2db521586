"""Heads that compare directions predict the same however small or large the features are."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fewshot_i2v.models.adapters.base.features import Features
from tests.contracts._heads import NAMES, build, episode

# what depends on the size of features, and why
DEPENDS = {
    "linear": "a trained map of the features as they are",
    "trx": "position codes of a fixed size are added",
}
CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in NAMES if name not in DEPENDS),
    ("prototype", {"pooling": "ordered", "center": True}),
    ("otam", {"shots": "prototype"}),
    ("bi-mhm", {"shots": "mean", "reduce": "sum"}),
]


def scaled(features: Features, factor: float) -> Features:
    return features.map(lambda x: factor * x)


@pytest.mark.parametrize("shot", [1, 3])
@pytest.mark.parametrize("factor", [1e-6])
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_scores_do_not_depend_on_the_size_of_features(
    name: str, options: dict[str, Any], factor: float, shot: int
) -> None:
    if name == "logistic" and shot > 1:
        pytest.skip("leaving every clip out takes seconds and scales nothing anew")
    support, query, labels, _ = episode(shot)
    head = build(name, options)
    expected = head(query, support, labels)
    got = head(scaled(query, factor), scaled(support, factor), labels)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)
    assert torch.equal(got.argmax(-1), expected.argmax(-1))
    trained = head.compute_support_logits(support, labels)
    again = head.compute_support_logits(scaled(support, factor), labels)
    torch.testing.assert_close(again, trained, rtol=1e-3, atol=1e-3)
