"""Configuration keys of the episodes: numbers of classes and clips, and sampling."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field

from fewshot_i2v.config.base import MAX_COUNT, CommonConfig, PositiveCount, ValueForm
from fewshot_i2v.config.file_names import NAME_OR_FILE
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
    int | str,
    BeforeValidator(_count_validator(2, "all", allow_ranges=True)),
    ValueForm("N|LOW-HIGH|all"),
]
Shot: TypeAlias = Annotated[int | str, BeforeValidator(_count_validator(1, allow_ranges=True))]
Count: TypeAlias = Annotated[
    int | str,
    BeforeValidator(_count_validator(1, "all", allow_ranges=False)),
    ValueForm("N|all"),
]
Shots: TypeAlias = Annotated[
    tuple[Shot, ...],
    BeforeValidator(as_tuple, json_schema_input_type=Shot | list[Shot]),
    AfterValidator(require_unique),
    ValueForm("K|LOW-HIGH"),
]
TrainingSeeds: TypeAlias = Annotated[
    tuple[Annotated[int, Field(ge=0, lt=2**63)], ...],
    BeforeValidator(as_tuple, json_schema_input_type=int | list[int]),
    AfterValidator(lambda seeds: require_unique(seeds) if seeds else seeds),
]

SAMPLING_KEYS = (
    *("subset", "way", "shot", "query", "episodes", "until", "max_episodes", "sampling"),
    *("partitions", "disjoint_groups", "uneven_shots", "draws"),
)
"""Keys of how episodes are drawn, which mean nothing beside `trials`."""
DEFAULTS_OF_LATER_KEYS: dict[str, object] = {
    "sampling": "independent",
    "uneven_shots": False,
    "draws": None,
}
"""Keys, with their defaults, that older runs have no word of: at its default, a key is left out of
what decides a run's results."""


class EpisodeConfig(CommonConfig):
    """The episodes of an evaluation and of its rows."""

    subset: str = Field(
        default="novel",
        min_length=1,
        description="Subset of the split's classes to draw from; with test, support clips come "
        "from train.",
    )
    way: Way = Field(default=5, description="Classes of an episode, at least 2.")
    query: Count = Field(
        default=5,
        description="Query clips per class; all: every clip that is not a support clip.",
    )
    episodes: Count = Field(
        default=200,
        description="Episodes of each row; all: every episode, where their number is limited.",
    )
    until: Annotated[float | None, Field(gt=0, lt=50)] = Field(
        default=None,
        description="Instead of `episodes`: draw until the 95 % interval of every row is at most "
        "± this many points.",
    )
    max_episodes: PositiveCount = Field(
        default=10_000, description="Maximum episodes of each row with `until`."
    )
    sampling: Literal["independent", "disjoint"] = Field(
        default="independent",
        description="How episodes are drawn; disjoint: no clip is in two of them.",
    )
    disjoint_groups: bool = Field(
        default=False,
        description="Support and query clips of an episode never share a group.",
    )
    uneven_shots: bool = Field(
        default=False, description="With a range of shots, each class has its own number."
    )
    draws: Annotated[str | None, Field(min_length=1)] = Field(
        default=None, description="Published draws of support clips, by name."
    )
    partitions: PositiveCount = Field(
        default=1,
        description="Partitions of the clips, with disjoint sampling; 1: no clip is used twice.",
    )
    trials: Annotated[str | None, Field(min_length=1), NAME_OR_FILE, ValueForm("PATH")] = Field(
        default=None,
        description="File of frozen episodes, or the name of shipped ones, instead of drawing any.",
    )
    frame_order: Literal["natural", "shuffled", "reversed", "single"] = Field(
        default="natural",
        description="Order of the frames of every clip, to see what depends on it: shuffled at "
        "random but fixed by clip; single: the middle frame repeated.",
    )
