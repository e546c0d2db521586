"""Work in parts that become smaller where the memory of the device is too small."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

R = TypeVar("R")


@dataclass
class PartSize:
    """Size of the parts of a computation; it is halved each time the device is out of memory.

    Attributes:
        limit: largest number of units at once that the memory allowed; None: it was never short.
        on_halved: called with each new limit; None: no call.
    """

    limit: int | None = None
    on_halved: Callable[[int], object] | None = None

    def run(
        self,
        count: int,
        compute: Callable[[slice], R],
        *,
        units: int = 1,
        at_most: int | None = None,
    ) -> list[R]:
        """Computes `count` items in as few parts as the memory allows.

        Args:
            count: number of items.
            compute: computes the items of a slice; it is called again with a smaller one after
                `torch.OutOfMemoryError`, so it must leave nothing half done.
            units: of each item; the limit counts them, and is the same for items of other calls
                that have more or fewer.
            at_most: largest number of items at once, whatever the memory; None: all.

        Returns:
            The result of each part, in order.

        Raises:
            torch.OutOfMemoryError: when a single item is too large.
        """
        results: list[R] = []
        start = 0
        while start < count:
            size = count if self.limit is None else max(1, self.limit // units)
            stop = min(count, start + size, start + (at_most or count))
            try:
                results.append(compute(slice(start, stop)))
                start = stop
                continue
            except torch.OutOfMemoryError:
                if stop - start == 1:
                    raise
            # not inside of `except`: the error holds the frames of its traceback, and they tensors
            release_device_memory()
            self.limit = (stop - start) // 2 * units
            if self.on_halved is not None:
                self.on_halved(self.limit)
        return results


def free_device_memory(device: torch.device) -> int:
    """Returns the bytes of a GPU that this process may still use.

    That is what the device has free, and what PyTorch reserves there for tensors to come.
    """
    reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + reserved


def release_device_memory() -> None:
    """Gives memory that PyTorch reserves and nobody uses back to the device."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
