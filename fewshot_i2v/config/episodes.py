"""Configuration keys of the episodes: numbers of classes and clips, and sampling."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field

from fewshot_i2v.config.base import MAX_COUNT, CommonConfig, PositiveCount
from fewshot_i2v.config.method import MethodSpec

_RANGE = re.compile(r"[1-9]\d{0,5}-[1-9]\d{0,5}")


def _count_validator(minimum: int, *words: str, allow_ranges: bool) -> Callable[[object], object]:
    """Build a check for an integer from `minimum`, one of some words, or a range."""
    forms = [f"a whole number greater than or equal to {minimum}"]
    forms += ["a range such as 2-5"] * allow_ranges + list(words)
    expected = "expected " + ", ".join(forms[:-1]) + (" or " if forms[1:] else "") + forms[-1]

    def _check(value: object) -> object:
        is_count = isinstance(value, int) and not isinstance(value, bool) and value >= minimum
        if is_count and isinstance(value, int) and value > MAX_COUNT:
            raise ValueError(f"expected at most {MAX_COUNT}")
        if is_count or (isinstance(value, str) and value in words):
            return value
        if allow_ranges and isinstance(value, str) and _RANGE.fullmatch(value):
            low, high = map(int, value.split("-"))
            if minimum <= low <= high:
                return value
        raise ValueError(expected)

    return _check


def as_tuple(value: object) -> object:
    """Make a tuple of one or several."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def require_unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse an empty list and duplicate values."""
    if not values:
        raise ValueError("expected at least one")
    labels = [value.label if isinstance(value, MethodSpec) else value for value in values]
    duplicates = [label for label, count in Counter(labels).items() if count > 1]
    if duplicates:
        raise ValueError(f"expected each one once; {duplicates[0]!r} is listed twice")
    return values


Way: TypeAlias = Annotated[
    int | str, BeforeValidator(_count_validator(2, "all", allow_ranges=True))
]
Shot: TypeAlias = Annotated[int | str, BeforeValidator(_count_validator(1, allow_ranges=True))]
Query: TypeAlias = Annotated[
    int | str, BeforeValidator(_count_validator(1, "all", allow_ranges=False))
]
EpisodeCount: TypeAlias = Annotated[
    int | str, BeforeValidator(_count_validator(1, "all", allow_ranges=False))
]
Shots: TypeAlias = Annotated[
    tuple[Shot, ...],
    BeforeValidator(as_tuple, json_schema_input_type=Shot | list[Shot]),
    AfterValidator(require_unique),
]

TrainingSeeds: TypeAlias = Annotated[
    tuple[Annotated[int, Field(ge=0, lt=2**63)], ...],
    BeforeValidator(as_tuple, json_schema_input_type=int | list[int]),
    AfterValidator(lambda seeds: require_unique(seeds) if seeds else seeds),
]

DEFAULTS_OF_LATER_KEYS: dict[str, object] = {
    "sampling": "independent",
    "uneven_shots": False,
    "draws": None,
}
"""Keys, with their defaults, that older runs have no word of: at its default, a key is left out of
what decides a run's results."""


class EpisodeConfig(CommonConfig):
    """The episodes of an evaluation and of its rows; keys as in `EvaluationConfig`."""

    subset: str = Field(default="novel", min_length=1)
    way: Way = 5
    query: Query = 5
    episodes: EpisodeCount = 200
    until: Annotated[float | None, Field(gt=0, lt=50)] = None
    max_episodes: PositiveCount = 10_000
    sampling: Literal["independent", "disjoint"] = "independent"
    disjoint_groups: bool = False
    uneven_shots: bool = False
    draws: Annotated[str | None, Field(min_length=1)] = None
    partitions: PositiveCount = 1
    trials: Annotated[str | None, Field(min_length=1)] = None
    frame_order: Literal["natural", "shuffled", "reversed", "single"] = "natural"
