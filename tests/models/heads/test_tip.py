"""Tip-Adapter against loops written from its equation."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.base.head import ClassTexts
from tests.models.heads.tiny_texts import LABELS, SCALE, WAY, clips, cosine, make, texts

ALPHA, BETA = 1.7, 3.5


def expected(
    given: ClassTexts, e: int, c: int, x: Tensor, cache: list[tuple[Tensor, int]]
) -> float:
    """The score of class c for one clip x (J,), from the cached clips and their classes."""
    text = SCALE * cosine(x, given.embeddings[e, c])
    votes = [math.exp(-BETA * (1 - cosine(x, y))) for y, label in cache if label == c]
    return text + ALPHA * sum(votes)


def joint(given: ClassTexts, features: Features) -> Tensor:
    assert given.projection is not None
    return features.clip @ given.projection


def test_scores_are_text_plus_votes_of_the_cache() -> None:
    given, support, query = texts(), clips(6, seed=0), clips(5, seed=1)
    scores = make("tip", given, alpha=ALPHA, beta=BETA)(query, support, LABELS)
    keys, asked = joint(given, support), joint(given, query)
    for e, q, c in itertools.product(range(3), range(5), range(WAY)):
        cache = [(keys[e, i], int(LABELS[e, i])) for i in range(6)]
        assert scores[e, q, c].item() == pytest.approx(
            expected(given, e, c, asked[e, q], cache), rel=1e-4, abs=1e-4
        )


def test_in_training_a_clip_does_not_vote_for_itself() -> None:
    given, support = texts(), clips(6, seed=0)
    scores = make("tip", given, alpha=ALPHA, beta=BETA).compute_support_logits(support, LABELS)
    keys = joint(given, support)
    for e, s, c in itertools.product(range(3), range(6), range(WAY)):
        cache = [(keys[e, i], int(LABELS[e, i])) for i in range(6) if i != s]
        assert scores[e, s, c].item() == pytest.approx(
            expected(given, e, c, keys[e, s], cache), rel=1e-4, abs=1e-4
        )


def test_without_the_cache_it_is_zero_shot() -> None:
    given, support, query = texts(), clips(6, seed=0), clips(5, seed=1)
    tip = make("tip", given, alpha=0.0)(query, support, LABELS)
    assert torch.equal(tip, make("zero-shot", given)(query, support, LABELS))


def test_a_copy_of_a_support_clip_votes_fully_for_its_class() -> None:
    given, support = texts(), clips(6, seed=0)
    with_cache = make("tip", given, alpha=1.0, beta=1000.0)(support, support, LABELS)
    votes = with_cache - make("zero-shot", given)(support, support, LABELS)
    own = votes.gather(-1, LABELS.unsqueeze(-1))
    torch.testing.assert_close(own, torch.ones_like(own), atol=1e-2, rtol=0)
    torch.testing.assert_close(votes.sum(-1, keepdim=True), own, atol=1e-2, rtol=0)


@pytest.mark.parametrize("options", [{"alpha": -1.0}, {"beta": 0.0}, {"beta": float("inf")}])
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        make("tip", None, **options)
