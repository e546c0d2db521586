"""What the values of a record must be: their types, and how they fit each other."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from math import ceil, floor, isfinite
from operator import eq
from typing import TYPE_CHECKING, Any

from fewshot_i2v.errors import RecordError

if TYPE_CHECKING:
    from fewshot_i2v.runs.episode_record import EpisodeRecord

TOLERANCE = 1e-6
"""Largest difference between an accuracy and the share of right predictions."""


def _texts(value: object) -> bool:
    return isinstance(value, list) and set(map(type, value)) <= {str}


def _whole(value: object) -> bool:
    return isinstance(value, list) and set(map(type, value)) <= {int}


def _numbers(value: object) -> bool:
    return isinstance(value, list) and set(map(type, value)) <= {int, float}


def _rows(value: object, fits: Callable[[object], bool]) -> bool:
    lists = isinstance(value, list) and set(map(type, value)) <= {list}
    return lists and fits(list(chain.from_iterable(value)))  # type: ignore[arg-type]


_FORMS: dict[str, tuple[Callable[[object], bool], str]] = {
    "index": (lambda value: type(value) is int, "a whole number"),
    "status": (lambda value: value in ("ok", "failed"), '"ok" or "failed"'),
    "classes": (_texts, "a list of texts"),
    "support": (lambda value: _rows(value, _texts), "lists of texts"),
    "query": (lambda value: _rows(value, _texts), "lists of texts"),
    "labels": (_whole, "a list of whole numbers"),
    "predictions": (_whole, "a list of whole numbers"),
    "probabilities": (lambda value: _rows(value, _numbers), "lists of numbers"),
    "accuracy": (lambda value: value is None or _numbers([value]), "a number or null"),
    "losses": (_numbers, "a list of numbers"),
    "seconds": (lambda value: _numbers([value]), "a number"),
    "peak_memory_mb": (lambda value: _numbers([value]), "a number"),
    "crc32": (lambda value: isinstance(value, str), "text"),
    "error": (
        lambda value: value is None or (isinstance(value, dict) and _texts([*value.values()])),
        "null, or path and reason",
    ),
}


def check_forms(data: Mapping[str, Any]) -> None:
    """Checks that values read from a file are of the types that a record has.

    Args:
        data: some of the keys of a record.

    Raises:
        ValueError: naming the first key that is not, and what was expected.
    """
    for name, value in data.items():
        fits, expected = _FORMS[name]
        if not fits(value):
            raise ValueError(f"{name}: expected {expected}")


def is_sound(r: EpisodeRecord) -> bool:
    """Whether a record that is ok would pass all checks, found out in a fraction of their time."""
    try:
        clips, answers = [*r.support, *r.query], array("q", r.labels + r.predictions)
        way, rows, every = (
            len(r.classes),
            r.probabilities,
            list(chain.from_iterable(r.probabilities)),
        )
        kinds = {type(r.classes), type(r.losses), *map(type, clips), *map(type, rows)}
        "".join(chain(r.classes, *clips))  # raises where one is no text
        return (
            (r.status, r.error, type(r.index), kinds) == ("ok", None, int, {list})
            and len(r.labels) == len(r.predictions) == len(rows) == sum(map(len, r.query)) > 0
            and len(r.support) == way
            and set(map(len, rows)) == {way}
            and 0 <= min(answers) <= max(answers) < way
            and {*map(floor, every), *map(ceil, every)} <= {0, 1}
            and abs(r.accuracy - sum(map(eq, r.labels, r.predictions)) / len(rows)) <= TOLERANCE
            and all(map(isfinite, (*r.losses, r.seconds, r.peak_memory_mb)))
        )
    except (TypeError, ValueError, OverflowError):
        return False


def check(record: EpisodeRecord) -> None:
    """Refuses numbers that are not finite, and parts that contradict each other."""
    given: dict[str, Iterable[float]] = {
        "accuracy": () if record.accuracy is None else (record.accuracy,),
        "seconds": (record.seconds,),
        "peak_memory_mb": (record.peak_memory_mb,),
        "losses": record.losses,
        "probabilities": list(chain.from_iterable(record.probabilities)),
    }
    for name, values in given.items():
        if not all(map(isfinite, values)):
            odd = next(value for value in values if not isfinite(value))
            raise RecordError(
                f"episode {record.index}: {name} holds {odd}; a record holds finite numbers "
                "only. Record the episode as failed, with the values before that one"
            )
    _check_parts(record)


def _check_parts(record: EpisodeRecord) -> None:
    if record.index < 0 or record.status not in ("ok", "failed"):
        raise _contradiction(
            record.index,
            f"index {record.index}, status {record.status!r}",
            '0 or more, "ok" or "failed"',
        )
    if not record.classes:
        raise _contradiction(record.index, "no classes", "at least one")
    if record.status == "failed":
        if record.accuracy is not None or not {"path", "reason"} <= set(record.error or ()):
            raise _contradiction(
                record.index,
                f"failed, with accuracy {record.accuracy} and error {record.error}",
                "no accuracy, and an error with path and reason",
            )
        return
    if record.error is not None:
        raise _contradiction(record.index, f"ok, with error {record.error}", "no error")
    way, rows = len(record.classes), record.probabilities
    queries = sum(map(len, record.query))
    check_answers(
        record.index, record.labels, record.predictions, record.accuracy, way=way, queries=queries
    )
    if len(rows) != queries or set(map(len, rows)) != {way}:
        raise _contradiction(
            record.index,
            "other rows of probabilities",
            f"{queries} rows of {way} numbers, one per class",
        )
    every = list(chain.from_iterable(rows))
    if min(every) < 0 or max(every) > 1 + TOLERANCE:
        raise _contradiction(record.index, "a probability below 0 or above 1", "0 to 1")
    if len(record.support) != way:
        raise _contradiction(
            record.index, f"{len(record.support)} lists of support clips", f"{way}, one per class"
        )


def check_answers(
    index: int,
    labels: Sequence[int],
    predictions: Sequence[int],
    accuracy: float | None,
    *,
    way: int,
    queries: int,
) -> None:
    """Checks that the answers of an episode that is ok fit each other.

    Args:
        index: number of the episode.
        labels: of its query clips.
        predictions: of its query clips.
        accuracy: share of right ones, as recorded.
        way: number of its classes.
        queries: number of its query clips.

    Raises:
        RecordError: naming what does not fit.
    """
    if {len(labels), len(predictions)} != {queries} or not queries:
        raise _contradiction(
            index,
            f"{len(labels)} labels, {len(predictions)} predictions, {queries} query clips",
            "the same number of each, at least one",
        )
    if min(*labels, *predictions) < 0 or max(*labels, *predictions) >= way:
        raise _contradiction(index, "a label or prediction that is no class", f"0 to {way - 1}")
    share = sum(map(eq, labels, predictions)) / queries
    if accuracy is None or not abs(accuracy - share) <= TOLERANCE:
        raise _contradiction(index, f"accuracy {accuracy}", f"{share}, as predicted")


def _contradiction(index: int, got: str, expected: str) -> RecordError:
    return RecordError(f"episode {index}: got {got}; expected {expected}")
