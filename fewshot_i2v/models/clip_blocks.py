"""Blocks of memory for what is cached of clips."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import torch
from torch import Tensor

_SHORTAGE = ("out of memory", "can't allocate memory")


class ClipSlot(NamedTuple):
    """Place of a clip.

    Attributes:
        on_host: whether it is in host memory beside the device.
        block: number of the block.
        position: within the block.
    """

    on_host: bool
    block: int
    position: int


class ClipBlocks:
    """Memory for clips of one shape, on the device or on the host, in blocks.

    A small block on the device is copied into one of twice the size when it is full, so that most
    caches have one, which is the fastest to read. Large ones are never copied: another block comes
    to them.

    Args:
        on_host: whether the memory is that of the host; for a GPU it is pinned, so that copies to
            the device do not wait.
    """

    def __init__(self, *, on_host: bool) -> None:
        self.on_host = on_host
        self.blocks: list[Tensor] = []
        self._free: deque[ClipSlot] = deque()

    @property
    def bytes(self) -> int:
        """Size of all blocks."""
        return sum(block.numel() * block.element_size() for block in self.blocks)

    def take(self) -> ClipSlot | None:
        """Takes a free slot; None when there is none."""
        return self._free.popleft() if self._free else None

    def give_back(self, slot: ClipSlot) -> None:
        """Makes a slot free."""
        self._free.append(slot)

    def view(self, slot: ClipSlot) -> Tensor:
        """Returns the memory of a slot."""
        return self.blocks[slot.block][slot.position]

    def grow(self, like: Tensor, *, room: int, block_bytes: int) -> bool:
        """Adds free slots: as many as before in one block, or another block.

        Args:
            like: a clip.
            room: largest number of bytes to add.
            block_bytes: largest size of a block of more than one clip.

        Returns:
            Whether there was memory for one clip or more.
        """
        size = like.numel() * like.element_size()
        largest = max(1, block_bytes // size)
        count = min(room // size, largest)
        doubles = not self.on_host and len(self.blocks) == 1 and len(self.blocks[0]) < largest
        if doubles:
            count = min(count, len(self.blocks[0]), largest - len(self.blocks[0]))
        elif not self.on_host and not self.blocks:
            count = min(count, 1)
        while count > 0:
            if (doubles and self._enlarge(count, like)) or self._append(count, like):
                return True
            count //= 2
        return False

    def _enlarge(self, count: int, like: Tensor) -> bool:
        """Copies the only block into a larger one; whether there was memory for it."""
        block = self.blocks[0]
        enlarged = self._allocate(len(block) + count, like)
        if enlarged is None:
            return False
        enlarged[: len(block)] = block
        self.blocks[0] = enlarged
        self._add_slots(0, range(len(block), len(enlarged)))
        return True

    def _append(self, count: int, like: Tensor) -> bool:
        """Adds a block; whether there was memory for it."""
        block = self._allocate(count, like)
        if block is None:
            return False
        self.blocks.append(block)
        self._add_slots(len(self.blocks) - 1, range(count))
        return True

    def _add_slots(self, block: int, positions: range) -> None:
        self._free.extend(ClipSlot(self.on_host, block, position) for position in positions)

    def _allocate(self, count: int, like: Tensor) -> Tensor | None:
        """Allocates a block; None where there is no memory for it."""
        try:
            if not self.on_host:
                return like.new_empty((count, *like.shape))
            block = torch.empty((count, *like.shape), dtype=like.dtype, device="cpu")
            return block.pin_memory() if like.device.type == "cuda" else block
        except (
            RuntimeError
        ) as error:  # of the device, or of the host, which has no class of its own
            if not any(text in str(error) for text in _SHORTAGE):
                raise
            return None

    def remove_last(self) -> None:
        """Frees the last block with all its slots; nobody may use them any more."""
        number = len(self.blocks) - 1
        self.blocks.pop()
        self._free = deque(slot for slot in self._free if slot.block != number)
