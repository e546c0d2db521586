"""The record of one episode, and its line in the journal."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from fewshot_i2v.errors import RecordError
from fewshot_i2v.runs.record_check import check_record, check_types, passes_checks
from fewshot_i2v.utils.input_files import refuse_constant
from fewshot_i2v.utils.rounding import round_rows

TIMING_KEYS = ("seconds", "peak_memory_mb")
"""The keys of a record that differ when the same episode is computed again."""
CHECKSUM_KEY = b',"crc32":"'
"""What stands before the checksum of a line. No text in it does: JSON escapes quotation marks."""
_LINE_START = re.compile(rb'\{"index":(0|[1-9]\d{0,14}),"status":"(ok|failed)",')
_NUMBER = rb"(?:0|[1-9]\d{0,17})(?:\.\d+)?(?:[eE][+-]?\d\d?)?"  # finite in any case
_LINE_END = re.compile(
    rb'([0-9a-f]{8})","seconds":%b,"peak_memory_mb":%b\}\s*' % (_NUMBER, _NUMBER)
)


@dataclass(frozen=True, slots=True)
class EpisodeRecord:
    """The result of one episode.

    Numbers are rounded on construction, so that equal records are equal as text.

    Attributes:
        index: number of the episode, 0 first.
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
        peak_memory_mb: peak memory, in MiB; of what, see `RowSummary.peak_memory_mb`.
        error: `{"path": ..., "reason": ...}` of a failed episode, else None.

    Raises:
        RecordError: when values contradict each other or a number is not finite.
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
            "probabilities": round_rows(self.probabilities, 6),
            "accuracy": accuracy,
            "losses": [float(f"{loss:.6g}") for loss in self.losses],
            "seconds": round(float(self.seconds), 6),
            "peak_memory_mb": round(float(self.peak_memory_mb), 3),
        }
        for name, value in rounded.items():
            object.__setattr__(self, name, value)
        check_record(self)

    def to_dict(self) -> dict[str, Any]:
        """Returns lists, strings and numbers (not copied), in the order of the fields."""
        return {name: getattr(self, name) for name in _FIELD_NAMES}

    def same_result(self, record: EpisodeRecord) -> bool:
        """Whether two records agree in everything but `TIMING_KEYS`."""
        return all(
            getattr(self, f.name) == getattr(record, f.name)
            for f in fields(self)
            if f.name not in TIMING_KEYS
        )


_FIELD_NAMES = tuple(f.name for f in fields(EpisodeRecord))
_LINE_KEYS = frozenset({*_FIELD_NAMES, "crc32"})


def to_line(record: EpisodeRecord, run_checksum: int) -> bytes:
    """Writes a record as one line of JSON, without the newline.

    The timings come last; before them stands a checksum of everything else. `run_checksum` is that
    of the run's identity, from `identity_checksum`.
    """
    plain = record.to_dict()
    timings = {name: plain.pop(name) for name in TIMING_KEYS}
    payload = _compact_json(plain)[:-1]
    line_checksum = f"{zlib.crc32(payload, run_checksum):08x}"
    return payload + b"," + _compact_json({"crc32": line_checksum} | timings)[1:]


def from_line(line: bytes, run_checksum: int) -> EpisodeRecord:
    """Parses a line that `to_line` made for the same run.

    Raises:
        ValueError: saying what is wrong with the line. Its checksum does not prove its values:
            whoever edits a line can make a checksum, too.
    """
    checked_payload(line, run_checksum)
    data = _parse_object(line, _LINE_KEYS)
    record = object.__new__(EpisodeRecord)
    # numbers are rounded already: the constructor would do so once more
    for name in _FIELD_NAMES:
        object.__setattr__(record, name, data[name])
    if not passes_checks(record):
        check_types(data)
        try:
            check_record(record)
        except (RecordError, OverflowError) as error:
            raise ValueError(str(error)) from error
    return record


def checked_payload(line: bytes, run_checksum: int) -> bytes:
    """Verifies a line's checksum and returns its payload, equal for equal results.

    Returns:
        The line without checksum and timings: a JSON object but for its closing brace, in the order
        of the fields of `EpisodeRecord`.

    Raises:
        ValueError: saying what is wrong with the line.
    """
    payload, separator, tail = line.rpartition(CHECKSUM_KEY)
    if not separator:
        raise ValueError("no complete record: its checksum is missing")
    timings = _LINE_END.fullmatch(tail)
    if not timings:
        raise ValueError("its checksum and timings are not as they are written")
    if timings[1] != f"{zlib.crc32(payload, run_checksum):08x}".encode():
        raise ValueError("changed since it was written, or written by another run (checksum)")
    return payload


def peek_index_and_status(payload: bytes) -> tuple[int, bool]:
    """Reads episode number and success from a `checked_payload`, without parsing it all.

    Raises:
        ValueError: when the payload does not begin with them.
    """
    match = _LINE_START.match(payload)
    if not match:
        raise ValueError("it does not begin with an index and a status that a record has")
    return int(match[1]), match[2] == b"ok"


def parse_fields(fragment: bytes, names: Collection[str]) -> dict[str, Any]:
    """Parses some keys of a record that are adjacent in its line.

    Args:
        fragment: from the quotation mark of the first name to before the comma behind the last
            value.
        names: of these keys.

    Raises:
        ValueError: when they are not there, or are nothing that a record has.
    """
    data = _parse_object(b"{%b}" % fragment, frozenset(names))
    check_types(data)
    return data


def _parse_object(payload: bytes, keys: frozenset[str]) -> dict[str, Any]:
    """Parses a JSON object with exactly these keys."""
    try:
        data = _DECODER.decode(payload.decode("ascii"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(data, dict) or data.keys() != keys:
        unexpected = ", ".join(sorted(data.keys() ^ keys)) if isinstance(data, dict) else "all"
        raise ValueError(f"keys missing or unknown: {unexpected}")
    return data


def accuracy_of(predictions: Sequence[int], labels: Sequence[int]) -> float:
    """Compute the share of queries that are predicted right, in [0, 1]."""
    n_right = sum(p == label for p, label in zip(predictions, labels, strict=True))
    return n_right / len(labels)


def identity_checksum(identity: Mapping[str, Any]) -> int:
    """Checksum of a run's identity, as read from JSON; mixed into the checksum of its lines."""
    return zlib.crc32(json.dumps(identity, sort_keys=True).encode())


def _compact_json(plain: dict[str, Any]) -> bytes:
    return json.dumps(plain, separators=(",", ":"), allow_nan=False).encode("ascii")


_DECODER = json.JSONDecoder(parse_constant=refuse_constant)  # making one takes time
