"""Functions that several heads share: clip vectors, class means, and scoring in chunks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.base.readouts import differs_by_rounding

Pooling = Literal["clip", "mean", "ordered"]
# values of one intermediate result, so that memory stays bounded whatever the number of queries
_CHUNK_ELEMENT_BUDGET = 1 << 24


def clip_vectors(features: Features, pooling: Pooling, *, center: bool = False) -> Tensor:
    """Computes one vector per clip.

    Args:
        features: frames (E, clips, T, D), clip (E, clips, D), from `Head.select_tokens`.
        pooling: "clip" (as the adapter pools), "mean" (mean over frames) or "ordered" (frames
            concatenated in order).
        center: subtract each clip's mean over frames first (with "ordered" only). A clip whose
            frames are all equal, up to rounding, becomes exactly zero.

    Returns:
        (E, clips, D), or (E, clips, T * D) for "ordered"; float32.
    """
    if pooling == "clip":
        return features.clip
    frames = features.frames
    if pooling == "mean":
        return frames.mean(-2)
    if center:
        centered = frames - frames.mean(-2, keepdim=True)
        is_static = differs_by_rounding(centered.flatten(-2), frames.flatten(-2))
        frames = centered.masked_fill(is_static[..., None, None], 0.0)
    return frames.flatten(-2)


def l2_normalize(x: Tensor) -> Tensor:
    """Scales vectors to length one; a zero vector stays zero and gets a zero gradient.

    Args:
        x: (..., D).

    Returns:
        The same shape.
    """
    # no epsilon: short vectors keep their direction, and the result does not depend on the scale
    squares = x.square().sum(-1, keepdim=True)
    is_zero = squares == 0
    # both branches of the selection must be finite, or the gradient at zero would be NaN
    return (x * squares.masked_fill(is_zero, 1.0).rsqrt()).masked_fill(is_zero, 0.0)


def one_hot(labels: Tensor, way: int) -> Tensor:
    """Encodes class membership as float32, without the device synchronisation of `F.one_hot`.

    Args:
        labels: (E, S) int64.
        way: number of classes.

    Returns:
        (E, S, way), one where the clip is of the class.
    """
    return (labels.unsqueeze(-1) == torch.arange(way, device=labels.device)).float()


def class_means(x: Tensor, members: Tensor) -> Tensor:
    """Computes the mean over the clips of each class.

    Args:
        x: of each support clip, (E, S, ...).
        members: output of `one_hot`, (E, S, way); classes may differ in number of clips.

    Returns:
        (E, way, ...); zeros for a class without clips.
    """
    # an absent class has a sum of zero, which `clamp_min` keeps from becoming 0 / 0
    totals = members.mT @ x.flatten(2)
    means = totals / members.sum(-2).clamp_min(1).unsqueeze(-1)
    return means.reshape(*means.shape[:2], *x.shape[2:])


def leave_one_out_means(x: Tensor, members: Tensor) -> Tensor:
    """Computes for each clip the mean over the remaining clips of its class.

    Args:
        x: of each support clip, (E, S, ...).
        members: output of `one_hot`, (E, S, way); classes may differ in number of clips.

    Returns:
        (E, S, ...); the clip itself where its class has no second clip.
    """
    flat = x.flatten(2)
    # rows of each clip's own class, picked by a product to stay on the device; of few clips, so
    # that taking one away from the sum loses no digits that count
    totals, counts = members @ (members.mT @ flat), _class_sizes(members)
    # `clamp_min` for the only clip of a class: a NaN would reach its gradient through `where`
    remaining_means = (totals - flat) / (counts - 1).clamp_min(1)
    return remaining_means.where(counts > 1, flat).reshape(x.shape)


def comparable_pairs(members: Tensor) -> Tensor:
    """Pairs of support clips that training compares: all but a clip with itself.

    The only clip of a class is compared with itself, since there is no alternative.

    Args:
        members: output of `one_hot`, (E, S, way); classes may differ in number of clips.

    Returns:
        (E, S, S) bool.
    """
    is_same_clip = torch.eye(members.shape[1], dtype=torch.bool, device=members.device)
    return ~(is_same_clip & (_class_sizes(members) > 1))


def _class_sizes(members: Tensor) -> Tensor:
    """Number of clips in each clip's class, itself included, (E, S, 1)."""
    return members @ members.sum(-2).unsqueeze(-1)


def score_in_chunks(
    score: Callable[[Tensor], Tensor], query: Tensor, elements_per_query: int
) -> Tensor:
    """Applies a scoring function to a few query clips at a time, so that memory stays bounded.

    Args:
        score: from q query clips, (E, q, ...), to their logits, (E, q, way).
        query: (E, Q, ...).
        elements_per_query: values of the largest intermediate result for one clip of all E
            episodes.

    Returns:
        (E, Q, way).
    """
    if torch.compiler.is_exporting():  # the number of clips is not known, and decides the chunks
        return score(query)
    chunk_size = max(1, _CHUNK_ELEMENT_BUDGET // max(1, elements_per_query))
    return torch.cat([score(chunk) for chunk in torch.split(query, chunk_size, dim=1)], dim=1)
