"""Feature cache: the frozen prefix of clips, computed once and held on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fewshot_i2v.models.encoders.transfer import send


class FeatureCache:
    """Frozen prefixes of clips by name; the least recently used are evicted first.

    Args:
        encode: returns the tokens of a clip, (T, L, D).
        max_bytes: largest size of the cache; a single call may need more and gets it.
    """

    def __init__(self, encode: Callable[[str], Tensor], *, max_bytes: int) -> None:
        self._encode, self._max_bytes = encode, max_bytes
        self._slots: dict[str, int] = {}
        self._free: list[int] = []
        self._storage: Tensor | None = None
        self.clips_encoded = 0
        """Clips encoded so far, repeats included."""

    def __contains__(self, clip: str) -> bool:
        return clip in self._slots

    def gather(self, clips: Sequence[Sequence[str]]) -> Tensor:
        """Returns the tokens of E rows of C clips, (E, C, T, L, D)."""
        requested = dict.fromkeys(name for row in clips for name in row)
        for name in requested:
            if name in self._slots:
                self._slots[name] = self._slots.pop(name)
        for name in requested:
            if name not in self._slots:
                self.clips_encoded += 1
                with torch.no_grad():
                    encoded = self._encode(name)
                self._store(name, encoded, requested)
        if self._storage is None:
            raise ValueError("expected at least one clip")
        index = torch.tensor([[self._slots[name] for name in row] for row in clips])
        return self._storage[send(index, self._storage.device)]

    def add(self, clip_name: str, encoded: Tensor) -> None:
        """Adds tokens of a clip that was encoded elsewhere, (T, L, D); cached ones stay."""
        if clip_name not in self._slots:
            self._store(clip_name, encoded, {clip_name: None})

    def _store(self, clip_name: str, encoded: Tensor, retain: dict[str, None]) -> None:
        slot = self._allocate_slot(encoded, retain)
        storage = self._storage
        if storage is None:
            raise RuntimeError("a slot was claimed without storage")
        storage[slot] = encoded
        self._slots[clip_name] = slot

    def _allocate_slot(self, like: Tensor, retain: dict[str, None]) -> int:
        """Allocates a slot: a free one, then growth within the size limit, then an evicted one."""
        if not self._free:
            size = like.numel() * like.element_size()
            capacity = 0 if self._storage is None else self._storage.shape[0]
            growable = max(1, self._max_bytes // size) - capacity
            oldest = next(iter(self._slots), None)  # those in `retain` are the newest
            is_evictable = oldest is not None and oldest not in retain
            if growable > 0 or not is_evictable:
                try:
                    self._grow_storage(min(growable, max(1, capacity)) if growable > 0 else 1, like)
                except torch.OutOfMemoryError:
                    if not is_evictable:
                        raise
                    self._max_bytes = capacity * size  # it is as large as the device allows
            if not self._free and oldest is not None:
                self._free.append(self._slots.pop(oldest))
        return self._free.pop(0)

    def _grow_storage(self, count: int, like: Tensor) -> None:
        capacity = 0 if self._storage is None else self._storage.shape[0]
        storage = like.new_empty((count, *like.shape))
        self._storage = storage if self._storage is None else torch.cat([self._storage, storage])
        self._free.extend(range(capacity, capacity + count))
