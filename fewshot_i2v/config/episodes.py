"""Which episodes a run asks: their numbers of classes and clips, and how they are drawn."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field

from fewshot_i2v.config.base import MOST, MaterialConfig, Number
from fewshot_i2v.config.method import Choice

_RANGE = re.compile(r"[1-9]\d{0,5}-[1-9]\d{0,5}")


def _number(least: int, *words: str, ranges: bool) -> Callable[[object], object]:
    """Checks a whole number from `least`, one of some words, or a range of numbers."""
    forms = [f"a whole number greater than or equal to {least}"]
    forms += ["a range such as 2-5"] * ranges + list(words)
    expected = "expected " + ", ".join(forms[:-1]) + (" or " if forms[1:] else "") + forms[-1]

    def _check(value: object) -> object:
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
        if whole and isinstance(value, int) and value > MOST:
            raise ValueError(f"expected at most {MOST}")
        if whole or (isinstance(value, str) and value in words):
            return value
        if ranges and isinstance(value, str) and _RANGE.fullmatch(value):
            low, high = map(int, value.split("-"))
            if least <= low <= high:
                return value
        raise ValueError(expected)

    return _check


def listed(value: object) -> object:
    """Several values from several or one."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuses an empty list and what is listed twice."""
    if not values:
        raise ValueError("expected at least one")
    labels = [v.label if isinstance(v, Choice) else v for v in values]
    twice = [label for label, count in Counter(labels).items() if count > 1]
    if twice:
        raise ValueError(f"expected each one once; {twice[0]!r} is listed twice")
    return values


Way: TypeAlias = Annotated[int | str, BeforeValidator(_number(2, "all", ranges=True))]
Shot: TypeAlias = Annotated[int | str, BeforeValidator(_number(1, ranges=True))]
Query: TypeAlias = Annotated[int | str, BeforeValidator(_number(1, "all", ranges=False))]
Count: TypeAlias = Annotated[int | str, BeforeValidator(_number(1, "all", ranges=False))]
Shots: TypeAlias = Annotated[
    tuple[Shot, ...],
    BeforeValidator(listed, json_schema_input_type=Shot | list[Shot]),
    AfterValidator(once),
]

TrainingSeeds: TypeAlias = Annotated[
    tuple[Annotated[int, Field(ge=0, lt=2**63)], ...],
    BeforeValidator(listed, json_schema_input_type=int | list[int]),
    AfterValidator(lambda seeds: once(seeds) if seeds else seeds),
]

NEW_KEYS: dict[str, object] = {
    "sampling": "independent",
    "uneven_shots": False,
    "draws": None,
}
"""Keys, with their defaults, that older runs have no word of: at its default, a key is left out of
what decides a run's results."""


class EpisodeConfig(MaterialConfig):
    """The episodes of a run and of each of its rows; see `RunConfig` for the keys."""

    subset: str = Field(default="novel", min_length=1)
    way: Way = 5
    query: Query = 5
    episodes: Count = 200
    until: Annotated[float | None, Field(gt=0, lt=50)] = None
    max_episodes: Number = 10_000
    sampling: Literal["independent", "disjoint"] = "independent"
    disjoint_groups: bool = False
    uneven_shots: bool = False
    draws: Annotated[str | None, Field(min_length=1)] = None
    partitions: Number = 1
    trials: Annotated[str | None, Field(min_length=1)] = None
    frame_order: Literal["natural", "shuffled", "reversed", "single"] = "natural"
