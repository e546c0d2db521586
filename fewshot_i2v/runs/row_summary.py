"""The rows of a table, and rows of several training seeds as one."""

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
READ_OTHERWISE = "read unlike its start"
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
        note: said beside the adapter's name, such as "reconstruction"; or empty.
        uses_names: whether the head read the class names.
        start: what the adapters began as: "fresh", "base-trained" or "meta-trained".
        start_name: name of the starting point; empty for "fresh".
        seen: whether the starting point was trained on classes or clips of the evaluation, or its
            state chosen on them.
        shared: whether episodes have clips in common.
        training_seed: where the row is one of several that differ in it.
        seed_means: mean accuracy of each training seed, where the row is the mean of several.
        macs_per_clip: multiply-accumulates of the adapted encoder, or None where unknown.
        key: equal for the training seeds of a row; empty where its name says that.
        learns_nothing: whether it was tuned on clips that were compared with themselves alone.
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
    def alike(self) -> tuple[object, ...]:
        """Equal for rows that differ in the training seed alone."""
        names = (self.adapter, self.note, self.head, self.start, self.start_name, self.shot)
        return (self.key, *names)

    @property
    def seed_deviation(self) -> float | None:
        """Standard deviation between the means of training seeds; None with fewer than two."""
        return stdev(self.seed_means) if len(self.seed_means) > 1 else None


def mean_of(row: TableRow, level: float) -> Interval | None:
    """Mean accuracy of a row with its interval; None where no episode succeeded."""
    if not row.accuracies:
        return None
    return bounded_interval(list(row.accuracies.values()), level, shared=row.shared)


def methods_of(means: Sequence[Interval]) -> str:
    """How some intervals were computed, in a sentence or two."""
    methods = " or ".join(sorted({mean.method for mean in means}))
    lopsided = any(
        abs(mean.low + mean.high - 2 * mean.mean) > 1e-9
        for mean in means
        if mean.low is not None and mean.high is not None
    )
    more = " Near 0 or 100 %, or with few episodes, it is not the same on both sides."
    return f"{methods} over episodes." + more * lopsided


def over_seeds(rows: Sequence[TableRow]) -> list[TableRow]:
    """Rows that differ in the training seed alone become one, in the place of the first.

    Its accuracy of an episode is the mean over the seeds, for the episodes that succeeded with
    every one of them.

    Args:
        rows: those without a training seed are left as they are.
    """
    groups: dict[tuple[object, ...], list[TableRow]] = defaultdict(list)
    for i, row in enumerate(rows):
        groups[(i,) if row.training_seed is None else row.alike].append(row)
    return [_mean_row(group) if len(group) > 1 else group[0] for group in groups.values()]


def _mean_row(rows: Sequence[TableRow]) -> TableRow:
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


_BASELINE = "frozen"


def is_frozen(row: TableRow) -> bool:
    """Whether a row is of the frozen encoder alone, which others are compared with."""
    return row.adapter.partition(":")[0] == _BASELINE


def has_starts(rows: Sequence[TableRow]) -> bool:
    """Whether any row has a starting point, so that what each began as must be said."""
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
        episodes: episodes that succeeded.
        failed: episodes that failed, with the reason in the records.
        parameters: trained parameters of one episode, adapter and head.
        seconds_per_episode: median over episodes of tuning and prediction time.
        peak_memory_mb: largest over episodes, in MiB: of the process on the CPU, of one episode's
            share of the allocations on a GPU.
        folder: the run folder.
        accuracies: accuracy of each episode that succeeded, by episode number.
        note: said beside the adapter's name, such as "reconstruction"; or empty.
        uses_names: whether the head read the class names.
        start: what the adapters began as: "fresh", "base-trained" or "meta-trained".
        start_name: name of the starting point; empty for "fresh".
        seen: whether the starting point was trained on classes or clips of this evaluation, or its
            state chosen on them.
        ways: least and most classes of an episode; (0, 0) where there is no record.
        chance: accuracy of guessing, the mean over episodes; None where there is no record.
        shared: whether episodes have clips in common.
        training_seed: where rows were run with several.
        key: equal for the training seeds of a row; empty where its name says that.
        learns_nothing: whether it was tuned on clips that were compared with themselves alone.
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
        marks: Mapping[str, Any],
        folder: Path,
        training_seed: int | None = None,
        key: str = "",
    ) -> RowResult:
        """Sums up the records of a run folder; `marks` are those of its header."""
        sums = Sums(marks)
        for record in records:
            sums.add(record)
        facts = {"adapter": adapter, "head": head, "shot": shot, "parameters": parameters}
        return sums.row(**facts, folder=folder, training_seed=training_seed, key=key)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        plain = {
            k: v
            for k, v in vars(self).items()
            if k not in {"interval", "accuracies", "ways", "key"}
        }
        interval = None if self.interval is None else vars(self.interval)
        return plain | {"folder": str(self.folder), "interval": interval}


class Sums:
    """What a row says of its records, which are taken up one by one.

    Args:
        marks: those of the row's header.
    """

    def __init__(self, marks: Mapping[str, Any]) -> None:
        self._marks = marks
        self._accuracies: dict[int, float] = {}
        self._seconds: list[float] = []
        self._memory = 0.0
        self._ways: list[int] = []
        self._clips: set[str] = set()
        self._shared = not marks.get("disjoint")

    def add(self, record: EpisodeRecord) -> None:
        """Takes up a record."""
        self._ways.append(len(record.classes))
        if record.accuracy is not None:
            self._accuracies[record.index] = record.accuracy
            self._seconds.append(record.seconds)
            self._memory = max(self._memory, record.peak_memory_mb)
        if not self._shared:
            self._shared = share_clips([record], self._clips)

    def row(self, **facts: Any) -> RowResult:
        """The row.

        Args:
            facts: attributes of `RowResult` that records do not have.
        """
        start, ways = self._marks.get("start") or {}, self._ways
        return RowResult(
            interval=_interval(self._accuracies, shared=self._shared),
            episodes=len(self._accuracies),
            failed=len(ways) - len(self._accuracies),
            seconds_per_episode=median(self._seconds) if self._seconds else 0.0,
            peak_memory_mb=self._memory,
            note=self._marks.get("note", ""),
            uses_names=self._marks.get("uses_names", False),
            start=start.get("kind", "fresh"),
            start_name=start.get("name", ""),
            seen=bool(start.get("seen")),
            learns_nothing=self._marks.get("learns_nothing", False),
            accuracies=self._accuracies,
            ways=(min(ways), max(ways)) if ways else (0, 0),
            chance=mean(1 / way for way in ways) if ways else None,
            shared=self._shared,
            **facts,
        )


def _interval(accuracies: Mapping[int, float], *, shared: bool) -> Interval | None:
    return bounded_interval(list(accuracies.values()), shared=shared) if accuracies else None


def share_clips(records: Iterable[EpisodeRecord], seen: set[str] | None = None) -> bool:
    """Whether a clip is in two of the episodes, or in one and in `seen`, which it is added to."""
    seen = set() if seen is None else seen
    for record in records:
        names = {name for part in (record.support, record.query) for row in part for name in row}
        if names & seen:
            return True
        seen |= names
    return False


def table_rows(results: Iterable[RowResult]) -> list[TableRow]:
    """The rows of a table: those that differ in the training seed alone are one."""
    return over_seeds(
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
