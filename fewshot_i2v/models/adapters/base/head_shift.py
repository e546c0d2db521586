"""Temporal shift of attention heads: some heads read keys and values of another frame."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

_FRAME_AXIS = -4  # axis T of (E, clips, T, L, H, D/H)
_HEAD_AXIS = -2


def shift_heads(x: Tensor, offsets: Sequence[int]) -> Tensor:
    """Shifts keys or values in time, each head by its own frame offset.

    Args:
        x: (E, clips, T, L, H, D/H). Where no gradients are recorded, x itself is changed: only the
            heads that move are copied then.
        offsets: H frame offsets; a head whose frame t + offset lies outside the clip keeps
            frame t (it is not clamped to the first or last frame).

    Returns:
        The same shape.
    """
    if not any(offsets):
        return x
    if not torch.is_grad_enabled():
        return _shift_in_place(x, offsets)
    chunks, start = [], 0
    for offset, group in itertools.groupby(offsets):
        length = len(list(group))
        chunks.append(_shift_frames(x.narrow(_HEAD_AXIS, start, length), offset))
        start += length
    return torch.cat(chunks, _HEAD_AXIS)


def _shift_frames(x: Tensor, offset: int) -> Tensor:
    """Shifts all heads of `x` by one offset."""
    frames, distance = x.shape[_FRAME_AXIS], abs(offset)
    if distance == 0 or distance >= frames:
        return x
    n_moved = frames - distance
    if offset > 0:
        moved, unmoved = (
            x.narrow(_FRAME_AXIS, distance, n_moved),
            x.narrow(_FRAME_AXIS, n_moved, distance),
        )
        return torch.cat([moved, unmoved], _FRAME_AXIS)
    unmoved, moved = x.narrow(_FRAME_AXIS, 0, distance), x.narrow(_FRAME_AXIS, 0, n_moved)
    return torch.cat([unmoved, moved], _FRAME_AXIS)


def _shift_in_place(x: Tensor, offsets: Sequence[int]) -> Tensor:
    """`shift_heads` without a copy: each frame is read before it is overwritten."""
    frames = x.shape[_FRAME_AXIS]
    for head, offset in enumerate(offsets):
        time_steps = range(frames - offset) if offset > 0 else range(frames - 1, -offset - 1, -1)
        for t in time_steps if offset else ():
            x.select(_HEAD_AXIS, head).select(_FRAME_AXIS + 1, t).copy_(
                x.select(_HEAD_AXIS, head).select(_FRAME_AXIS + 1, t + offset)
            )
    return x
