"""What an evaluation returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any

from fewshot_i2v._stopped import Stopped
from fewshot_i2v.records import EpisodeRecord
from fewshot_i2v.report._columns import wrapped
from fewshot_i2v.report.matrix import render_matrix
from fewshot_i2v.report.rows import TableRow, over_seeds
from fewshot_i2v.report.terminal import render_table
from fewshot_i2v.statistics import Interval, bounded_interval


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


@dataclass(frozen=True)
class EvaluationResult:
    """All rows of an evaluation.

    Attributes:
        rows: one per adapter, start, head and shot, in the order of the configuration.
        output: the folder that holds the run folders.
        way: classes of an episode; a text such as "5-10" where episodes differ.
        split: name of the split.
        encoder: name of the encoder.
        remarks: what a user should know about how the rows ran.
        stopped: where episodes were drawn until the means were known well enough: how that ended.
    """

    rows: tuple[RowResult, ...]
    output: Path
    way: int | str
    split: str
    encoder: str
    remarks: tuple[str, ...] = ()
    stopped: Stopped | None = None

    @property
    def failed(self) -> int:
        """Failed episodes over all rows."""
        return sum(row.failed for row in self.rows)

    @property
    def chance(self) -> float | None:
        """Accuracy of guessing, the mean over the episodes of the first row that has any."""
        return next((row.chance for row in self.rows if row.chance is not None), None)

    def table(self) -> str:
        """The rows as aligned plain text, with a legend that says what the intervals cover."""
        shown = render_table(table_rows(self.rows), way=self.way, chance=self.chance)
        if self.stopped is None:
            return shown
        return "\n".join([shown, *wrapped([self.stopped.sentence()])])

    def matrix(self) -> str:
        """Adapters and starts against heads as Markdown, one table per number of shots."""
        return render_matrix(table_rows(self.rows), way=self.way, chance=self.chance)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {
            "split": self.split,
            "encoder": self.encoder,
            "way": self.way,
            "output": str(self.output),
            "remarks": list(self.remarks),
            "until": None if self.stopped is None else asdict(self.stopped),
            "rows": [row.to_dict() for row in self.rows],
        }


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
