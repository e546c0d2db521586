"""Memory of the feature caches of a run: how much there is, and how the caches share it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch

from fewshot_i2v.models.device_memory import free_device_memory
from fewshot_i2v.utils.host_memory import available_host_memory

_DEVICE_SHARE = 0.6
"""Of the free memory of a GPU; the rest is for fine-tuning and prediction."""
_HOST_SHARE = 0.5
"""Of the available memory of the host: N processes that all take it leave 1 / (N + 1) of it."""
_MIN_CPU_BYTES = 2 << 30


class CacheBytes(NamedTuple):
    """Bytes of feature caches.

    Attributes:
        device: on the device of the encoder, which may be the CPU.
        host: beside them in host memory.
    """

    device: int
    host: int


def cache_limits(device: torch.device, held: CacheBytes) -> CacheBytes:
    """Returns the largest size of all feature caches of a run, by the memory that is free now.

    Args:
        device: of the encoder. On the CPU there is no second place: its memory is that of the host.
        held: what the caches take now.
    """
    host = available_host_memory()
    if device.type == "cuda":
        device_bytes = int(_DEVICE_SHARE * (free_device_memory(device) + held.device))
        return CacheBytes(device_bytes, int(_HOST_SHARE * ((host or 0) + held.host)))
    return CacheBytes(max(_MIN_CPU_BYTES, int(_HOST_SHARE * ((host or 0) + held.device))), 0)


class SharingCache(Protocol):
    """A cache that shares memory with others."""

    @property
    def held(self) -> CacheBytes:
        """What it takes."""

    def release_block(self) -> bool:
        """Frees a block of memory on the device; whether there was one."""


class CacheMemory:
    """Memory that several caches share.

    What one does not need is for the others. Where all together need more than there is, each may
    have an equal part: a cache that has more gives the rest back when another needs its own.

    Args:
        limits: returns the largest size of all caches from what they take now.
    """

    def __init__(self, limits: Callable[[CacheBytes], CacheBytes]) -> None:
        self._limits = limits
        self._caches: weakref.WeakSet[SharingCache] = weakref.WeakSet()

    @classmethod
    def of_size(cls, device: int, host: int = 0) -> CacheMemory:
        """Makes a memory of a fixed size, in bytes."""
        return cls(lambda _: CacheBytes(device, host))

    def join(self, cache: SharingCache) -> None:
        """Adds a cache, until nobody refers to it any more."""
        self._caches.add(cache)

    @property
    def held(self) -> CacheBytes:
        """What all caches take."""
        held = [cache.held for cache in self._caches]
        return CacheBytes(sum(h.device for h in held), sum(h.host for h in held))

    def limits(self) -> CacheBytes:
        """Returns the largest size of all caches."""
        return self._limits(self.held)

    def device_room(self, cache: SharingCache, wanted: int) -> int:
        """Returns the bytes that a cache may add on the device.

        Args:
            cache: one of the caches.
            wanted: bytes of a clip; others make room for it where the cache has less than its part.
        """
        limit = self.limits().device
        part = limit // len(self._caches)
        others = [other for other in self._caches if other is not cache]
        if cache.held.device + wanted <= part:
            for other in sorted(others, key=lambda other: other.held.device, reverse=True):
                while limit - self.held.device < wanted and other.held.device > part:
                    other.release_block()
        return max(0, limit - self.held.device)

    def host_room(self) -> int:
        """Returns the bytes that a cache may add in host memory."""
        return max(0, self.limits().host - self.held.host)
