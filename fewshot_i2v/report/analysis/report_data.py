"""Sections of a report: the rows of each table with the analysis of their records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath
from typing import Any

from fewshot_i2v.report.analysis.generalization import (
    GeneralizationIntervals,
    generalization_intervals,
)
from fewshot_i2v.report.analysis.run_analysis import (
    CalibrationMetrics,
    RunAnalysis,
    calibration_metrics,
)
from fewshot_i2v.report.analysis.significance import BestRow, GainVerdict, best_rows, gain_verdicts
from fewshot_i2v.runs.row_summary import FRESH, TableRow, is_frozen, merge_seeds

LEVEL = 0.95
"""Of all intervals of a page."""
_START_ORDER = (FRESH, "base-trained", "meta-trained")


@dataclass(frozen=True, eq=False)
class ReportRow:
    """One row of a table with the analysis of its records.

    Attributes:
        table: as the table shows it.
        analysis: classes, confusions, calibration and extreme episodes.
        header: content of its `run.json`.
        folder: the run folder as the user gave it.
        other_folders: those of its other training seeds.
    """

    table: TableRow
    analysis: RunAnalysis = field(repr=False)
    header: Mapping[str, Any] = field(repr=False)
    folder: str
    other_folders: tuple[str, ...] = ()

    @cached_property
    def metrics(self) -> CalibrationMetrics | None:
        """Metrics beyond its accuracy; None where no episode succeeded."""
        return calibration_metrics(self.analysis, LEVEL)

    @cached_property
    def generalization(self) -> GeneralizationIntervals | None:
        """Intervals for other clips, classes and seeds; None where there is none."""
        outcomes, table = self.analysis.outcomes, self.table
        if not outcomes:
            return None
        return generalization_intervals(
            table.adapter, table.shot, outcomes, clips_shared=table.shared, level=LEVEL
        )


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
    def table_rows(self) -> list[TableRow]:
        """Table rows of the section."""
        return [row.table for row in self.rows]

    @cached_property
    def verdicts(self) -> tuple[dict[int, GainVerdict], dict[int | str, BestRow]]:
        """Each row against frozen, by position, and the best row of each number of shots."""
        rows, analyses = self.table_rows, [row.analysis for row in self.rows]
        return gain_verdicts(rows, LEVEL, analyses), best_rows(rows, LEVEL, analyses)

    def detail_position(self) -> int | None:
        """Position of the row that is shown in detail; None where no episode succeeded."""
        for i, row in enumerate(self.rows):
            if self.detail in {
                PurePath(folder).name for folder in (row.folder, *row.other_folders)
            }:
                return i
        best = best_rows(self.table_rows, LEVEL)
        if best:
            return next(iter(best.values())).row
        return next((i for i, row in enumerate(self.rows) if row.table.accuracies), None)


def sort_rows(rows: Sequence[ReportRow]) -> list[ReportRow]:
    """Sort rows by adapter, the frozen encoder first; then by start, head and shots.

    Args:
        rows: in the order of their runs, which stays where nothing else decides.
    """
    tables = sorted((row.table for row in rows), key=lambda table: not is_frozen(table))
    adapters = list(dict.fromkeys(table.adapter for table in tables))
    heads = list(dict.fromkeys(row.table.head for row in rows))
    shots = sorted({t.shot for t in tables}, key=lambda shot: (isinstance(shot, str), shot))

    def _key(row: ReportRow) -> tuple[object, ...]:
        table_row = row.table
        start = (
            _START_ORDER.index(table_row.start)
            if table_row.start in _START_ORDER
            else len(_START_ORDER)
        )
        adapter_and_head = (
            adapters.index(table_row.adapter),
            start,
            table_row.start_name,
            heads.index(table_row.head),
        )
        return *adapter_and_head, shots.index(table_row.shot), table_row.training_seed or 0

    return sorted(rows, key=_key)


def merge_rows(rows: Sequence[ReportRow]) -> tuple[ReportRow, ...]:
    """Merge rows that differ only in the training seed, at the position of the first."""
    groups: dict[tuple[object, ...], list[ReportRow]] = {}
    for i, row in enumerate(rows):
        key = (i,) if row.table.training_seed is None else row.table.seed_group_key
        groups.setdefault(key, []).append(row)
    return tuple(
        ReportRow(
            merge_seeds([row.table for row in group])[0],
            RunAnalysis.merge_seeds([row.analysis for row in group]),
            _merged_header(group),
            group[0].folder,
            tuple(row.folder for row in group[1:]),
        )
        for group in groups.values()
    )


def _merged_header(group: Sequence[ReportRow]) -> Mapping[str, Any]:
    """Header of the first row, with the training seeds of all."""
    header = group[0].header
    if len(group) == 1:
        return header
    seeds = ", ".join(str(row.table.training_seed) for row in group)
    config = {**header["identity"]["config"], "training_seed": seeds}
    return {**header, "identity": {**header["identity"], "config": config}}
