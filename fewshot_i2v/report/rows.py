"""The rows of a table, and rows of several training seeds as one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, median, stdev

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
