"""Random numbers that depend on a key alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class Draws:
    """A stream of random numbers that is a pure function of its key.

    Only uniform doubles are taken from numpy: their construction from the bits of the Philox
    counter is the one part of its generators that has never changed between versions.

    Args:
        key: what the stream is for, from general to particular, such as
            ("motions", 1, 0, "moves-up", 3, "look").
    """

    def __init__(self, *key: str | int) -> None:
        text = "\x1f".join(str(part) for part in key)
        digest = hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()
        words = np.frombuffer(digest, dtype="<u8").astype(np.uint64)
        self._source = np.random.Generator(np.random.Philox(key=words))

    def uniform(self, low: float, high: float) -> float:
        """A number from [low, high)."""
        return low + (high - low) * self._source.random()

    def pick(self, options: Sequence[T]) -> T:
        """One of `options`, all equally likely."""
        return options[int(self._source.random() * len(options))]

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self._source.random() < probability

    def grid(self, rows: int, columns: int) -> NDArray[np.float64]:
        """Numbers from [0, 1) in an array (rows, columns)."""
        return self._source.random((rows, columns))
