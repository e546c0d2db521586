"""Checks of the values of a record: their types and their consistency."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from math import ceil, floor, isfinite
from operator import eq
from types import NoneType
from typing import TYPE_CHECKING, Any

from fewshot_i2v.errors import RecordError

if TYPE_CHECKING:
    from fewshot_i2v.runs.episode_record import EpisodeRecord

TOLERANCE = 1e-6
"""Largest difference between an accuracy and the share of right predictions."""


def _is_list(value: object, *types: type) -> bool:
    """Whether it is a list of these types alone; subclasses such as bool do not count."""
    return isinstance(value, list) and set(map(type, value)) <= set(types)


def _is_nested_list(value: Any, *types: type) -> bool:  # noqa: ANN401 - whatever JSON holds
    return _is_list(value, list) and _is_list(list(chain.from_iterable(value)), *types)


_FIELD_TYPES: dict[str, tuple[Callable[[object], bool], str]] = {
    "index": (lambda value: type(value) is int, "a whole number"),
    "status": (lambda value: value in ("ok", "failed"), '"ok" or "failed"'),
    "classes": (lambda value: _is_list(value, str), "a list of texts"),
    "support": (lambda value: _is_nested_list(value, str), "lists of texts"),
    "query": (lambda value: _is_nested_list(value, str), "lists of texts"),
    "labels": (lambda value: _is_list(value, int), "a list of whole numbers"),
    "predictions": (lambda value: _is_list(value, int), "a list of whole numbers"),
    "probabilities": (lambda value: _is_nested_list(value, int, float), "lists of numbers"),
    "accuracy": (lambda value: type(value) in (int, float, NoneType), "a number or null"),
    "losses": (lambda value: _is_list(value, int, float), "a list of numbers"),
    "seconds": (lambda value: type(value) in (int, float), "a number"),
    "peak_memory_mb": (lambda value: type(value) in (int, float), "a number"),
    "crc32": (lambda value: isinstance(value, str), "text"),
    "error": (
        lambda value: (
            value is None or (isinstance(value, dict) and _is_list([*value.values()], str))
        ),
        "null, or path and reason",
    ),
}


def check_types(data: Mapping[str, Any]) -> None:
    """Checks that values read from a file have the types of a record.

    Raises:
        ValueError: naming the first key with a wrong type, and what was expected.
    """
    for name, value in data.items():
        fits, expected = _FIELD_TYPES[name]
        if not fits(value):
            raise ValueError(f"{name}: expected {expected}")


def passes_checks(r: EpisodeRecord) -> bool:
    """Whether a successful record would pass all checks, computed in a fraction of their time."""
    try:
        clips, class_indices = [*r.support, *r.query], array("q", r.labels + r.predictions)
        way, rows, probabilities = (
            len(r.classes),
            r.probabilities,
            list(chain.from_iterable(r.probabilities)),
        )
        types = {type(r.classes), type(r.losses), *map(type, clips), *map(type, rows)}
        "".join(chain(r.classes, *clips))  # raises where one is no text
        return (
            (r.status, r.error, type(r.index), types) == ("ok", None, int, {list})
            and len(r.labels) == len(r.predictions) == len(rows) == sum(map(len, r.query)) > 0
            and len(r.support) == way
            and set(map(len, rows)) == {way}
            and 0 <= min(class_indices) <= max(class_indices) < way
            and {*map(floor, probabilities), *map(ceil, probabilities)} <= {0, 1}
            and abs(r.accuracy - sum(map(eq, r.labels, r.predictions)) / len(rows)) <= TOLERANCE
            and all(map(isfinite, (*r.losses, r.seconds, r.peak_memory_mb)))
        )
    except (TypeError, ValueError, OverflowError):
        return False


def check_record(record: EpisodeRecord) -> None:
    """Raises for numbers that are not finite, and for values that contradict each other."""
    numbers: dict[str, Iterable[float]] = {
        "accuracy": () if record.accuracy is None else (record.accuracy,),
        "seconds": (record.seconds,),
        "peak_memory_mb": (record.peak_memory_mb,),
        "losses": record.losses,
        "probabilities": list(chain.from_iterable(record.probabilities)),
    }
    for name, values in numbers.items():
        if not all(map(isfinite, values)):
            bad_value = next(value for value in values if not isfinite(value))
            raise RecordError(
                f"episode {record.index}: {name} holds {bad_value}; a record holds finite numbers "
                "only. Record the episode as failed, with the values before that one"
            )
    _check_consistency(record)


def _check_consistency(record: EpisodeRecord) -> None:
    if record.index < 0 or record.status not in ("ok", "failed"):
        raise _contradiction_error(
            record.index,
            f"index {record.index}, status {record.status!r}",
            '0 or more, "ok" or "failed"',
        )
    if not record.classes:
        raise _contradiction_error(record.index, "no classes", "at least one")
    if record.status == "failed":
        if record.accuracy is not None or not {"path", "reason"} <= set(record.error or ()):
            raise _contradiction_error(
                record.index,
                f"failed, with accuracy {record.accuracy} and error {record.error}",
                "no accuracy, and an error with path and reason",
            )
        return
    if record.error is not None:
        raise _contradiction_error(record.index, f"ok, with error {record.error}", "no error")
    way, rows = len(record.classes), record.probabilities
    queries = sum(map(len, record.query))
    check_predictions(
        record.index, record.labels, record.predictions, record.accuracy, way=way, queries=queries
    )
    if len(rows) != queries or set(map(len, rows)) != {way}:
        raise _contradiction_error(
            record.index,
            "other rows of probabilities",
            f"{queries} rows of {way} numbers, one per class",
        )
    probabilities = list(chain.from_iterable(rows))
    if min(probabilities) < 0 or max(probabilities) > 1 + TOLERANCE:
        raise _contradiction_error(record.index, "a probability below 0 or above 1", "0 to 1")
    if len(record.support) != way:
        raise _contradiction_error(
            record.index, f"{len(record.support)} lists of support clips", f"{way}, one per class"
        )


def check_predictions(
    index: int,
    labels: Sequence[int],
    predictions: Sequence[int],
    accuracy: float | None,
    *,
    way: int,
    queries: int,
) -> None:
    """Checks that labels, predictions and accuracy of a successful episode are consistent.

    Raises:
        RecordError: naming what does not fit.
    """
    if {len(labels), len(predictions)} != {queries} or not queries:
        raise _contradiction_error(
            index,
            f"{len(labels)} labels, {len(predictions)} predictions, {queries} query clips",
            "the same number of each, at least one",
        )
    if min(*labels, *predictions) < 0 or max(*labels, *predictions) >= way:
        raise _contradiction_error(
            index, "a label or prediction that is no class", f"0 to {way - 1}"
        )
    share = sum(map(eq, labels, predictions)) / queries
    if accuracy is None or not abs(accuracy - share) <= TOLERANCE:
        raise _contradiction_error(index, f"accuracy {accuracy}", f"{share}, as predicted")


def _contradiction_error(index: int, got: str, expected: str) -> RecordError:
    return RecordError(f"episode {index}: got {got}; expected {expected}")
