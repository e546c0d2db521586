"""The record of one episode, and its line in the journal."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from math import isfinite
from typing import Any, Literal, NoReturn

from fewshot_i2v.errors import RecordError

TIMING_KEYS = ("seconds", "peak_memory_mb")
"""The keys of a record that differ when the same episode is computed again."""
_TOLERANCE = 1e-6
_CHECK = b',"crc32":"'


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
        _check_numbers(self)
        _check_parts(self)

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
_KEYS = frozenset(_NAMES)


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
        ValueError: saying what is wrong with the line.
    """
    lasting(line, key)
    data: dict[str, Any] = json.loads(line, parse_constant=_refuse)
    data.pop("crc32")
    if data.keys() != _KEYS:
        odd = ", ".join(sorted(data.keys() ^ _KEYS))
        raise ValueError(f"keys missing or unknown: {odd}")
    # the checksum vouches for what the constructor would check and round again
    record = object.__new__(EpisodeRecord)
    for name in _NAMES:
        object.__setattr__(record, name, data[name])
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
    if tail[:8] != f"{zlib.crc32(head, key):08x}".encode():
        raise ValueError("changed since it was written, or written by another run (checksum)")
    return head


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


def _numbers(record: EpisodeRecord) -> Iterator[tuple[str, float]]:
    yield "accuracy", 0.0 if record.accuracy is None else record.accuracy
    yield "seconds", record.seconds
    yield "peak_memory_mb", record.peak_memory_mb
    yield from (("losses", loss) for loss in record.losses)
    yield from (("probabilities", p) for row in record.probabilities for p in row)


def _check_numbers(record: EpisodeRecord) -> None:
    for name, value in _numbers(record):
        if not isfinite(value):
            raise RecordError(
                f"episode {record.index}: {name} holds {value}; a record holds finite numbers "
                "only. Record the episode as failed, with the values before that one"
            )


def _check_parts(record: EpisodeRecord) -> None:
    if record.index < 0 or record.status not in ("ok", "failed"):
        raise _contradiction(
            record, f"index {record.index}, status {record.status!r}", '0 or more, "ok" or "failed"'
        )
    if record.status == "failed":
        if record.accuracy is not None or not {"path", "reason"} <= set(record.error or ()):
            raise _contradiction(
                record,
                f"failed, with accuracy {record.accuracy} and error {record.error}",
                "no accuracy, and an error with path and reason",
            )
        return
    if record.error is not None:
        raise _contradiction(record, f"ok, with error {record.error}", "no error")
    sizes = {len(record.labels), len(record.predictions), len(record.probabilities)}
    if len(sizes) != 1 or not record.labels:
        raise _contradiction(
            record,
            f"{len(record.labels)} labels, {len(record.predictions)} predictions, "
            f"{len(record.probabilities)} rows of probabilities",
            "the same number of each, at least one",
        )
    way = len(record.classes)
    if any(len(row) != way for row in record.probabilities):
        raise _contradiction(record, "a row of probabilities", f"{way} numbers, one per class")
    pairs = zip(record.labels, record.predictions, strict=True)
    share = sum(label == guess for label, guess in pairs) / len(record.labels)
    if record.accuracy is None or abs(record.accuracy - share) > _TOLERANCE:
        raise _contradiction(record, f"accuracy {record.accuracy}", f"{share}, as predicted")


def _contradiction(record: EpisodeRecord, got: str, expected: str) -> RecordError:
    return RecordError(f"episode {record.index}: got {got}; expected {expected}")
