"""The zero-shot head against its definition."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from fewshot_i2v.models.adapters.base.features import Features
from tests.models.heads.tiny_texts import LABELS, SCALE, WAY, clips, cosine, draw, make, texts


@pytest.mark.parametrize("projected", [True, False])
def test_scores_are_scaled_cosines_to_the_texts(*, projected: bool) -> None:
    given, query = texts(projected=projected), clips(5, seed=1)
    head = make("zero-shot", given)
    scores = head(query, clips(6, seed=0), LABELS)
    training = head.compute_support_logits(query, LABELS[:, :5])
    for e, q, c in itertools.product(range(3), range(5), range(WAY)):
        x = query.clip[e, q]
        joint = x if given.projection is None else x @ given.projection
        expected = SCALE * cosine(joint, given.embeddings[e, c])
        assert scores[e, q, c].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert torch.equal(scores, training)


def test_support_clips_and_labels_have_no_influence() -> None:
    head, query = make("zero-shot"), clips(5, seed=1)
    one = head(query, clips(6, seed=0), LABELS)
    other = head(query, clips(6, seed=2), LABELS.flip(-1))
    assert torch.equal(one, other)


def test_frames_are_averaged_before_the_projection() -> None:
    frames: Tensor = draw(3, 6, 4, 10, seed=3)
    mean = Features(frames, frames.mean(-2))
    shuffled = Features(frames.flip(-2), frames.mean(-2))
    head = make("zero-shot")
    assert torch.equal(head(mean, mean, LABELS), head(shuffled, mean, LABELS))


def test_a_clip_of_zeros_is_equally_far_from_all_texts() -> None:
    support = clips(6, seed=0)
    empty = Features(torch.zeros_like(support.frames), torch.zeros_like(support.clip))
    assert not make("zero-shot")(empty, support, LABELS).any()
