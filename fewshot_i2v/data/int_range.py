"""Numbers of classes and clips in an episode: fixed, a range, or all."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from fewshot_i2v.data.hash_ranks import hash64
from fewshot_i2v.errors import EpisodeError

IntOrRange: TypeAlias = int | str
"""A whole number; a text such as "2-5", from 2 to 5; or, where it is allowed, "all"."""
_RANGE = re.compile(r"(\d{1,9})-(\d{1,9})")


@dataclass(frozen=True)
class IntRange:
    """A range of integers from `low` to `high`, both included."""

    low: int
    high: int

    @property
    def is_single(self) -> bool:
        """Whether the range has only one number."""
        return self.low == self.high

    def value_for(self, key: np.uint64, purpose: str) -> int:
        """Sample a number of the range uniformly, as a function of `key` and `purpose`."""
        if self.is_single:
            return self.low
        return self.low + int(hash64(f"{key}/{purpose}")) % (self.high - self.low + 1)


def require_int(name: str, value: object, minimum: int) -> None:
    """Check that a value is an integer of at least `minimum`.

    Raises:
        EpisodeError: naming the value.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise EpisodeError(f"{name}: got {value!r}; expected a whole number from {minimum}")


def parse_range(name: str, value: IntOrRange, *, all_value: int | None = None) -> IntRange:
    """Parse a number or a range.

    Args:
        name: what it is called, for messages.
        value: a whole number from 1, a text such as "2-5", or "all" if `all_value` is set.
        all_value: what "all" means.

    Raises:
        EpisodeError: when it is something else.
    """
    if value == "all" and all_value is not None:
        return IntRange(all_value, all_value)
    match = _RANGE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        if isinstance(value, str):
            all_note = "" if all_value is None else " or all"
            raise EpisodeError(
                f"{name}: got {value!r}; expected a whole number from 1, a range such as "
                f"2-5{all_note}"
            )
        require_int(name, value, 1)
        return IntRange(value, value)
    low, high = int(match.group(1)), int(match.group(2))
    if not 1 <= low <= high:
        raise EpisodeError(f"{name}: got {value!r}; expected a range from 1, the smaller one first")
    return IntRange(low, high)
