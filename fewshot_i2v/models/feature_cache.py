"""The bank: what never changes about a clip, computed once and kept on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Frames = Callable[[str], NDArray[np.uint8]]


class ClipBank:
    """Prefix tokens of clips, by name, least recently used out first.

    Args:
        frames: gives the frames of a clip, (T, H, W, 3) uint8.
        encode: from frames (n, T, H, W, 3) uint8 to tokens (n, T, L, D).
        budget: most bytes kept; a single call may need more and gets it.
        chunk: clips encoded at once.
    """

    def __init__(
        self, frames: Frames, encode: Callable[[Tensor], Tensor], *, budget: int, chunk: int
    ) -> None:
        self._frames, self._encode, self._budget, self._chunk = frames, encode, budget, chunk
        self._slots: dict[str, int] = {}
        self._free: list[int] = []
        self._tokens: Tensor | None = None
        self.computed = 0
        """Clips encoded so far, repeats included."""

    def tokens(self, clips: Sequence[Sequence[str]]) -> Tensor:
        """Tokens of E rows of C clips, (E, C, T, L, D)."""
        wanted = dict.fromkeys(name for row in clips for name in row)
        for name in wanted:
            if name in self._slots:
                self._slots[name] = self._slots.pop(name)
        missing = [name for name in wanted if name not in self._slots]
        for start in range(0, len(missing), self._chunk):
            self._add(missing[start : start + self._chunk], wanted)
        if self._tokens is None:
            raise ValueError("no clip was asked for")
        index = torch.tensor([[self._slots[name] for name in row] for row in clips])
        return self._tokens[index.to(self._tokens.device)]

    def _add(self, names: Sequence[str], keep: dict[str, None]) -> None:
        stacked = torch.from_numpy(np.stack([self._frames(name) for name in names]))
        with torch.no_grad():
            fresh = self._encode(stacked)
        self.computed += len(names)
        slots = self._claim(len(names), fresh, keep)
        tokens = self._tokens
        if tokens is None:
            raise RuntimeError("slots were claimed without storage")
        tokens[torch.tensor(slots, device=tokens.device)] = fresh
        self._slots.update(zip(names, slots, strict=True))

    def _claim(self, count: int, like: Tensor, keep: dict[str, None]) -> list[int]:
        """Free slots: unused ones, then grown storage within the budget, then the oldest."""
        have = 0 if self._tokens is None else self._tokens.shape[0]
        room = max(1, self._budget // (like[0].numel() * like.element_size())) - have
        if len(self._free) < count and room > 0:
            self._grow(min(room, max(count, have)), like)
        for name in list(self._slots):
            if len(self._free) >= count:
                break
            if name not in keep:
                self._free.append(self._slots.pop(name))
        if len(self._free) < count:
            self._grow(count - len(self._free), like)
        taken, self._free = self._free[:count], self._free[count:]
        return taken

    def _grow(self, count: int, like: Tensor) -> None:
        have = 0 if self._tokens is None else self._tokens.shape[0]
        new = like.new_empty((count, *like.shape[1:]))
        self._tokens = new if self._tokens is None else torch.cat([self._tokens, new])
        self._free.extend(range(have, have + count))
