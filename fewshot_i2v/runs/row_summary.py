"""Rows of a table, and the merging of rows of several training seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, mean, median, stdev
from typing import Any

from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.statistics import Interval, bounded_interval

FRESH = "fresh"
INPUT_MISMATCH = "read unlike its start"
"""Note of rows whose clips are read in another way than the starting point was trained with."""


@dataclass(frozen=True)
class TableRow:
    """One adapter, start, head and shot of the table.

    Attributes:
        adapter: label, such as "aim:scale=1.0".
        head: label.
        shot: support clips per class, or a range of them.
        accuracies: of each episode that succeeded, 0..1, by episode number.
        failed: episodes that failed.
        parameters: trained parameters of one episode, adapter and head.
        seconds_per_episode: typical time of an episode, or None where unknown.
        peak_memory_mb: in MiB, or None where unknown.
        note: shown beside the adapter's name, such as "reconstruction"; or empty.
        uses_names: whether the head read the class names.
        start: initial weights of the adapters: "fresh", "base-trained" or "meta-trained".
        start_name: name of the starting point; empty for "fresh".
        seen: whether the starting point was trained on classes or clips of the evaluation, or its
            state chosen on them.
        shared: whether episodes have clips in common.
        training_seed: where the row is one of several that differ in it.
        seed_means: mean accuracy of each training seed, where the row is the mean of several.
        macs_per_clip: multiply-accumulates of the adapted encoder, or None where unknown.
        key: equal for the training seeds of a row; empty where its name says that.
        learns_nothing: whether it was tuned on clips that were compared only with themselves.
    """

    adapter: str
    head: str
    shot: int | str
    accuracies: Mapping[int, float] = field(repr=False)
    failed: int = 0
    parameters: int = 0
    seconds_per_episode: float | None = None
    peak_memory_mb: float | None = None
    note: str = ""
    uses_names: bool = False
    start: str = FRESH
    start_name: str = ""
    seen: bool = False
    shared: bool = True
    training_seed: int | None = None
    seed_means: tuple[float, ...] = ()
    macs_per_clip: float | None = None
    key: str = field(default="", repr=False)
    learns_nothing: bool = False

    @property
    def seed_group_key(self) -> tuple[object, ...]:
        """Key that is equal for rows that differ only in the training seed."""
        names = (self.adapter, self.note, self.head, self.start, self.start_name, self.shot)
        return (self.key, *names)

    @property
    def seed_deviation(self) -> float | None:
        """Standard deviation between the means of training seeds; None with fewer than two."""
        return stdev(self.seed_means) if len(self.seed_means) > 1 else None


def mean_accuracy(row: TableRow, level: float) -> Interval | None:
    """Mean accuracy of a row with its interval; None where no episode succeeded."""
    if not row.accuracies:
        return None
    return bounded_interval(list(row.accuracies.values()), level, clips_shared=row.shared)


def methods_text(means: Sequence[Interval]) -> str:
    """Methods of some intervals, in a sentence or two."""
    methods = " or ".join(sorted({mean.method for mean in means}))
    asymmetric = any(
        abs(mean.low + mean.high - 2 * mean.mean) > 1e-9
        for mean in means
        if mean.low is not None and mean.high is not None
    )
    asymmetry_sentence = " Near 0 or 100 %, or with few episodes, it is not the same on both sides."
    return f"{methods} over episodes." + asymmetry_sentence * asymmetric


def merge_seeds(rows: Sequence[TableRow]) -> list[TableRow]:
    """Merge rows that differ only in the training seed, at the position of the first.

    The accuracy of an episode is the mean over the seeds, for the episodes that succeeded with
    every one of them.

    Args:
        rows: those without a training seed are left as they are.
    """
    groups: dict[tuple[object, ...], list[TableRow]] = defaultdict(list)
    for i, row in enumerate(rows):
        groups[(i,) if row.training_seed is None else row.seed_group_key].append(row)
    return [_average_rows(group) if len(group) > 1 else group[0] for group in groups.values()]


def _average_rows(rows: Sequence[TableRow]) -> TableRow:
    common = set.intersection(*(set(row.accuracies) for row in rows))
    times = [r.seconds_per_episode for r in rows if r.seconds_per_episode is not None]
    peaks = [r.peak_memory_mb for r in rows if r.peak_memory_mb is not None]
    means = tuple(fmean(row.accuracies[i] for i in common) for row in rows) if common else ()
    return replace(
        rows[0],
        accuracies={i: fmean(row.accuracies[i] for row in rows) for i in sorted(common)},
        failed=max(row.failed for row in rows),
        seconds_per_episode=median(times) if times else None,
        peak_memory_mb=max(peaks, default=None),
        training_seed=None,
        seed_means=means,
    )


_BASELINE_ADAPTER = "frozen"


def is_frozen(row: TableRow) -> bool:
    """Whether a row is of the frozen encoder without an adapter, the usual baseline."""
    return row.adapter.partition(":")[0] == _BASELINE_ADAPTER


def has_starts(rows: Sequence[TableRow]) -> bool:
    """Whether any row has a starting point, so that the table needs the column of starts."""
    return any(row.start != FRESH for row in rows)


def has_seeds(rows: Sequence[TableRow]) -> bool:
    """Whether any row is the mean over several training seeds."""
    return any(row.seed_means for row in rows)


@dataclass(frozen=True)
class RowResult:
    """One adapter, start, head and shot over all episodes.

    Attributes:
        adapter: label, such as "st-adapter" or "aim:scale=1.0".
        head: label, such as "linear".
        shot: support clips per class, or a range of them.
        interval: mean accuracy in [0, 1] with its interval, or None when no episode succeeded.
        episodes: number of episodes that succeeded.
        failed: number of episodes that failed, with the reason in the records.
        parameters: trained parameters of one episode, adapter and head.
        seconds_per_episode: median over episodes of tuning and prediction time.
        peak_memory_mb: largest over episodes, in MiB: of the process on the CPU, of one episode's
            share of the allocations on a GPU.
        folder: the run folder.
        accuracies: accuracy of each episode that succeeded, by episode number.
        note: shown beside the adapter's name, such as "reconstruction"; or empty.
        uses_names: whether the head read the class names.
        start: initial values of the adapters: "fresh", "base-trained" or "meta-trained".
        start_name: name of the starting point; empty for "fresh".
        seen: whether the starting point was trained or selected on classes or clips of this
            evaluation.
        ways: smallest and largest number of classes of an episode; (0, 0) without records.
        chance: accuracy of guessing, the mean over episodes; None without records.
        shared: whether episodes have clips in common.
        training_seed: where rows were run with several.
        key: equal for the training seeds of a row; empty where the name identifies the row.
        learns_nothing: whether fine-tuning compared each support clip only with itself.
    """

    adapter: str
    head: str
    shot: int | str
    interval: Interval | None
    episodes: int
    failed: int
    parameters: int
    seconds_per_episode: float
    peak_memory_mb: float
    folder: Path
    accuracies: Mapping[int, float] = field(repr=False)
    note: str = ""
    uses_names: bool = False
    start: str = "fresh"
    start_name: str = ""
    seen: bool = False
    ways: tuple[int, int] = (0, 0)
    chance: float | None = None
    shared: bool = True
    training_seed: int | None = None
    key: str = field(default="", repr=False)
    learns_nothing: bool = False

    @classmethod
    def from_records(
        cls,
        records: Iterable[EpisodeRecord],
        *,
        adapter: str,
        head: str,
        shot: int | str,
        parameters: int,
        display_flags: Mapping[str, Any],
        folder: Path,
        training_seed: int | None = None,
        key: str = "",
    ) -> RowResult:
        """Summarises the records of a run folder; `display_flags` are the `marks` of its header."""
        totals = RowTotals(display_flags)
        for record in records:
            totals.add(record)
        facts = {"adapter": adapter, "head": head, "shot": shot, "parameters": parameters}
        return totals.to_row(**facts, folder=folder, training_seed=training_seed, key=key)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain types, for JSON."""
        plain = {
            k: v
            for k, v in vars(self).items()
            if k not in {"interval", "accuracies", "ways", "key"}
        }
        interval = None if self.interval is None else vars(self.interval)
        return plain | {"folder": str(self.folder), "interval": interval}


class RowTotals:
    """Running totals of a row, to which records are added one by one.

    Args:
        display_flags: the `marks` of the row's header.
    """

    def __init__(self, display_flags: Mapping[str, Any]) -> None:
        self._display_flags = display_flags
        self._accuracies: dict[int, float] = {}
        self._seconds: list[float] = []
        self._memory = 0.0
        self._ways: list[int] = []
        self._clips: set[str] = set()
        self._clips_shared = not display_flags.get("disjoint")

    def add(self, record: EpisodeRecord) -> None:
        """Adds a record."""
        self._ways.append(len(record.classes))
        if record.accuracy is not None:
            self._accuracies[record.index] = record.accuracy
            self._seconds.append(record.seconds)
            self._memory = max(self._memory, record.peak_memory_mb)
        if not self._clips_shared:
            self._clips_shared = share_clips([record], self._clips)

    def to_row(self, **facts: Any) -> RowResult:
        """Returns the summary of the row.

        Args:
            facts: attributes of `RowResult` that records do not have.
        """
        start, ways = self._display_flags.get("start") or {}, self._ways
        return RowResult(
            interval=_accuracy_interval(self._accuracies, clips_shared=self._clips_shared),
            episodes=len(self._accuracies),
            failed=len(ways) - len(self._accuracies),
            seconds_per_episode=median(self._seconds) if self._seconds else 0.0,
            peak_memory_mb=self._memory,
            note=self._display_flags.get("note", ""),
            uses_names=self._display_flags.get("uses_names", False),
            start=start.get("kind", "fresh"),
            start_name=start.get("name", ""),
            seen=bool(start.get("seen")),
            learns_nothing=self._display_flags.get("learns_nothing", False),
            accuracies=self._accuracies,
            ways=(min(ways), max(ways)) if ways else (0, 0),
            chance=mean(1 / way for way in ways) if ways else None,
            shared=self._clips_shared,
            **facts,
        )


def _accuracy_interval(accuracies: Mapping[int, float], *, clips_shared: bool) -> Interval | None:
    return (
        bounded_interval(list(accuracies.values()), clips_shared=clips_shared)
        if accuracies
        else None
    )


def share_clips(records: Iterable[EpisodeRecord], previous_clips: set[str] | None = None) -> bool:
    """Whether two episodes share a clip; `previous_clips`, which grows, counts as an episode."""
    previous_clips = set() if previous_clips is None else previous_clips
    for record in records:
        names = {name for side in (record.support, record.query) for row in side for name in row}
        if names & previous_clips:
            return True
        previous_clips |= names
    return False


def table_rows(results: Iterable[RowResult]) -> list[TableRow]:
    """Rows of a table; rows that differ only in the training seed are merged."""
    return merge_seeds(
        [
            TableRow(
                adapter=row.adapter,
                note=row.note,
                head=row.head,
                uses_names=row.uses_names,
                start=row.start,
                start_name=row.start_name,
                seen=row.seen,
                shared=row.shared,
                shot=row.shot,
                accuracies=row.accuracies,
                failed=row.failed,
                parameters=row.parameters,
                seconds_per_episode=row.seconds_per_episode,
                peak_memory_mb=row.peak_memory_mb,
                training_seed=row.training_seed,
                key=row.key,
                learns_nothing=row.learns_nothing,
            )
            for row in results
        ]
    )
