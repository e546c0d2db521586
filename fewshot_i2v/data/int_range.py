"""Numbers of classes and clips in an episode: fixed, within a range, or all there are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from fewshot_i2v.data.hash_ranks import key_of
from fewshot_i2v.errors import EpisodeError

Number: TypeAlias = int | str
"""A whole number; a text such as "2-5", from 2 to 5; or, where it is allowed, "all"."""
All: TypeAlias = Literal["all"]
_RANGE = re.compile(r"(\d{1,9})-(\d{1,9})")


@dataclass(frozen=True)
class Span:
    """From `low` to `high`, both included."""

    low: int
    high: int

    @property
    def fixed(self) -> bool:
        """Whether there is only one number in it."""
        return self.low == self.high

    def at(self, key: np.uint64, what: str) -> int:
        """The number of an episode: each as likely as the others, a function of key and `what`."""
        if self.fixed:
            return self.low
        return self.low + int(key_of(f"{key}/{what}")) % (self.high - self.low + 1)


def check_number(name: str, value: object, least: int) -> None:
    """Refuses what is no whole number from `least`.

    Raises:
        EpisodeError: naming the value.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise EpisodeError(f"{name}: got {value!r}; expected a whole number from {least}")


def span_of(name: str, value: Number, *, most: int | None = None) -> Span:
    """The numbers that a value stands for.

    Args:
        name: what it is called, for messages.
        value: a whole number from 1, a text such as "2-5", or "all" where `most` is given.
        most: what "all" stands for.

    Raises:
        EpisodeError: when it is something else.
    """
    if value == "all" and most is not None:
        return Span(most, most)
    match = _RANGE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        if isinstance(value, str):
            more = "" if most is None else " or all"
            raise EpisodeError(
                f"{name}: got {value!r}; expected a whole number from 1, a range such as 2-5{more}"
            )
        check_number(name, value, 1)
        return Span(value, value)
    low, high = int(match.group(1)), int(match.group(2))
    if not 1 <= low <= high:
        raise EpisodeError(f"{name}: got {value!r}; expected a range from 1, the smaller one first")
    return Span(low, high)
