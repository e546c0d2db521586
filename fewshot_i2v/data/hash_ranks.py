"""64-bit ranks: what takes the place of a random generator.

A rank is `mix(id XOR key)`. An id is BLAKE2b (8 bytes) of a class, of a class with a clip's name,
or of a group; the key is BLAKE2b of split digest, subset, seed and episode number; `mix` is the
finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
OOPSLA 2014), a bijection of 64-bit integers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ranks = NDArray[np.uint64]

_SHIFT_1, _SHIFT_2, _SHIFT_3 = np.uint64(30), np.uint64(27), np.uint64(31)
_FACTOR_1, _FACTOR_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def mix(values: Ranks) -> Ranks:
    """The finaliser of SplitMix64.

    Args:
        values: 64-bit unsigned integers, any shape; overwritten.

    Returns:
        `values`, each mixed.
    """
    values ^= values >> _SHIFT_1
    values *= _FACTOR_1
    values ^= values >> _SHIFT_2
    values *= _FACTOR_2
    values ^= values >> _SHIFT_3
    return values


def lowest(ranks: Ranks, count: int | None = None) -> list[int]:
    """Positions of the `count` lowest ranks (None: all), lowest first; equal ranks by position."""
    order: list[int] = ranks.argsort(kind="stable")[:count].tolist()
    return order


def ids_of(parts: Sequence[Sequence[str]]) -> Ranks:
    """One 64-bit id per row of texts; no two different rows are the same bytes before hashing."""
    return np.array([key_of(json.dumps(list(row))) for row in parts], dtype=np.uint64)


def key_of(text: str) -> np.uint64:
    """BLAKE2b of a text, as 64 bits."""
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big"))
