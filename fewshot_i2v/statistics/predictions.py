"""What a run's records say about clips and classes, in arrays."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from operator import getitem
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.errors import UsageError

Codes = NDArray[np.int64]
Numbers = NDArray[np.float64]


class Recorded(Protocol):
    """What is read of a record: that of the run folder has it, and more."""

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


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The outcomes of a run: T episodes that succeeded, R predictions, S support clips.

    Predictions, support clips and members are in the order of the episodes, those in the order of
    their numbers. Classes and clips are codes, counted from 0: places in `classes` and `clips`.

    Attributes:
        classes: names of the classes.
        clips: names of the clips.
        index: number of each episode, (T,), ascending.
        episode: position of the episode of each prediction, (R,), 0..T-1: a place in `index`.
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

    classes: tuple[str, ...] = field(repr=False)
    clips: tuple[str, ...] = field(repr=False)
    index: Codes = field(repr=False)
    episode: Codes = field(repr=False)
    label: Codes = field(repr=False)
    predicted: Codes = field(repr=False)
    query: Codes = field(repr=False)
    probability: Numbers = field(repr=False)
    confidence: Numbers = field(repr=False)
    support_episode: Codes = field(repr=False)
    support_clip: Codes = field(repr=False)
    support_class: Codes = field(repr=False)
    member_episode: Codes = field(repr=False)
    member_class: Codes = field(repr=False)
    failed: int = 0

    @classmethod
    def from_records(cls, records: Iterable[Recorded]) -> Outcomes:
        """Reads records, in any order; those that failed are counted and left out.

        Args:
            records: each with `index`, `status`, `classes`, `support`, `query`, `labels`,
                `predictions` and `probabilities`, as `fewshot_i2v.runs` has them;
                query clips follow each other in the order of the labels. Of an iterator, which must
                give them in the order of their numbers, one at a time is in memory.

        Raises:
            UsageError: when two records are of one episode, or one has not as many query clips as
                labels, or not one list of support clips for each class.
        """
        if not isinstance(records, Iterator):
            records = sorted(records, key=lambda record: record.index)
        gathered = _Gathered()
        for record in records:
            gathered.add(record)
        return gathered.outcomes()

    @classmethod
    def pooled(cls, several: Sequence[Outcomes]) -> Outcomes:
        """The predictions of several runs of the same episodes, such as those of training seeds.

        An episode then has the predictions of all of them, so its accuracy is the mean over them,
        and a clip that is left out is left out of all.

        Raises:
            UsageError: when there is none, or episodes differ.
        """
        if not several:
            raise UsageError("nothing to pool; expected the outcomes of at least one run")
        first = several[0]
        if len(several) == 1:
            return first
        for other in several[1:]:
            if not first.same_episodes(other):
                raise UsageError("outcomes of different episodes; expected the same ones of each")
        order = np.argsort(np.concatenate([o.episode for o in several]), kind="stable")

        def _together(name: str) -> NDArray[Any]:
            return np.concatenate([getattr(o, name) for o in several])[order]

        return replace(
            first,
            episode=_together("episode"),
            label=_together("label"),
            predicted=_together("predicted"),
            query=_together("query"),
            probability=_together("probability"),
            confidence=_together("confidence"),
            failed=max(o.failed for o in several),
        )

    def only(self, indices: Sequence[int]) -> Outcomes:
        """Those of some episodes, with the codes that `from_records` gives their records alone.

        Args:
            indices: numbers of episodes; those that are not there are left out.
        """
        kept = np.isin(self.index, np.array(indices, dtype=np.int64))
        if kept.all():
            return self
        new = np.cumsum(kept) - 1
        own, given, member = (
            kept[of] for of in (self.episode, self.support_episode, self.member_episode)
        )
        classes, class_of = _renumbered(self.classes, self.member_class[member])
        query, support = self.query[own], self.support_clip[given]
        clips, clip_of = _renumbered(self.clips, np.concatenate([query, support]))
        return replace(
            self,
            classes=classes,
            clips=clips,
            index=self.index[kept],
            episode=new[self.episode[own]],
            label=class_of[self.label[own]],
            predicted=class_of[self.predicted[own]],
            query=clip_of[query],
            probability=self.probability[own],
            confidence=self.confidence[own],
            support_episode=new[self.support_episode[given]],
            support_clip=clip_of[support],
            support_class=class_of[self.support_class[given]],
            member_episode=new[self.member_episode[member]],
            member_class=class_of[self.member_class[member]],
        )

    def same_episodes(self, other: Outcomes) -> bool:
        """Whether another run was asked the same episodes."""
        names = ("index", "episode", "label", "query", "support_episode", "support_clip")
        return (self.classes, self.clips) == (other.classes, other.clips) and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in names
        )

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Whether each prediction is the label, (R,)."""
        return np.equal(self.label, self.predicted)

    @cached_property
    def queries(self) -> Codes:
        """Number of query clips of each episode, (T,)."""
        return np.bincount(self.episode, minlength=len(self.index))

    @cached_property
    def accuracies(self) -> Numbers:
        """Accuracy of each episode, (T,), 0..1."""
        rights = np.bincount(self.episode, self.right, minlength=len(self.index))
        return np.asarray(rights / self.queries, dtype=np.float64)

    @cached_property
    def weights(self) -> Numbers:
        """Share of each prediction in the mean over episodes, (R,); their sum is 1."""
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


def _renumbered(names: Sequence[str], codes: Codes) -> tuple[tuple[str, ...], Codes]:
    """Names of the codes in the order of first appearance, and the new code of each old one."""
    old, first = np.unique(codes, return_index=True)
    old = old[np.argsort(first)]
    new = np.zeros(len(names), dtype=np.int64)
    new[old] = np.arange(len(old))
    return tuple(names[code] for code in old.tolist()), new


def _check(record: Recorded, earlier: int) -> None:
    if record.index == earlier:
        raise UsageError(f"episode {record.index}: two records; expected one of each episode")
    if record.index < earlier:
        raise UsageError(
            f"episode {record.index} after {earlier}; expected an iterator to give them in order"
        )
    queries, way = sum(map(len, record.query)), len(record.classes)
    counts = {queries, len(record.labels), len(record.predictions), len(record.probabilities)}
    if len(counts) != 1 or not queries or len(record.support) != way:
        raise UsageError(
            f"episode {record.index}: {queries} query clips, {len(record.labels)} labels, "
            f"{len(record.predictions)} predictions, {len(record.support)} lists of support "
            f"clips for {way} classes; expected as many of the first three, at least one, and "
            "as many lists as classes"
        )


class _Gathered:
    """Outcomes in the making: plain arrays that grow by a record at a time."""

    def __init__(self) -> None:
        self._classes, self._asked, self._given = _Codes(), _Codes(), _Codes()
        self._index, self._queries, self._supports, self._ways = (array("q") for _ in range(4))
        self._label, self._predicted, self._query = (array("q") for _ in range(3))
        self._support, self._support_class, self._member = (array("q") for _ in range(3))
        self._probability, self._confidence = array("d"), array("d")
        self._failed = 0

    def add(self, record: Recorded) -> None:
        """Take up a record."""
        if record.status != "ok":
            self._failed += 1
            return
        _check(record, self._index[-1] if self._index else -1)
        codes, rows = self._classes.of(record.classes), record.probabilities
        given = [code for code, row in zip(codes, record.support, strict=True) for _ in row]
        self._index.append(record.index)
        self._queries.append(len(rows))
        self._supports.append(len(given))
        self._ways.append(len(codes))
        self._label.fromlist([codes[label] for label in record.labels])
        self._predicted.fromlist([codes[guess] for guess in record.predictions])
        self._query.fromlist(self._asked.of(chain.from_iterable(record.query)))
        self._support.fromlist(self._given.of(chain.from_iterable(record.support)))
        self._support_class.fromlist(given)
        self._member.fromlist(codes)
        self._probability.fromlist([*map(getitem, rows, record.labels)])
        self._confidence.fromlist([*map(getitem, rows, record.predictions)])

    def outcomes(self) -> Outcomes:
        """The outcomes of all that was taken up."""
        # codes of query clips come first, then those of clips that are support clips alone
        clips = self._asked
        of_support = _ints(clips.of(self._given))
        support = _ints(self._support)
        return Outcomes(
            query=_ints(self._query),
            support_clip=of_support[support] if len(support) else support,
            classes=tuple(self._classes),
            clips=tuple(clips),
            index=_ints(self._index),
            episode=_positions(self._queries),
            label=_ints(self._label),
            predicted=_ints(self._predicted),
            probability=np.frombuffer(self._probability, dtype=np.float64),
            confidence=np.frombuffer(self._confidence, dtype=np.float64),
            support_episode=_positions(self._supports),
            support_class=_ints(self._support_class),
            member_episode=_positions(self._ways),
            member_class=_ints(self._member),
            failed=self._failed,
        )


class _Codes(defaultdict[str, int]):
    """Names and their codes, in the order of first appearance."""

    def __init__(self) -> None:
        super().__init__(self.__len__)

    def of(self, names: Iterable[str]) -> list[int]:
        """The code of each name; new names get the next ones."""
        return list(map(self.__getitem__, names))


def _ints(values: array[int] | Sequence[int]) -> Codes:
    given = values if isinstance(values, array) else array("q", values)
    return np.frombuffer(given, dtype=np.int64)  # no copy


def _positions(counts: array[int]) -> Codes:
    return np.repeat(np.arange(len(counts)), _ints(counts))
