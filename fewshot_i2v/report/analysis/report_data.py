"""Sections of a report: the rows of each table with the analysis of their records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from fewshot_i2v.report.analysis.decisions import BestRow, GainVerdict, best_rows, gain_verdicts
from fewshot_i2v.report.analysis.generalization import (
    GeneralizationIntervals,
    generalization_intervals,
)
from fewshot_i2v.report.analysis.recommendation import Recommendation, recommend_rows
from fewshot_i2v.report.analysis.run_analysis import (
    CalibrationMetrics,
    RunAnalysis,
    calibration_metrics,
)
from fewshot_i2v.report.comparison.pair_test import RowTables
from fewshot_i2v.report.tables.accuracy_table import sort_shots
from fewshot_i2v.runs.row_summary import (
    FRESH,
    RowSummary,
    RowTotals,
    average_rows,
    gain_over_frozen,
    group_seeds,
    header_facts,
)
from fewshot_i2v.runs.run_folder import read_run
from fewshot_i2v.statistics import Interval

LEVEL = 0.95
"""Of all intervals of a page."""
_START_ORDER = (FRESH, "base-trained", "meta-trained")


@dataclass(frozen=True, eq=False)
class ReportRow:
    """One row of a table with the analysis of its records.

    Attributes:
        summary: as the table shows it.
        analysis: classes, confusions, calibration and extreme episodes.
    """

    summary: RowSummary
    analysis: RunAnalysis = field(repr=False)

    @cached_property
    def metrics(self) -> CalibrationMetrics | None:
        """Metrics beyond its accuracy; None where no episode succeeded."""
        return calibration_metrics(self.analysis, LEVEL)

    @cached_property
    def generalization(self) -> GeneralizationIntervals | None:
        """Intervals for other clips, classes and seeds; None where there is none."""
        outcomes, row = self.analysis.outcomes, self.summary
        if not outcomes:
            return None
        return generalization_intervals(
            row.adapter, row.shot, outcomes, clips_shared=row.shared, level=LEVEL
        )


def read_report_row(folder: Path) -> ReportRow:
    """Read a run folder as a row, in one pass over its records.

    Raises:
        RecordError: when it is damaged.
    """
    run = read_run(folder)
    totals = RowTotals(run.header.get("marks", {}))
    analysis = RunAnalysis.from_records(run.records, on_record=totals.add)
    return ReportRow(totals.to_row(**header_facts(run.header, folder)), analysis)


@dataclass(frozen=True)
class ReproductionRecipe:
    """Configuration and command that run an evaluation again.

    Attributes:
        folder: the evaluation, as the user gave it.
        config: a configuration as YAML text.
        command: command line to type once that is saved as run.yaml.
        remarks: notes on it, a sentence each.
    """

    folder: str
    config: str
    command: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ReportSection:
    """One table: rows with the same episodes and the same encoder.

    Attributes:
        title: its content in a few words.
        setting: the setting in words.
        way: classes of an episode, or a text such as "5-10".
        chance: accuracy of guessing, 0..1; None: 1 / way.
        rows: in the order to show them; those of several training seeds are one already.
        recipes: how to run it again, one for each evaluation that rows are of.
        clips: film strips as `data:` addresses, by clip name.
        clips_note: why clips are not shown, or what is shown of them; or empty.
        detail: name of the run folder whose row is shown in detail; None: the best one of the
            fewest shots.
        stopping_notes: how evaluations with a target half-width ended.
    """

    title: str
    setting: str
    way: int | str
    chance: float | None
    rows: tuple[ReportRow, ...]
    recipes: tuple[ReproductionRecipe, ...] = ()
    clips: Mapping[str, str] = field(default_factory=dict, repr=False)
    clips_note: str = ""
    detail: str | None = None
    stopping_notes: tuple[str, ...] = ()

    @property
    def summaries(self) -> list[RowSummary]:
        """Summaries of its rows."""
        return [row.summary for row in self.rows]

    @property
    def prediction_tables(self) -> list[RowTables]:
        """Predictions of each row."""
        return [row.analysis.outcomes for row in self.rows]

    @cached_property
    def gains(self) -> list[Interval | None]:
        """Gain of each row over the frozen encoder."""
        return [gain_over_frozen(row, self.summaries) for row in self.summaries]

    @cached_property
    def verdicts(self) -> tuple[dict[int, GainVerdict], dict[int | str, BestRow]]:
        """Each row against frozen, by position, and the best row of each number of shots."""
        rows, tables = self.summaries, self.prediction_tables
        return gain_verdicts(rows, LEVEL, tables), best_rows(rows, LEVEL, tables)

    @cached_property
    def recommendations(self) -> list[Recommendation]:
        """The row to use at each number of shots."""
        return recommend_rows(self.summaries, LEVEL, self.prediction_tables)

    def detail_position(self) -> int | None:
        """Position of the row that is shown in detail; None where no episode succeeded."""
        for i, row in enumerate(self.rows):
            summary = row.summary
            folders = (summary.folder, *summary.seed_folders, *summary.repeat_folders)
            if self.detail in {folder.name for folder in folders}:
                return i
        best = best_rows(self.summaries, LEVEL)
        if best:
            return next(iter(best.values())).row
        return next((i for i, row in enumerate(self.rows) if row.summary.accuracies), None)


def sort_rows(rows: Sequence[ReportRow]) -> list[ReportRow]:
    """Sort rows by adapter, the frozen encoder first; then by start, head and shots.

    Where nothing else decides, their order stays.
    """
    summaries = sorted((row.summary for row in rows), key=lambda row: not row.is_frozen)
    adapters = list(dict.fromkeys(row.adapter for row in summaries))
    heads = list(dict.fromkeys(row.summary.head for row in rows))
    shots = sort_shots(row.shot for row in summaries)

    def _key(report_row: ReportRow) -> tuple[object, ...]:
        row = report_row.summary
        return (
            adapters.index(row.adapter),
            _START_ORDER.index(row.start) if row.start in _START_ORDER else len(_START_ORDER),
            row.start_name,
            heads.index(row.head),
            shots.index(row.shot),
            row.training_seed or 0,
        )

    return sorted(rows, key=_key)


def merge_rows(rows: Sequence[ReportRow]) -> tuple[ReportRow, ...]:
    """Merge rows that differ only in the training seed, at the position of the first."""
    groups = group_seeds([row.summary for row in rows])
    return tuple(
        ReportRow(
            average_rows([rows[i].summary for i in group]),
            RunAnalysis.merge_seeds([rows[i].analysis for i in group]),
        )
        for group in groups
    )
