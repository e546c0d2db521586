"""Accuracy table of a page: the cells and legend of the terminal, with keys for sorting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fewshot_i2v.report.analysis.report_data import LEVEL, ReportSection
from fewshot_i2v.report.tables import terminal
from fewshot_i2v.runs import row_summary
from fewshot_i2v.runs.row_summary import TableRow, mean_accuracy
from fewshot_i2v.statistics import Interval

LEFT_COLUMNS = frozenset({"adapter", "start", "head", "names"})
"""Columns of text."""
_MACS_NOTE = (
    "GMACs/clip: 10^9 multiply-accumulates of the adapted encoder for one clip; a prediction takes "
    "that once for each clip, a step of fine-tuning about three times for each support clip."
)


@dataclass(frozen=True)
class TableCell:
    """One cell of a table.

    Attributes:
        text: its text.
        value: sort key: a number as text, or empty where it is sorted by its text.
    """

    text: str
    value: str = ""


@dataclass(frozen=True)
class AccuracyTable:
    """A table with its legend.

    Attributes:
        columns: cells by heading, top to bottom.
        notes: what headings mean and intervals cover, one sentence or two each.
        means: mean accuracy of each row with its interval.
        gains: gain of each row over the frozen encoder.
    """

    columns: dict[str, list[TableCell]]
    notes: list[str]
    means: list[Interval | None]
    gains: list[Interval | None]


def accuracy_table(section: ReportSection) -> AccuracyTable:
    """Table of a section's rows that `render_table` writes, as cells and notes."""
    rows, way, level = section.table_rows, section.way, LEVEL
    # the terminal's own parts, so that a page cannot say anything else than it does
    means = [mean_accuracy(row, level) for row in rows]
    gains = [terminal.gain_over_frozen(row, rows, level) for row in rows]
    cells_by_heading = terminal.table_columns(rows, means, gains, level)
    cells_by_heading = _with_macs(cells_by_heading, rows)
    absent = {
        "over frozen": not any(gains),
        "over seeds": not row_summary.has_seeds(rows),
        "names": not any(row.uses_names for row in rows),
        "start": not row_summary.has_starts(rows),
    }
    notes = terminal.table_legend(rows, [*filter(None, means)], [*filter(None, gains)])
    chance = terminal.chance_accuracy(way) if section.chance is None else section.chance
    if any(row.macs_per_clip is not None for row in rows):
        notes.append(_MACS_NOTE)
    notes.append(f"Guessing among {way} classes gives {100 * chance:.1f} %.")
    notes += section.stopping_notes
    values = _sort_values(rows, means, gains)
    columns = {
        heading: [
            TableCell(text, value)
            for text, value in zip(cells, values.get(heading, [""] * len(cells)), strict=True)
        ]
        for heading, cells in cells_by_heading.items()
        if not absent.get(heading)
    }
    return AccuracyTable(columns, notes, means, gains)


def _with_macs(
    cells_by_heading: dict[str, list[str]], rows: Sequence[TableRow]
) -> dict[str, list[str]]:
    """Add the column of multiply-accumulates after the parameters, where any are known."""
    macs = [row.macs_per_clip for row in rows]
    if all(value is None for value in macs):
        return cells_by_heading
    cells = ["-" if value is None else f"{value / 1e9:.3g}" for value in macs]
    pairs = list(cells_by_heading.items())
    position = list(cells_by_heading).index("parameters") + 1
    return dict([*pairs[:position], ("GMACs/clip", cells), *pairs[position:]])


def _sort_values(
    rows: Sequence[TableRow], means: Sequence[Interval | None], gains: Sequence[Interval | None]
) -> dict[str, list[str]]:
    """Sort keys of the columns of numbers."""
    return {
        "shot": [_sort_number(row.shot if isinstance(row.shot, int) else None) for row in rows],
        "accuracy %": [_sort_number(None if mean is None else mean.mean) for mean in means],
        "over seeds": [_sort_number(row.seed_deviation) for row in rows],
        "over frozen": [_sort_number(None if gain is None else gain.mean) for gain in gains],
        "ok/failed": [_sort_number(len(row.accuracies)) for row in rows],
        "parameters": [_sort_number(row.parameters) for row in rows],
        "GMACs/clip": [_sort_number(row.macs_per_clip) for row in rows],
        "s/episode": [_sort_number(_if_succeeded(row, row.seconds_per_episode)) for row in rows],
        "peak MiB": [_sort_number(_if_succeeded(row, row.peak_memory_mb)) for row in rows],
    }


def _sort_number(value: float | None) -> str:
    return "" if value is None else f"{value:.9g}"


def _if_succeeded(row: TableRow, value: float | None) -> float | None:
    """Value of a row that only episodes that succeeded can have, else None."""
    return value if row.accuracies else None
