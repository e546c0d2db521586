"""Prototypes mixed with text, against loops written from the definition."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from fewshot_i2v.models.heads.base.head import ClassTexts
from tests.models.heads.tiny_texts import LABELS, SCALE, WAY, clips, cosine, make, texts


def mixed(given: ClassTexts, e: int, c: int, vectors: list[Tensor], weight: float) -> Tensor:
    """The prototype of a class from vectors of its clips."""
    mean = nn.functional.normalize(torch.stack(vectors).mean(0), dim=-1)
    return weight * given.embeddings[e, c] + (1 - weight) * mean


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_scores_are_those_of_mixed_prototypes(weight: float) -> None:
    given, support, query = texts(), clips(6, seed=0), clips(5, seed=1)
    projection = given.projection
    assert projection is not None
    scores = make("text-prototype", given, weight=weight, temperature=3.0)(query, support, LABELS)
    for e, q, c in itertools.product(range(3), range(5), range(WAY)):
        members = [support.clip[e, i] @ projection for i in range(6) if LABELS[e, i] == c]
        prototype = mixed(given, e, c, members, weight)
        expected = 3.0 * cosine(query.clip[e, q] @ projection, prototype)
        assert scores[e, q, c].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_in_training_a_clip_is_not_part_of_its_own_prototype(weight: float) -> None:
    given, support = texts(), clips(6, seed=0)
    projection = given.projection
    assert projection is not None
    head = make("text-prototype", given, weight=weight)
    scores = head.compute_support_logits(support, LABELS)
    for e, s, c in itertools.product(range(3), range(6), range(WAY)):
        members = [i for i in range(6) if LABELS[e, i] == c and i != s] or [s]
        vectors = [support.clip[e, i] @ projection for i in members]
        expected = SCALE * cosine(
            support.clip[e, s] @ projection, mixed(given, e, c, vectors, weight)
        )
        assert scores[e, s, c].item() == pytest.approx(expected, rel=1e-4, abs=1e-3)


def test_without_text_it_is_the_prototype_head_and_with_text_alone_zero_shot() -> None:
    given, support, query = texts(projected=False), clips(6, seed=0), clips(5, seed=1)
    visual = make("text-prototype", given, weight=0, temperature=10.0)
    prototype = make("prototype", temperature=10.0)
    torch.testing.assert_close(
        visual(query, support, LABELS), prototype(query, support, LABELS), atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(
        visual.compute_support_logits(support, LABELS),
        prototype.compute_support_logits(support, LABELS),
        atol=1e-5,
        rtol=1e-5,
    )
    text = make("text-prototype", given, weight=1)
    zero_shot = make("zero-shot", given)
    torch.testing.assert_close(
        text(query, support, LABELS), zero_shot(query, support, LABELS), atol=1e-4, rtol=1e-4
    )


def test_temperature_is_the_trained_scale_unless_given() -> None:
    given, support, query = texts(), clips(6, seed=0), clips(5, seed=1)
    own = make("text-prototype", given)(query, support, LABELS)
    warm = make("text-prototype", replace(given, scale=2 * SCALE))(query, support, LABELS)
    fixed = make("text-prototype", given, temperature=2 * SCALE)(query, support, LABELS)
    torch.testing.assert_close(warm, 2 * own)
    torch.testing.assert_close(fixed, 2 * own)


@pytest.mark.parametrize(
    "options", [{"weight": -0.1}, {"weight": 1.1}, {"temperature": 0.0}, {"weight": float("nan")}]
)
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        make("text-prototype", None, **options)
