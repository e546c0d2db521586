"""Predictions of a run, with their clips and classes, as arrays."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from operator import getitem
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.errors import UsageError

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


class RecordLike(Protocol):
    """The attributes of an episode record that are read; those of a run folder have more."""

    @property
    def index(self) -> int:
        """Number of the episode."""

    @property
    def status(self) -> str:
        """Either "ok" or "failed"."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes, in the order of the labels."""

    @property
    def support(self) -> Sequence[Sequence[str]]:
        """Support clips of each class."""

    @property
    def query(self) -> Sequence[Sequence[str]]:
        """Query clips of each class."""

    @property
    def labels(self) -> Sequence[int]:
        """Class of each query clip."""

    @property
    def predictions(self) -> Sequence[int]:
        """Predicted class of each query clip."""

    @property
    def probabilities(self) -> Sequence[Sequence[float]]:
        """Of each query clip, one per class."""


@dataclass(frozen=True, eq=False, repr=False)
class PredictionTable:
    """Predictions of a run: T episodes that succeeded, R predictions, S support clips.

    Predictions, support clips and members are in the order of the episodes, which is ascending by
    number. Classes and clips are codes, counted from 0: positions in `classes` and `clips`.

    Attributes:
        classes: names of the classes.
        clips: names of the clips.
        index: number of each episode, (T,), ascending.
        episode: position of the episode of each prediction in `index`, (R,), 0..T-1.
        label: class of each query clip, (R,).
        predicted: class that was predicted, (R,).
        query: query clip of each prediction, (R,).
        probability: probability of the label, (R,), 0..1.
        confidence: probability of the predicted class, (R,), 0..1.
        support_episode: position of the episode of each support clip, (S,).
        support_clip: the clip, (S,).
        support_class: its class in the episode, (S,).
        member_episode: position of the episode, for each class of each episode.
        member_class: that class.
        failed: number of episodes that failed; they are in no array.
    """

    classes: tuple[str, ...]
    clips: tuple[str, ...]
    index: IntArray
    episode: IntArray
    label: IntArray
    predicted: IntArray
    query: IntArray
    probability: FloatArray
    confidence: FloatArray
    support_episode: IntArray
    support_clip: IntArray
    support_class: IntArray
    member_episode: IntArray
    member_class: IntArray
    failed: int = 0

    @classmethod
    def from_records(cls, records: Iterable[RecordLike]) -> PredictionTable:
        """Read records, in any order; those that failed are counted and skipped.

        Args:
            records: each with `index`, `status`, `classes`, `support`, `query`, `labels`,
                `predictions` and `probabilities`, as `EpisodeRecord` has them; query clips follow
                each other in the order of the labels. An iterator must yield records in ascending
                order of their numbers; then one at a time is in memory.

        Raises:
            UsageError: when two records are of one episode, or one has not as many query clips as
                labels, or not one list of support clips for each class.
        """
        if not isinstance(records, Iterator):
            records = sorted(records, key=lambda record: record.index)
        builder = _PredictionTableBuilder()
        for record in records:
            builder.add(record)
        return builder.build()

    @classmethod
    def pooled(cls, runs: Sequence[PredictionTable]) -> PredictionTable:
        """Pool the predictions of several runs of the same episodes, such as training seeds.

        An episode then has the predictions of all of them, so its accuracy is the mean over them,
        and a clip that is left out is left out of all.

        Raises:
            UsageError: when there is none, or episodes differ.
        """
        if not runs:
            raise UsageError("nothing to pool; expected the outcomes of at least one run")
        reference = runs[0]
        if len(runs) == 1:
            return reference
        for run in runs[1:]:
            if not reference.has_same_episodes(run):
                raise UsageError("outcomes of different episodes; expected the same ones of each")
        order = np.argsort(np.concatenate([table.episode for table in runs]), kind="stable")

        def _concatenate(name: str) -> NDArray[Any]:
            return np.concatenate([getattr(source, name) for source in runs])[order]

        return replace(
            reference,
            episode=_concatenate("episode"),
            label=_concatenate("label"),
            predicted=_concatenate("predicted"),
            query=_concatenate("query"),
            probability=_concatenate("probability"),
            confidence=_concatenate("confidence"),
            failed=max(table.failed for table in runs),
        )

    def select_episodes(self, indices: Sequence[int]) -> PredictionTable:
        """Select some episodes, with the codes that `from_records` assigns to their records alone.

        Args:
            indices: numbers of episodes; those that are not in the table are ignored.
        """
        selected = np.isin(self.index, np.array(indices, dtype=np.int64))
        if selected.all():
            return self
        new_position = np.cumsum(selected) - 1
        predictions, supports, members = (
            selected[positions]
            for positions in (self.episode, self.support_episode, self.member_episode)
        )
        classes, class_code = _renumber(self.classes, self.member_class[members])
        query, support_clip = self.query[predictions], self.support_clip[supports]
        clips, clip_code = _renumber(self.clips, np.concatenate([query, support_clip]))
        return replace(
            self,
            classes=classes,
            clips=clips,
            index=self.index[selected],
            episode=new_position[self.episode[predictions]],
            label=class_code[self.label[predictions]],
            predicted=class_code[self.predicted[predictions]],
            query=clip_code[query],
            probability=self.probability[predictions],
            confidence=self.confidence[predictions],
            support_episode=new_position[self.support_episode[supports]],
            support_clip=clip_code[support_clip],
            support_class=class_code[self.support_class[supports]],
            member_episode=new_position[self.member_episode[members]],
            member_class=class_code[self.member_class[members]],
        )

    def has_same_episodes(self, table: PredictionTable) -> bool:
        """Whether another run has the same episodes."""
        names = ("index", "episode", "label", "query", "support_episode", "support_clip")
        return (self.classes, self.clips) == (table.classes, table.clips) and all(
            np.array_equal(getattr(self, name), getattr(table, name)) for name in names
        )

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each prediction is the label, (R,)."""
        return np.equal(self.label, self.predicted)

    @cached_property
    def queries(self) -> IntArray:
        """Number of query clips of each episode, (T,)."""
        return np.bincount(self.episode, minlength=len(self.index))

    @cached_property
    def accuracies(self) -> FloatArray:
        """Accuracy of each episode, (T,), 0..1."""
        rights = np.bincount(self.episode, self.correct, minlength=len(self.index))
        return np.asarray(rights / self.queries, dtype=np.float64)

    @cached_property
    def weights(self) -> FloatArray:
        """Weight of each prediction in the mean over episodes, (R,); their sum is 1."""
        return np.asarray(1 / (self.queries[self.episode] * len(self.index)), dtype=np.float64)

    @property
    def mean(self) -> float:
        """Mean accuracy over the episodes.

        Raises:
            UsageError: when no episode succeeded.
        """
        if not len(self.index):
            raise UsageError(
                f"no episode succeeded ({self.failed} failed): there is no accuracy to speak of"
            )
        return float(self.accuracies.mean())

    def __len__(self) -> int:
        return len(self.index)


def _renumber(names: Sequence[str], codes: IntArray) -> tuple[tuple[str, ...], IntArray]:
    """Names of the codes in the order of first appearance, and the new code of each old one."""
    old, first_index = np.unique(codes, return_index=True)
    old = old[np.argsort(first_index)]
    new = np.zeros(len(names), dtype=np.int64)
    new[old] = np.arange(len(old))
    return tuple(names[code] for code in old.tolist()), new


def _check_record(record: RecordLike, previous: int) -> None:
    if record.index == previous:
        raise UsageError(f"episode {record.index}: two records; expected one of each episode")
    if record.index < previous:
        raise UsageError(
            f"episode {record.index} after {previous}; expected an iterator to give them in order"
        )
    queries, way = sum(map(len, record.query)), len(record.classes)
    counts = {queries, len(record.labels), len(record.predictions), len(record.probabilities)}
    if len(counts) != 1 or not queries or len(record.support) != way:
        raise UsageError(
            f"episode {record.index}: query clips {queries}, labels {len(record.labels)}, "
            f"predictions {len(record.predictions)}, probabilities {len(record.probabilities)}, "
            f"lists of support clips {len(record.support)}, classes {way}; expected as many of the "
            "first four, at least one, and as many lists as classes"
        )


class _PredictionTableBuilder:
    """Builder of a `PredictionTable`: plain arrays that grow by one record at a time."""

    def __init__(self) -> None:
        self._class_codes, self._query_codes, self._support_codes = (
            _Encoder(),
            _Encoder(),
            _Encoder(),
        )
        self._index, self._queries, self._supports, self._ways = (array("q") for _ in range(4))
        self._label, self._predicted, self._query = (array("q") for _ in range(3))
        self._support, self._support_class, self._member = (array("q") for _ in range(3))
        self._probability, self._confidence = array("d"), array("d")
        self._failed = 0

    def add(self, record: RecordLike) -> None:
        """Add a record."""
        if record.status != "ok":
            self._failed += 1
            return
        _check_record(record, self._index[-1] if self._index else -1)
        codes, rows = self._class_codes.encode(record.classes), record.probabilities
        support_classes = [
            code for code, row in zip(codes, record.support, strict=True) for _ in row
        ]
        self._index.append(record.index)
        self._queries.append(len(rows))
        self._supports.append(len(support_classes))
        self._ways.append(len(codes))
        self._label.fromlist([codes[label] for label in record.labels])
        self._predicted.fromlist([codes[guess] for guess in record.predictions])
        self._query.fromlist(self._query_codes.encode(chain.from_iterable(record.query)))
        self._support.fromlist(self._support_codes.encode(chain.from_iterable(record.support)))
        self._support_class.fromlist(support_classes)
        self._member.fromlist(codes)
        self._probability.fromlist([*map(getitem, rows, record.labels)])
        self._confidence.fromlist([*map(getitem, rows, record.predictions)])

    def build(self) -> PredictionTable:
        """Build the table from all records that were added."""
        # codes of query clips come first, then those of clips that are support clips alone
        clips = self._query_codes
        support_code = _int_array(clips.encode(self._support_codes))
        support = _int_array(self._support)
        return PredictionTable(
            query=_int_array(self._query),
            support_clip=support_code[support] if len(support) else support,
            classes=tuple(self._class_codes),
            clips=tuple(clips),
            index=_int_array(self._index),
            episode=_repeat_positions(self._queries),
            label=_int_array(self._label),
            predicted=_int_array(self._predicted),
            probability=np.frombuffer(self._probability, dtype=np.float64),
            confidence=np.frombuffer(self._confidence, dtype=np.float64),
            support_episode=_repeat_positions(self._supports),
            support_class=_int_array(self._support_class),
            member_episode=_repeat_positions(self._ways),
            member_class=_int_array(self._member),
            failed=self._failed,
        )


class _Encoder(defaultdict[str, int]):
    """Mapping from names to codes, in the order of first appearance."""

    def __init__(self) -> None:
        super().__init__(self.__len__)

    def encode(self, names: Iterable[str]) -> list[int]:
        """Encode names; new names get the next codes."""
        return list(map(self.__getitem__, names))


def _int_array(values: array[int] | Sequence[int]) -> IntArray:
    integers = values if isinstance(values, array) else array("q", values)
    return np.frombuffer(integers, dtype=np.int64)  # no copy


def _repeat_positions(counts: array[int]) -> IntArray:
    return np.repeat(np.arange(len(counts)), _int_array(counts))
