"""Feature cache: the frozen prefix of clips, computed once and held on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewshot_i2v.models.encoders.transfer import send

FrameLoader = Callable[[str], NDArray[np.uint8]]


class FeatureCache:
    """Frozen prefixes of clips by name; the least recently used are evicted first.

    Args:
        load_frames: returns the frames of a clip, (T, H, W, 3) uint8.
        encode: from frames (n, T, H, W, 3) uint8 to tokens (n, T, L, D).
        max_bytes: largest size of the cache; a single call may need more and gets it.
        chunk_size: clips encoded at once.
    """

    def __init__(
        self,
        load_frames: FrameLoader,
        encode: Callable[[Tensor], Tensor],
        *,
        max_bytes: int,
        chunk_size: int,
    ) -> None:
        self._load_frames, self._encode = load_frames, encode
        self._max_bytes, self._chunk_size = max_bytes, chunk_size
        self._slots: dict[str, int] = {}
        self._free: list[int] = []
        self._storage: Tensor | None = None
        self.clips_encoded = 0
        """Clips encoded so far, repeats included."""

    def gather(self, clips: Sequence[Sequence[str]]) -> Tensor:
        """Returns the tokens of E rows of C clips, (E, C, T, L, D)."""
        requested = dict.fromkeys(name for row in clips for name in row)
        for name in requested:
            if name in self._slots:
                self._slots[name] = self._slots.pop(name)
        missing = [name for name in requested if name not in self._slots]
        for start in range(0, len(missing), self._chunk_size):
            self._encode_clips(missing[start : start + self._chunk_size], requested)
        if self._storage is None:
            raise ValueError("no clip was asked for")
        index = torch.tensor([[self._slots[name] for name in row] for row in clips])
        return self._storage[send(index, self._storage.device)]

    def _encode_clips(self, clip_names: Sequence[str], retain: dict[str, None]) -> None:
        stacked = torch.from_numpy(np.stack([self._load_frames(name) for name in clip_names]))
        with torch.no_grad():
            encoded = self._encode(stacked)
        self.clips_encoded += len(clip_names)
        self._store(clip_names, encoded, retain)

    def add(self, clip_names: Sequence[str], encoded: Tensor) -> None:
        """Adds tokens of clips that were encoded elsewhere, (n, T, L, D); cached ones stay."""
        new = [i for i, name in enumerate(clip_names) if name not in self._slots]
        if new:
            self._store([clip_names[i] for i in new], encoded[new], dict.fromkeys(clip_names))

    def _store(self, clip_names: Sequence[str], encoded: Tensor, retain: dict[str, None]) -> None:
        slots = self._allocate_slots(len(clip_names), encoded, retain)
        storage = self._storage
        if storage is None:
            raise RuntimeError("slots were claimed without storage")
        storage[send(torch.tensor(slots), storage.device)] = encoded
        self._slots.update(zip(clip_names, slots, strict=True))

    def _allocate_slots(self, count: int, like: Tensor, retain: dict[str, None]) -> list[int]:
        """Allocates slots: free ones, then growth within the size limit, then evicted ones."""
        capacity = 0 if self._storage is None else self._storage.shape[0]
        growable = max(1, self._max_bytes // (like[0].numel() * like.element_size())) - capacity
        if len(self._free) < count and growable > 0:
            self._grow_storage(min(growable, max(count, capacity)), like)
        for name in list(self._slots):
            if len(self._free) >= count:
                break
            if name not in retain:
                self._free.append(self._slots.pop(name))
        if len(self._free) < count:
            self._grow_storage(count - len(self._free), like)
        slots, self._free = self._free[:count], self._free[count:]
        return slots

    def _grow_storage(self, count: int, like: Tensor) -> None:
        capacity = 0 if self._storage is None else self._storage.shape[0]
        storage = like.new_empty((count, *like.shape[1:]))
        self._storage = storage if self._storage is None else torch.cat([self._storage, storage])
        self._free.extend(range(capacity, capacity + count))
