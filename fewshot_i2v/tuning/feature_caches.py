"""Feature caches of a run by key: their shared memory, and what is said about it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from fewshot_i2v.errors import DeviceMemoryError
from fewshot_i2v.models.cache_memory import CacheMemory, cache_limits
from fewshot_i2v.models.device_memory import release_device_memory
from fewshot_i2v.models.feature_cache import FeatureCache

_Result = TypeVar("_Result")


@dataclass
class FeatureCaches:
    """Feature caches of one encoder, which share memory.

    Attributes:
        device: of the encoder.
        memory: of all of them; also of those of other runs on the same device that were given it.
        by_key: the caches.
    """

    device: torch.device
    memory: CacheMemory
    by_key: dict[Hashable, FeatureCache] = field(default_factory=dict)
    _notes: dict[Hashable, str] = field(default_factory=dict)

    @classmethod
    def on(cls, device: torch.device) -> FeatureCaches:
        """Makes caches in the memory that a device and the host have."""
        return cls(device, CacheMemory(lambda held: cache_limits(device, held)))

    def beside(self) -> FeatureCaches:
        """Makes other caches that share the memory of these."""
        return FeatureCaches(self.device, self.memory)

    def get_or_create(self, key: Hashable, encode: Callable[[str], Tensor]) -> FeatureCache:
        """Returns the cache under a key; a new one encodes with `encode`."""
        if key not in self.by_key:
            self.by_key[key] = FeatureCache(encode, self.memory)
        return self.by_key[key]

    def has(self, key: Hashable, clip: str) -> bool:
        """Whether the cache under a key has a clip."""
        return key in self.by_key and clip in self.by_key[key]

    def release(self, *, retain: Iterable[Hashable]) -> None:
        """Frees the caches under all keys but those in `retain`."""
        retained_keys = set(retain)
        for key in [key for key in self.by_key if key not in retained_keys]:
            note = self.by_key.pop(key).note
            if note is not None:
                self._notes[key] = note

    def note(self, key: Hashable) -> str | None:
        """Says where the clips of a cache are or were, if not all on the device; else None."""
        cache = self.by_key.get(key)
        return (cache and cache.note) or self._notes.get(key)

    def notes(self) -> list[str]:
        """Returns the notes of all caches, equal ones once."""
        notes = map(self.note, [*self._notes, *self.by_key])
        return list(dict.fromkeys(note for note in notes if note is not None))

    def compute_or_make_room(self, compute: Callable[[], _Result], problem: str) -> _Result:
        """Computes what has no smaller parts; where memory ends, again with caches on the host.

        Args:
            compute: what to do; it must leave nothing half done.
            problem: what to say when it does not fit then either.

        Raises:
            DeviceMemoryError: when it does not fit into the memory of the device.
        """
        reason = ""
        for _ in range(2):
            try:
                return compute()
            except torch.OutOfMemoryError as error:
                reason = str(error).splitlines()[0]
            # not inside of `except`: the error holds the frames of its traceback, and they tensors
            release_device_memory()
            if not self._move_to_host():
                break
        raise DeviceMemoryError(f"{problem} ({reason})")

    def _move_to_host(self) -> bool:
        """Moves all clips from a GPU to host memory; whether there was anything to move."""
        if self.device.type == "cpu":
            return False
        had_memory = [cache.leave_device() for cache in self.by_key.values()]
        return any(had_memory)
