"""What the summary of a row needs of a record, read from its line without parsing all of it.

Parsing a line as JSON, probabilities and all, takes most of the time of reading a long run. A line
as it is written matches one regular expression, which proves the same that the checks of a parsed
record prove. Every other line is parsed and checked in full.
"""

from __future__ import annotations

import re
import zlib
from functools import lru_cache
from operator import eq
from typing import NamedTuple

from fewshot_i2v.runs.episode_record import CHECKSUM_KEY, EpisodeRecord
from fewshot_i2v.runs.record_check import TOLERANCE


class RecordFacts(NamedTuple):
    """Facts of a record; see the attributes of `EpisodeRecord`.

    Attributes:
        episode: its number.
        way: number of its classes.
        accuracy: share of right predictions, 0..1; None where the episode failed.
        seconds: wall-clock time of the episode.
        peak_memory_mb: as in `EpisodeRecord`.
    """

    episode: int
    way: int
    accuracy: float | None
    seconds: float
    peak_memory_mb: float

    @classmethod
    def of(cls, record: EpisodeRecord) -> RecordFacts:
        """Takes the facts of a record."""
        return cls(
            record.index,
            len(record.classes),
            record.accuracy,
            record.seconds,
            record.peak_memory_mb,
        )


def _list_of(item: bytes) -> bytes:
    return rb"\[%b(?:,%b)*+\]" % (item, item)


_TEXT = rb'"(?:[ !#-\[\]-~]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+"'
_TEXTS = _list_of(_TEXT)
_PROBABILITY = rb"(?:0\.\d++|[1-9](?:\.\d++)?e-(?:0[1-9]|[1-9]\d)|1\.0)"
_LOSS = rb"-?(?:0|[1-9]\d{0,17})(?:\.\d++)?(?:e[+-]\d\d)?"
_SECONDS = rb"(?:0|[1-9]\d{0,17})\.\d++(?:e[+-]?\d\d?)?"
_LINE = re.compile(
    rb'\{"index":(0|[1-9]\d{0,14}),"status":"ok",'
    rb'"classes":(%b),"support":(%b),"query":(%b),'
    rb'"labels":\[([\d,]++)\],"predictions":\[([\d,]++)\],'
    rb'"probabilities":(%b),"accuracy":([01]\.\d++),'
    rb'"losses":\[(?:%b(?:,%b)*+)?\],"error":null%b([0-9a-f]{8})",'
    rb'"seconds":(%b),"peak_memory_mb":(%b)\}\n?'
    % (
        *(_TEXTS, _list_of(_TEXTS), _list_of(_TEXTS), _list_of(_list_of(_PROBABILITY))),
        *(_LOSS, _LOSS, CHECKSUM_KEY, _SECONDS, _SECONDS),
    )
)
_CHECKSUM_GROUP = 9
_ONE_TEXT, _ONE_LIST = re.compile(_TEXT), re.compile(_TEXTS)
_OF_NUMBERS = b"0123456789.e-"


def facts_of_line(line: bytes, run_checksum: int) -> RecordFacts | None:
    """Reads the facts of a successful episode from its line.

    Args:
        line: as `to_line` made it for the same run, with or without a newline.
        run_checksum: of the run's identity.

    Returns:
        The facts; None where `from_line` has to say what the line holds: of failed episodes, of
        numbers written in another way than `to_line` does, and of whatever is wrong.
    """
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    index, classes, support, query, label_text, prediction_text, *others = match.groups()
    probabilities, accuracy_text, checksum, seconds, memory = others
    payload = memoryview(line)[: match.start(_CHECKSUM_GROUP) - len(CHECKSUM_KEY)]
    if int(checksum, 16) != zlib.crc32(payload, run_checksum):
        return None
    way, n_queries, accuracy = _count_texts(classes), _count_texts(query), float(accuracy_text)
    labels, predictions = label_text.split(b","), prediction_text.split(b",")
    class_numbers = _class_numbers(way)
    is_consistent = (
        len(labels) == len(predictions) == n_queries
        and len(_ONE_LIST.findall(support)) == way
        and probabilities.translate(None, _OF_NUMBERS) == _brackets(way, n_queries)
        and class_numbers.issuperset(labels)
        and class_numbers.issuperset(predictions)
        and abs(accuracy - sum(map(eq, labels, predictions)) / n_queries) <= TOLERANCE
    )
    if not is_consistent:
        return None
    return RecordFacts(int(index), way, accuracy, float(seconds), float(memory))


def _count_texts(texts: bytes) -> int:
    """Counts the texts in lists of them."""
    if b"\\" in texts:
        return len(_ONE_TEXT.findall(texts))
    return texts.count(b'"') // 2


@lru_cache(maxsize=256)
def _brackets(way: int, rows: int) -> bytes:
    """Rows of `way` numbers, without the numbers."""
    row = b"[%b]" % (b"," * (way - 1))
    return b"[%b]" % b",".join([row] * rows)


@lru_cache(maxsize=256)
def _class_numbers(way: int) -> frozenset[bytes]:
    """Numbers of classes as they are written."""
    return frozenset(b"%d" % number for number in range(way))
