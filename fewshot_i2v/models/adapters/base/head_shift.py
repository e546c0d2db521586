"""Attention heads that see keys and values of another frame."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

_FRAMES = -4  # axis T of (E, clips, T, L, H, D/H)
_HEADS = -2


def shifted(x: Tensor, offsets: Sequence[int]) -> Tensor:
    """Keys or values as each head sees them from its frame.

    Args:
        x: (E, clips, T, L, H, D/H).
        offsets: H frame offsets; a head whose frame t + offset lies outside the clip keeps
            frame t (it is not clamped to the first or last frame).
            Where no gradients are recorded, x itself is changed: only the heads that move are
            copied then.

    Returns:
        The same shape.
    """
    if not any(offsets):
        return x
    if not torch.is_grad_enabled():
        return _shift_in_place(x, offsets)
    parts, start = [], 0
    for offset, group in itertools.groupby(offsets):
        length = len(list(group))
        parts.append(_from_frame(x.narrow(_HEADS, start, length), offset))
        start += length
    return torch.cat(parts, _HEADS)


def _from_frame(x: Tensor, offset: int) -> Tensor:
    """All heads of `x` moved by one offset."""
    frames, reach = x.shape[_FRAMES], abs(offset)
    if reach == 0 or reach >= frames:
        return x
    inside = frames - reach
    if offset > 0:
        seen, own = x.narrow(_FRAMES, reach, inside), x.narrow(_FRAMES, inside, reach)
        return torch.cat([seen, own], _FRAMES)
    own, seen = x.narrow(_FRAMES, 0, reach), x.narrow(_FRAMES, 0, inside)
    return torch.cat([own, seen], _FRAMES)


def _shift_in_place(x: Tensor, offsets: Sequence[int]) -> Tensor:
    """`shifted` without a copy: frame by frame, each one read before it is written."""
    frames = x.shape[_FRAMES]
    for head, offset in enumerate(offsets):
        ahead = range(frames - offset) if offset > 0 else range(frames - 1, -offset - 1, -1)
        for t in ahead if offset else ():
            x.select(_HEADS, head).select(_FRAMES + 1, t).copy_(
                x.select(_HEADS, head).select(_FRAMES + 1, t + offset)
            )
    return x
