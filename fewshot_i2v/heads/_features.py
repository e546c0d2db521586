"""From `Features` to one vector per clip, and small vector maths that several heads share."""

from __future__ import annotations

import contextlib
from typing import Literal

import torch
from torch import Tensor

from fewshot_i2v.adapters._contract import Features
from fewshot_i2v.errors import HeadError

Pooling = Literal["clip", "mean", "ordered"]
# a clip whose frames differ by less than this share of their size differs by rounding only
_STILL = 1e-5


def full_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """A context in which `torch.autocast` is off on this device: class scores stay float32."""
    return torch.autocast(device.type, enabled=False)


def clip_vectors(
    features: Features, pooling: Pooling, *, width: int, frames: int, center: bool = False
) -> Tensor:
    """One vector per clip.

    Args:
        features: frames (E, clips, T, D), clip (E, clips, D).
        pooling: "clip" (as the adapter pools), "mean" (mean over frames) or "ordered" (frames
            concatenated in order).
        width: channels D expected.
        frames: frames T expected.
        center: subtract each clip's own mean over frames first (with "ordered" only). A clip whose
            frames are all alike, up to rounding, becomes exactly zero.

    Returns:
        (E, clips, D), or (E, clips, T * D) for "ordered"; float32.

    Raises:
        HeadError: when the features have other sizes than the head was built for.
    """
    if features.frames.shape[-2:] != (frames, width):
        raise HeadError(
            f"this head was built for clips of {frames} frames with {width} channels; "
            f"got {features!r}"
        )
    if pooling == "clip":
        return features.clip.float()
    each = features.frames.float()
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
