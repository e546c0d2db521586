"""Reader of what a comparison needs of records: episodes, predictions and accuracies.

Lines of records are written with their keys in one order and guarded by a checksum, so the needed
parts can be cut out of them. That is many times faster than parsing all probabilities.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fewshot_i2v.errors import RecordError
from fewshot_i2v.runs.episode_record import parse_fields
from fewshot_i2v.runs.record_check import check_predictions
from fewshot_i2v.runs.row_summary import (
    RowSummary,
    average_rows,
    display_facts,
    group_seeds,
    header_facts,
)
from fewshot_i2v.runs.run_folder import read_run
from fewshot_i2v.statistics.predictions import PredictionTable

EPISODE_KEYS = ("classes", "support", "query")
"""What makes an episode the one it is."""
_KEY_MARKERS = (b',"classes":', b',"labels":', b',"probabilities":', b',"accuracy":', b',"losses":')
EpisodeTexts = Mapping[int, bytes]
"""Classes, support and query clips of each episode, as recorded: equal for equal episodes."""


@dataclass(frozen=True, eq=False)
class RecordedRow:
    """A row with its predictions, of one run folder or of several training seeds.

    Attributes:
        summary: as a table shows it.
        episodes: the episodes that are recorded with every training seed, failed ones too.
        predictions: of each training seed, without probabilities.
    """

    summary: RowSummary
    episodes: EpisodeTexts = field(repr=False)
    predictions: tuple[PredictionTable, ...] = field(repr=False)

    def select(self, indices: Sequence[int]) -> list[PredictionTable]:
        """Predictions of each training seed for some of the episodes that succeeded with all."""
        return [table.select_episodes(indices) for table in self.predictions]


def parse_episode(text: bytes) -> dict[str, Any]:
    """Parse classes, support and query of an episode, by name."""
    return dict(json.loads(b"{" + text + b"}"))


def share_clips(texts: Iterable[bytes]) -> bool:
    """Whether any clip is in two of the episodes."""
    known_clips: set[str] = set()
    for text in texts:
        episode = parse_episode(text)
        names = {name for key in EPISODE_KEYS[1:] for row in episode[key] for name in row}
        if not names.isdisjoint(known_clips):
            return True
        known_clips |= names
    return False


class PredictionReader:
    """Reads the predictions of run folders; episodes that several have are stored once."""

    def __init__(self) -> None:
        self._episodes: dict[bytes, _Episode] = {}
        self._tables: dict[tuple[Any, ...], PredictionTable] = {}

    def read(self, folder: Path) -> RecordedRow:
        """Read a run folder, also while a run writes to it.

        Raises:
            RecordError: when it is no run folder, or damaged (naming file and line).
        """
        run = read_run(folder)
        answers = _Answers()
        for index, line in run.records.lines(run.records):
            try:
                self._add_line(answers, index, line, ok=index not in run.records.failed)
            except (ValueError, OverflowError, RecordError) as error:
                raise run.records.damage_error(index, error) from error
        display_flags = run.header.get("marks", {})
        summary = RowSummary(
            accuracies=answers.accuracies,
            failed=len(answers.texts) - len(answers.accuracies),
            shared=not display_flags.get("disjoint") or share_clips(answers.texts.values()),
            **display_facts(display_flags),
            **header_facts(run.header, folder),
        )
        return RecordedRow(summary, answers.texts, (self._table(answers),))

    def _add_line(self, answers: _Answers, index: int, line: bytes, *, ok: bool) -> None:
        """Add the answer of an episode from its line.

        A quotation mark inside a name is written with a backslash, so no name can hold a marker.
        """
        classes, labels, probabilities = (line.find(marker) for marker in _KEY_MARKERS[:3])
        accuracy = line.rfind(_KEY_MARKERS[3])
        losses = line.find(_KEY_MARKERS[4], accuracy)
        starts = [0, classes, labels, probabilities, accuracy, losses]
        if -1 in starts or starts != sorted(starts):
            raise ValueError("its keys are not in the order in which they are written")
        episode = self._episode(line[classes + 1 : labels])
        answers.texts[index] = episode.text
        value = line[accuracy + len(_KEY_MARKERS[3]) : losses]
        if not ok:
            if value != b"null":
                raise ValueError("it failed and has an accuracy")
            return
        payload = parse_fields(line[labels + 1 : probabilities], ("labels", "predictions"))
        check_predictions(
            index,
            **payload,
            accuracy=float(value),
            way=episode.way,
            queries=episode.n_queries,
        )
        answers.accuracies[index] = float(value)
        answers.labels.append(array("q", payload["labels"]).tobytes())
        answers.predictions.fromlist(payload["predictions"])

    def _episode(self, text: bytes) -> _Episode:
        """Check an episode, unless that was done before."""
        episode = self._episodes.get(text)
        if episode is None:
            parsed = parse_fields(text, EPISODE_KEYS)
            way = len(parsed["classes"])
            if len(parsed["support"]) != way:
                raise ValueError("support: expected one list of clips for each class")
            episode = self._episodes[text] = _Episode(text, way, sum(map(len, parsed["query"])))
        return episode

    def _table(self, answers: _Answers) -> PredictionTable:
        """Build the table of some answers.

        Rows with the same episodes share the arrays of the first one, but for the predictions.
        """
        succeeded = tuple(answers.accuracies)
        key = (succeeded, tuple(answers.texts[i] for i in succeeded), tuple(answers.labels))
        if key not in self._tables:
            self._tables[key] = PredictionTable.from_records(answers.records())
        table = self._tables[key]
        start = np.searchsorted(table.member_episode, table.episode)
        positions = start + np.frombuffer(answers.predictions, dtype=np.int64)
        return replace(table, predicted=table.member_class[positions])


@dataclass(frozen=True, slots=True)
class _Episode:
    """An episode that was checked: its text, and the numbers of its classes and query clips."""

    text: bytes
    way: int
    n_queries: int


@dataclass(frozen=True)
class _Answers:
    """What was read of a run folder so far; labels and predictions of episodes that succeeded."""

    texts: dict[int, bytes] = field(default_factory=dict)
    accuracies: dict[int, float] = field(default_factory=dict)
    labels: list[bytes] = field(default_factory=list)
    predictions: array[int] = field(default_factory=lambda: array("q"))

    def records(self) -> Iterator[_AnswerRecord]:
        """The episodes that succeeded, with probabilities of 0."""
        stop = 0
        for index, label_bytes in zip(self.accuracies, self.labels, strict=True):
            labels = array("q", label_bytes).tolist()
            start, stop = stop, stop + len(labels)
            episode = parse_episode(self.texts[index])
            zeros = [[0.0] * len(episode["classes"])] * len(labels)
            predictions = self.predictions[start:stop].tolist()
            yield _AnswerRecord(index, "ok", **episode, labels=labels, predictions=predictions,
                                probabilities=zeros)  # fmt: skip


@dataclass(frozen=True)
class _AnswerRecord:
    """An answer in the form that `PredictionTable` reads."""

    index: int
    status: str
    classes: list[str]
    support: list[list[str]]
    query: list[list[str]]
    labels: list[int]
    predictions: list[int]
    probabilities: list[list[float]]


def check_seed_episodes(rows: Sequence[RecordedRow]) -> None:
    """Refuse rows that differ only in the training seed and yet have other episodes.

    Raises:
        RecordError: naming the first one.
    """
    for group in group_seeds([row.summary for row in rows]):
        seeds = [rows[i].episodes for i in group]
        for index in sorted(set.intersection(*map(set, seeds))):
            if len({episodes[index] for episodes in seeds}) > 1:
                raise RecordError(
                    f"episode {index} is not the same with all training seeds; expected rows of "
                    "one evaluation. Give the run folders one by one"
                )


def merge_recorded_seeds(rows: Sequence[RecordedRow]) -> list[RecordedRow]:
    """Merge rows that differ only in the training seed, at the position of the first.

    Episodes that are not recorded with every seed are left out.
    """
    groups = group_seeds([row.summary for row in rows])
    return [average_recorded_rows([rows[i] for i in group]) for group in groups]


def average_recorded_rows(seeds: Sequence[RecordedRow]) -> RecordedRow:
    """Merge the rows of several training seeds into one, as `average_rows` does.

    Episodes that are not recorded with every seed are left out.
    """
    common = sorted(set.intersection(*(set(seed.episodes) for seed in seeds)))
    return RecordedRow(
        summary=average_rows([seed.summary for seed in seeds]),
        episodes={index: seeds[0].episodes[index] for index in common},
        predictions=tuple(table for seed in seeds for table in seed.predictions),
    )
