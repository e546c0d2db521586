"""The record of one episode, and its line in the journal."""

from __future__ import annotations

import json
import re
import zlib
from array import array
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain
from math import ceil, floor, isfinite
from operator import eq
from typing import Any, Literal, NoReturn

from fewshot_i2v.errors import RecordError

TIMING_KEYS = ("seconds", "peak_memory_mb")
"""The keys of a record that differ when the same episode is computed again."""
TOLERANCE = 1e-6
"""Largest difference between an accuracy and the share of right predictions."""
_CHECK = b',"crc32":"'
_HEAD = re.compile(rb'\{"index":(0|[1-9]\d{0,14}),"status":"(ok|failed)",')
_NUMBER = rb"(?:0|[1-9]\d{0,17})(?:\.\d+)?(?:[eE][+-]?\d\d?)?"  # finite in any case
_TAIL = re.compile(rb'([0-9a-f]{8})","seconds":%b,"peak_memory_mb":%b\}\s*' % (_NUMBER, _NUMBER))


@dataclass(frozen=True, slots=True)
class EpisodeRecord:
    """What happened in one episode.

    Numbers are rounded on construction, so that equal records are equal as text.

    Attributes:
        index: which episode, 0 first.
        status: "ok", or "failed" with the cause in `error`.
        classes: names of the classes, in the order of the labels.
        support: names of the support clips of each class.
        query: names of the query clips of each class.
        labels: true class of every query clip, 0..way-1.
        predictions: predicted class of every query clip.
        probabilities: of every query clip, one per class; rounded to 6 decimals.
        accuracy: share of right predictions, 0..1; None where the episode failed.
        losses: training loss of every step; rounded to 6 significant digits.
        seconds: wall-clock time of the episode.
        peak_memory_mb: peak memory, in MiB.
        error: `{"path": ..., "reason": ...}` of a failed episode, else None.

    Raises:
        RecordError: when the parts contradict each other or a number is not finite.
    """

    index: int
    status: Literal["ok", "failed"]
    classes: list[str]
    support: list[list[str]]
    query: list[list[str]]
    labels: list[int] = field(default_factory=list)
    predictions: list[int] = field(default_factory=list)
    probabilities: list[list[float]] = field(default_factory=list)
    accuracy: float | None = None
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    error: dict[str, str] | None = None

    def __post_init__(self) -> None:
        accuracy = None if self.accuracy is None else float(self.accuracy)
        rounded = {
            "index": int(self.index),
            "classes": list(self.classes),
            "support": [list(clips) for clips in self.support],
            "query": [list(clips) for clips in self.query],
            "labels": [int(label) for label in self.labels],
            "predictions": [int(label) for label in self.predictions],
            "probabilities": [[round(float(p), 6) for p in row] for row in self.probabilities],
            "accuracy": accuracy,
            "losses": [float(f"{loss:.6g}") for loss in self.losses],
            "seconds": round(float(self.seconds), 6),
            "peak_memory_mb": round(float(self.peak_memory_mb), 3),
        }
        for name, value in rounded.items():
            object.__setattr__(self, name, value)
        _check(self)

    def to_dict(self) -> dict[str, Any]:
        """The record as lists, strings and numbers (not copied), in the order of the fields."""
        return {name: getattr(self, name) for name in _NAMES}

    def same_result(self, other: EpisodeRecord) -> bool:
        """Whether two records agree in everything but `TIMING_KEYS`."""
        return all(
            getattr(self, f.name) == getattr(other, f.name)
            for f in fields(self)
            if f.name not in TIMING_KEYS
        )


_NAMES = tuple(f.name for f in fields(EpisodeRecord))
_KEYS = frozenset({*_NAMES, "crc32"})


def to_line(record: EpisodeRecord, key: int) -> bytes:
    """A record as one line of JSON, without the newline.

    The timings come last; before them stands a checksum of everything else.

    Args:
        record: the record.
        key: fingerprint of the run, as `fingerprint` gives it.
    """
    plain = record.to_dict()
    timings = {name: plain.pop(name) for name in TIMING_KEYS}
    head = _compact(plain)[:-1]
    check = f"{zlib.crc32(head, key):08x}"
    return head + b"," + _compact({"crc32": check} | timings)[1:]


def from_line(line: bytes, key: int) -> EpisodeRecord:
    """The record of a line that `to_line` made for the same run.

    Args:
        line: without the newline.
        key: fingerprint of the run.

    Raises:
        ValueError: saying what is wrong with the line. Its checksum does not vouch for its values:
            whoever edits a line can make a checksum, too.
    """
    lasting(line, key)
    data = _loaded(line, _KEYS)
    record = object.__new__(EpisodeRecord)
    # numbers are rounded already: the constructor would do so once more
    for name in _NAMES:
        object.__setattr__(record, name, data[name])
    if not _is_sound(record):
        check_forms(data)
        try:
            _check(record)
        except (RecordError, OverflowError) as error:
            raise ValueError(str(error)) from error
    return record


def lasting(line: bytes, key: int) -> bytes:
    """The part of a line that `to_line` made for the same run in which equal results are equal.

    Args:
        line: without the newline.
        key: fingerprint of the run.

    Returns:
        The line without checksum and timings: a JSON object but for its closing brace, in the order
        of the fields of `EpisodeRecord`.

    Raises:
        ValueError: saying what is wrong with the line.
    """
    head, mark, tail = line.rpartition(_CHECK)
    if not mark:
        raise ValueError("no complete record: its checksum is missing")
    timings = _TAIL.fullmatch(tail)
    if not timings:
        raise ValueError("its checksum and timings are not as they are written")
    if timings[1] != f"{zlib.crc32(head, key):08x}".encode():
        raise ValueError("changed since it was written, or written by another run (checksum)")
    return head


def glance(text: bytes) -> tuple[int, bool]:
    """Number of an episode and whether it is ok, from what `lasting` gives, without reading it all.

    Raises:
        ValueError: when the text does not begin with them.
    """
    found = _HEAD.match(text)
    if not found:
        raise ValueError("it does not begin with an index and a status that a record has")
    return int(found[1]), found[2] == b"ok"


def parts(text: bytes, names: Collection[str]) -> dict[str, Any]:
    """Some keys of a record that stand beside each other in its line.

    Args:
        text: from the quotation mark of the first name to before the comma behind the last value.
        names: of these keys.

    Raises:
        ValueError: when they are not there, or are nothing that a record has.
    """
    data = _loaded(b"{%b}" % text, frozenset(names))
    check_forms(data)
    return data


def _loaded(text: bytes, keys: frozenset[str]) -> dict[str, Any]:
    """A JSON object with these keys."""
    try:
        data = _DECODER.decode(text.decode("ascii"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(data, dict) or data.keys() != keys:
        odd = ", ".join(sorted(data.keys() ^ keys)) if isinstance(data, dict) else "all"
        raise ValueError(f"keys missing or unknown: {odd}")
    return data


def fingerprint(identity: Mapping[str, Any]) -> int:
    """A number for a run's identity, mixed into the checksum of its lines.

    Args:
        identity: what decides the results, as read from JSON.
    """
    return zlib.crc32(json.dumps(identity, sort_keys=True).encode())


def _compact(plain: dict[str, Any]) -> bytes:
    return json.dumps(plain, separators=(",", ":"), allow_nan=False).encode("ascii")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number that JSON has")


_DECODER = json.JSONDecoder(parse_constant=_refuse)  # making one takes time


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


def _is_sound(r: EpisodeRecord) -> bool:
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


def _check(record: EpisodeRecord) -> None:
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
