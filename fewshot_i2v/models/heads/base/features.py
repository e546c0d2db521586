"""Small maths that several heads share: clip vectors, class means, and work in pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from fewshot_i2v.models.adapters.base.features import Features

Pooling = Literal["clip", "mean", "ordered"]
# a clip whose frames differ by less than this share of their size differs by rounding only
_STILL = 1e-5
# values of one intermediate result, so that memory stays bounded whatever the number of queries
_PIECE_WORK = 1 << 24


def clip_vectors(features: Features, pooling: Pooling, *, center: bool = False) -> Tensor:
    """One vector per clip.

    Args:
        features: frames (E, clips, T, D), clip (E, clips, D), as `Head.view` gives them.
        pooling: "clip" (as the adapter pools), "mean" (mean over frames) or "ordered" (frames
            concatenated in order).
        center: subtract each clip's own mean over frames first (with "ordered" only). A clip whose
            frames are all alike, up to rounding, becomes exactly zero.

    Returns:
        (E, clips, D), or (E, clips, T * D) for "ordered"; float32.
    """
    if pooling == "clip":
        return features.clip
    each = features.frames
    if pooling == "mean":
        return each.mean(-2)
    if center:
        moved = each - each.mean(-2, keepdim=True)
        sizes = (moved.detach().square().sum((-2, -1)), each.detach().square().sum((-2, -1)))
        still = sizes[0] <= _STILL**2 * sizes[1]
        each = moved.masked_fill(still[..., None, None], 0.0)
    return each.flatten(-2)


def unit(x: Tensor) -> Tensor:
    """Vectors scaled to length one; a zero vector stays zero and sends back a zero gradient.

    Args:
        x: (..., D).

    Returns:
        The same shape.
    """
    squares = x.square().sum(-1, keepdim=True)
    empty = squares == 0
    # both branches of the selection must be finite, or the gradient at zero would be NaN
    return (x * squares.masked_fill(empty, 1.0).rsqrt()).masked_fill(empty, 0.0)


def one_hot(labels: Tensor, way: int) -> Tensor:
    """Class membership as float32, without the device synchronisation of `F.one_hot`.

    Args:
        labels: (E, S) int64.
        way: number of classes.

    Returns:
        (E, S, way), one where the clip is of the class.
    """
    return (labels.unsqueeze(-1) == torch.arange(way, device=labels.device)).float()


def class_means(x: Tensor, members: Tensor) -> Tensor:
    """Mean over the clips of each class.

    Args:
        x: of each support clip, (E, S, ...).
        members: as `one_hot` gives them, (E, S, way); classes may differ in number of clips.

    Returns:
        (E, way, ...); zeros for a class without clips.
    """
    totals = members.mT @ x.flatten(2)
    means = totals / members.sum(-2).clamp_min(1).unsqueeze(-1)
    return means.reshape(*means.shape[:2], *x.shape[2:])


def means_of_others(x: Tensor, members: Tensor) -> Tensor:
    """Mean over the other clips of each clip's own class.

    Args:
        x: of each support clip, (E, S, ...).
        members: as `one_hot` gives them, (E, S, way); classes may differ in number of clips.

    Returns:
        (E, S, ...); the clip itself where its class has no others.
    """
    flat = x.flatten(2)
    # rows of each clip's own class, picked by a product to stay on the device
    totals, counts = members @ (members.mT @ flat), _class_sizes(members)
    others = (totals - flat) / (counts - 1).clamp_min(1)
    return others.where(counts > 1, flat).reshape(x.shape)


def compared(members: Tensor) -> Tensor:
    """Which pairs of support clips training compares: all but a clip with itself.

    A clip that is alone in its class is compared with itself, since there is nothing else.

    Args:
        members: as `one_hot` gives them, (E, S, way); classes may differ in number of clips.

    Returns:
        (E, S, S) bool.
    """
    itself = torch.eye(members.shape[1], dtype=torch.bool, device=members.device)
    return ~(itself & (_class_sizes(members) > 1))


def _class_sizes(members: Tensor) -> Tensor:
    """Number of clips in each clip's class, itself included, (E, S, 1)."""
    return members @ members.sum(-2).unsqueeze(-1)


def in_pieces(score: Callable[[Tensor], Tensor], query: Tensor, work: int) -> Tensor:
    """Applies a function to a few query clips at a time, so that memory stays bounded.

    Args:
        score: from some of the query clips, (E, q, ...), to their scores, (E, q, way).
        query: (E, Q, ...).
        work: values of the largest intermediate result for one clip of all E episodes.

    Returns:
        (E, Q, way).
    """
    size = max(1, _PIECE_WORK // max(1, work))
    return torch.cat([score(piece) for piece in torch.split(query, size, dim=1)], dim=1)
