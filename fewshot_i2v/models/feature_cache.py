"""Feature cache: the frozen prefix of clips, computed once and held in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fewshot_i2v.models.cache_memory import CacheBytes, CacheMemory
from fewshot_i2v.models.clip_blocks import ClipBlocks, ClipSlot
from fewshot_i2v.models.encoders.transfer import send
from fewshot_i2v.utils.sizes import format_size
from fewshot_i2v.utils.text_table import count_text

_DEVICE_BLOCK_BYTES = 1 << 30
_HOST_BLOCK_BYTES = 1 << 28
_BLOCKS = 8
"""At least that many blocks fit into the memory of the caches."""


class FeatureCache:
    """Frozen prefixes of clips by name.

    They are on the device as long as there is room, then in host memory, and stay where they are.
    Where both are full, the least recently used are evicted, and encoded again when they are read.

    Args:
        encode: returns the tokens of a clip, (T, L, D), all of one shape.
        memory: which this cache shares with others; a single call may need more and gets it.

    Attributes:
        clips_encoded: clips encoded so far, repeats included.
        n_evicted: clips evicted so far.
    """

    def __init__(self, encode: Callable[[str], Tensor], memory: CacheMemory) -> None:
        self._encode, self._memory = encode, memory
        self._slots: dict[str, ClipSlot] = {}
        self._on_device, self._on_host = ClipBlocks(on_host=False), ClipBlocks(on_host=True)
        self._is_device_full = False
        self._like: Tensor | None = None
        self.clips_encoded = self.n_evicted = 0
        memory.join(self)

    def __contains__(self, clip: str) -> bool:
        return clip in self._slots

    @property
    def held(self) -> CacheBytes:
        """Memory that it takes."""
        return CacheBytes(self._on_device.bytes, self._on_host.bytes)

    @property
    def n_on_host(self) -> int:
        """Clips that are in host memory beside the device."""
        return sum(slot.on_host for slot in self._slots.values())

    def gather(self, clips: Sequence[Sequence[str]]) -> Tensor:
        """Returns the tokens of E rows of C clips, (E, C, T, L, D).

        Raises:
            torch.OutOfMemoryError: when neither the device nor the host has room for these clips.
        """
        requested = dict.fromkeys(name for row in clips for name in row)
        if not requested:
            raise ValueError("expected at least one clip")
        for name in requested:
            if name in self._slots:
                self._slots[name] = self._slots.pop(name)
        for name in requested:
            if name not in self._slots:
                self.clips_encoded += 1
                with torch.no_grad():
                    encoded = self._encode(name)
                self._store(name, encoded, requested)
        return self._read([[self._slots[name] for name in row] for row in clips])

    def _read(self, slots: list[list[ClipSlot]]) -> Tensor:
        if len(self._on_device.blocks) == 1 and not self._on_host.blocks:
            block = self._on_device.blocks[0]
            index = torch.tensor([[slot.position for slot in row] for row in slots])
            return block[send(index, block.device)]
        views = {slot: self._view(slot) for row in slots for slot in row}
        stacked = torch.stack([views[slot] for row in slots for slot in row])
        return stacked.view(len(slots), len(slots[0]), *stacked.shape[1:])

    def _view(self, slot: ClipSlot) -> Tensor:
        """Returns a clip on the device."""
        if not slot.on_host or self._like is None:
            return self._on_device.view(slot)
        return self._on_host.view(slot).to(self._like.device, non_blocking=True)

    def add(self, clip_name: str, encoded: Tensor) -> None:
        """Adds tokens of a clip that was encoded elsewhere, (T, L, D); cached ones stay."""
        if clip_name not in self._slots:
            self._store(clip_name, encoded, {clip_name: None})

    def _store(self, clip_name: str, encoded: Tensor, retain: dict[str, None]) -> None:
        if self._like is None:
            self._like = encoded.new_empty(encoded.shape)
        slot = self._find_slot(encoded, retain)
        blocks = self._on_host if slot.on_host else self._on_device
        # copies run in the order of the calls: one out of this memory is over before this one
        blocks.view(slot).copy_(encoded, non_blocking=True)
        self._slots[clip_name] = slot

    def _find_slot(self, like: Tensor, retain: dict[str, None]) -> ClipSlot:
        """Finds a slot on the device, else on the host, else that of the oldest clip."""
        slot = self._device_slot(like) or self._host_slot(like)
        if slot is not None:
            return slot
        oldest = next(iter(self._slots), None)
        if oldest is not None and oldest not in retain:  # those in `retain` are the newest
            self.n_evicted += 1
            return self._slots.pop(oldest)
        size = like.numel() * like.element_size()
        for blocks in (self._on_device, self._on_host):
            if blocks.grow(like, room=size, block_bytes=size):
                return blocks.take() or _no_slot()
        raise torch.OutOfMemoryError(
            f"no memory for {format_size(size)} more, beside {format_size(sum(self.held))} of "
            f"{count_text(len(self._slots), 'clip')} that are read together"
        )

    def _device_slot(self, like: Tensor) -> ClipSlot | None:
        slot, size = self._on_device.take(), like.numel() * like.element_size()
        if slot is not None or self._is_device_full:
            return slot
        room = self._memory.device_room(self, size)
        if room < size:
            return None
        block_bytes = min(_DEVICE_BLOCK_BYTES, self._memory.limits().device // _BLOCKS)
        # after an error of the device it is as large as the device allows
        self._is_device_full = not self._on_device.grow(like, room=room, block_bytes=block_bytes)
        return self._on_device.take()

    def _host_slot(self, like: Tensor) -> ClipSlot | None:
        slot = self._on_host.take()
        if slot is None:
            block_bytes = min(_HOST_BLOCK_BYTES, self._memory.limits().host // _BLOCKS)
            room = self._memory.host_room()
            self._on_host.grow(like, room=room, block_bytes=block_bytes)
            slot = self._on_host.take()
        return slot

    def release_block(self) -> bool:
        """Frees a block on the device, and moves its clips to the host, or evicts them.

        Returns:
            Whether there was one.
        """
        if not self._on_device.blocks:
            return False
        number = len(self._on_device.blocks) - 1
        moved = {n: s for n, s in self._slots.items() if not s.on_host and s.block == number}
        for name, slot in moved.items():
            encoded = self._on_device.view(slot)
            host_slot = self._host_slot(encoded)
            if host_slot is None:
                self.n_evicted += 1
                del self._slots[name]
                continue
            self._on_host.view(host_slot).copy_(encoded, non_blocking=True)
            self._slots[name] = host_slot
        self._on_device.remove_last()
        return True

    def leave_device(self) -> bool:
        """Frees its memory on the device for good; returns whether it had any."""
        had_memory = self._on_device.bytes > 0
        while self.release_block():
            pass
        self._is_device_full = True
        return had_memory

    @property
    def note(self) -> str | None:
        """What a user may want to know about its memory; None: all clips are on the device."""
        if self._like is None or not (self.n_evicted or self._on_host.blocks):
            return None
        size = format_size(self._like.numel() * self._like.element_size())
        n_host = self.n_on_host
        places = f"{count_text(len(self._slots) - n_host, 'clip')} on the device"
        if self._on_host.blocks:
            places += f" and {n_host:,} in host memory"
        if not self.n_evicted:
            return (
                f"what is computed once of a clip takes {size}, and not all fit on the device: "
                f"{places}; reading those takes longer and changes no result"
            )
        return (
            f"what is computed once of a clip takes {size}, and memory has room for {places}; "
            f"{count_text(self.n_evicted, 'time')} a clip was dropped, to be computed again "
            "when it is read, which takes time and changes no result"
        )


def _no_slot() -> ClipSlot:
    raise RuntimeError("a block without a slot")
