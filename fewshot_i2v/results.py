"""What an evaluation returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from fewshot_i2v.records import EpisodeRecord
from fewshot_i2v.report.matrix import render_matrix
from fewshot_i2v.report.terminal import TableRow, render_table
from fewshot_i2v.statistics import Interval, mean_interval


@dataclass(frozen=True)
class RowResult:
    """One adapter, start, head and shot over all episodes.

    Attributes:
        adapter: label, such as "st-adapter" or "aim:scale=1.0".
        head: label, such as "linear".
        shot: support clips per class.
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
    """

    adapter: str
    head: str
    shot: int
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

    @classmethod
    def from_records(
        cls,
        records: Iterable[EpisodeRecord],
        *,
        adapter: str,
        head: str,
        shot: int,
        parameters: int,
        marks: Mapping[str, Any],
        folder: Path,
    ) -> RowResult:
        """Sums up the records of a run folder; `marks` are those of its header."""
        start = marks.get("start") or {}
        records = list(records)
        good = [r for r in records if r.status == "ok"]
        accuracies = {r.index: r.accuracy for r in good if r.accuracy is not None}
        return cls(
            adapter=adapter,
            head=head,
            shot=shot,
            interval=mean_interval(list(accuracies.values())) if accuracies else None,
            episodes=len(good),
            failed=len(records) - len(good),
            parameters=parameters,
            seconds_per_episode=median(r.seconds for r in good) if good else 0.0,
            peak_memory_mb=max((r.peak_memory_mb for r in good), default=0.0),
            folder=folder,
            note=marks.get("note", ""),
            uses_names=marks.get("uses_names", False),
            start=start.get("kind", "fresh"),
            start_name=start.get("name", ""),
            seen=bool(start.get("seen")),
            accuracies=accuracies,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        plain = {k: v for k, v in vars(self).items() if k not in {"interval", "accuracies"}}
        interval = None if self.interval is None else vars(self.interval)
        return plain | {"folder": str(self.folder), "interval": interval}


@dataclass(frozen=True)
class EvaluationResult:
    """All rows of an evaluation.

    Attributes:
        rows: one per adapter, start, head and shot, in the order of the configuration.
        output: the folder that holds the run folders.
        way: classes of an episode.
        split: name of the split.
        encoder: name of the encoder.
        remarks: what a user should know about how the rows ran.
    """

    rows: tuple[RowResult, ...]
    output: Path
    way: int
    split: str
    encoder: str
    remarks: tuple[str, ...] = ()

    @property
    def failed(self) -> int:
        """Failed episodes over all rows."""
        return sum(row.failed for row in self.rows)

    def table(self) -> str:
        """The rows as aligned plain text, with a legend that says what the intervals cover."""
        return render_table(self._rows(), way=self.way)

    def matrix(self) -> str:
        """Adapters and starts against heads as Markdown, one table per number of shots."""
        return render_matrix(self._rows(), way=self.way)

    def _rows(self) -> list[TableRow]:
        return [
            TableRow(
                adapter=row.adapter,
                note=row.note,
                head=row.head,
                uses_names=row.uses_names,
                start=row.start,
                start_name=row.start_name,
                seen=row.seen,
                shot=row.shot,
                accuracies=row.accuracies,
                failed=row.failed,
                parameters=row.parameters,
                seconds_per_episode=row.seconds_per_episode,
                peak_memory_mb=row.peak_memory_mb,
            )
            for row in self.rows
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {
            "split": self.split,
            "encoder": self.encoder,
            "way": self.way,
            "output": str(self.output),
            "remarks": list(self.remarks),
            "rows": [row.to_dict() for row in self.rows],
        }
