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
        limit: largest number of items at once that the memory allowed; None: it was never short.
    """

    limit: int | None = None

    def run(self, count: int, compute: Callable[[slice], R]) -> list[R]:
        """Computes `count` items in as few parts as the memory allows.

        Args:
            count: number of items.
            compute: computes the items of a slice; it is called again with a smaller one after
                `torch.OutOfMemoryError`, so it must leave nothing half done.

        Returns:
            The result of each part, in order.

        Raises:
            torch.OutOfMemoryError: when a single item is too large.
        """
        results: list[R] = []
        start = 0
        while start < count:
            stop = min(count, start + (self.limit or count))
            try:
                results.append(compute(slice(start, stop)))
                start = stop
                continue
            except torch.OutOfMemoryError:
                if stop - start == 1:
                    raise
            # not inside of `except`: the error holds the frames of its traceback, and they tensors
            release_device_memory()
            self.limit = (stop - start) // 2
        return results


def release_device_memory() -> None:
    """Gives memory that PyTorch reserves and nobody uses back to the device."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
