"""The table of a page: the cells and the legend of the terminal, with what sorting needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fewshot_i2v.report.analysis.report_data import LEVEL, Section
from fewshot_i2v.report.tables import terminal
from fewshot_i2v.runs import row_summary
from fewshot_i2v.runs.row_summary import TableRow, mean_of
from fewshot_i2v.statistics import Interval

LEFT = frozenset({"adapter", "start", "head", "names"})
"""Columns of text."""
_MACS = (
    "GMACs/clip: 10^9 multiply-accumulates of the adapted encoder for one clip; a prediction takes "
    "that once for each clip, a step of fine-tuning about three times for each support clip."
)


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: what stands in it.
        value: what it is sorted by: a number as text, or empty where it is sorted by its text.
    """

    text: str
    value: str = ""


@dataclass(frozen=True)
class Table:
    """A table with its legend.

    Attributes:
        columns: cells by heading, top to bottom.
        notes: what headings mean and intervals cover, one sentence or two each.
        means: mean accuracy of each row with its interval.
        gains: gain of each row over the frozen encoder.
    """

    columns: dict[str, list[Cell]]
    notes: list[str]
    means: list[Interval | None]
    gains: list[Interval | None]


def table_of(section: Section) -> Table:
    """The table that `render_table` writes of the rows of a section, in parts."""
    rows, way, level = section.table_rows, section.way, LEVEL
    # the terminal's own parts, so that a page cannot say anything else than it does
    means = [mean_of(row, level) for row in rows]
    gains = [terminal._gain(row, rows, level) for row in rows]
    texts = terminal._columns(rows, means, gains, level)
    texts = _with_computation(texts, rows)
    absent = {
        "over frozen": not any(gains),
        "over seeds": not row_summary.has_seeds(rows),
        "names": not any(row.uses_names for row in rows),
        "start": not row_summary.has_starts(rows),
    }
    notes = terminal._legend(rows, [*filter(None, means)], [*filter(None, gains)])
    guess = terminal.guessing(way) if section.chance is None else section.chance
    if any(row.macs_per_clip is not None for row in rows):
        notes.append(_MACS)
    notes.append(f"Guessing among {way} classes gives {100 * guess:.1f} %.")
    notes += section.stopped
    values = _values(rows, means, gains)
    columns = {
        heading: [
            Cell(text, value)
            for text, value in zip(cells, values.get(heading, [""] * len(cells)), strict=True)
        ]
        for heading, cells in texts.items()
        if not absent.get(heading)
    }
    return Table(columns, notes, means, gains)


def _with_computation(
    texts: dict[str, list[str]], rows: Sequence[TableRow]
) -> dict[str, list[str]]:
    """The cells with those of the computation behind the parameters, where any is known."""
    macs = [row.macs_per_clip for row in rows]
    if all(value is None for value in macs):
        return texts
    cells = ["-" if value is None else f"{value / 1e9:.3g}" for value in macs]
    pairs = list(texts.items())
    place = list(texts).index("parameters") + 1
    return dict([*pairs[:place], ("GMACs/clip", cells), *pairs[place:]])


def _values(
    rows: Sequence[TableRow], means: Sequence[Interval | None], gains: Sequence[Interval | None]
) -> dict[str, list[str]]:
    """What the columns of numbers are sorted by."""
    return {
        "shot": [_number(row.shot if isinstance(row.shot, int) else None) for row in rows],
        "accuracy %": [_number(None if mean is None else mean.mean) for mean in means],
        "over seeds": [_number(row.seed_deviation) for row in rows],
        "over frozen": [_number(None if gain is None else gain.mean) for gain in gains],
        "ok/failed": [_number(len(row.accuracies)) for row in rows],
        "parameters": [_number(row.parameters) for row in rows],
        "GMACs/clip": [_number(row.macs_per_clip) for row in rows],
        "s/episode": [_number(_known(row, row.seconds_per_episode)) for row in rows],
        "peak MiB": [_number(_known(row, row.peak_memory_mb)) for row in rows],
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.9g}"


def _known(row: TableRow, value: float | None) -> float | None:
    """A number that only episodes that succeeded can have."""
    return value if row.accuracies else None
