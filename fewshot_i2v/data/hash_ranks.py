"""64-bit hash ranks that replace a random generator.

A rank is `splitmix64(id XOR key)`. An id is BLAKE2b (8 bytes) of a class, of a class with a
clip's name, or of a group; the key is BLAKE2b of split digest, subset, seed and episode number;
`splitmix64` is the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom
number generators", OOPSLA 2014), a bijection of 64-bit integers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

HashRanks = NDArray[np.uint64]

_SHIFT_1, _SHIFT_2, _SHIFT_3 = np.uint64(30), np.uint64(27), np.uint64(31)
_FACTOR_1, _FACTOR_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def splitmix64(values: HashRanks) -> HashRanks:
    """Apply the finaliser of SplitMix64.

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


def argsort_ranks(ranks: HashRanks, count: int | None = None) -> list[int]:
    """Return positions of the `count` lowest ranks (None: all), sorted; ties by position."""
    order: list[int] = ranks.argsort(kind="stable")[:count].tolist()
    return order


def hash_ids(rows: Sequence[Sequence[str]]) -> HashRanks:
    """Hash each row of texts to a 64-bit id; different rows are different bytes before hashing."""
    return np.array([hash64(json.dumps(list(row))) for row in rows], dtype=np.uint64)


def hash64(text: str) -> np.uint64:
    """Hash a text to 64 bits with BLAKE2b."""
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big"))
