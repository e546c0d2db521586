"""The table of accuracies: its columns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

from fewshot_i2v.errors import UnknownNameError
from fewshot_i2v.report.tables.interval_text import (
    EMPTY,
    format_gain,
    format_interval,
    format_with_ends,
)
from fewshot_i2v.report.tables.table import Table, TableCell, number_cell
from fewshot_i2v.report.tables.table_notes import MACS_NOTE, table_legend
from fewshot_i2v.runs.row_names import adapter_name
from fewshot_i2v.runs.row_summary import FRESH, RowSummary, gain_over_frozen, has_starts
from fewshot_i2v.statistics import Interval
from fewshot_i2v.utils.text_table import escape_name

ACCURACY_HEADING = "accuracy % [95 %]"
GAIN_HEADING = "over frozen"
FURTHER_COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "head": "head",
        "seeds": "over seeds",
        "episodes": "ok/failed",
        "parameters": "parameters",
        "macs": "GMACs/clip",
        "seconds": "s/episode",
        "memory": "peak MiB",
    }
)
"""Headings of the columns that a table has on request, by the names that ask for them."""


def check_columns(names: Iterable[str]) -> tuple[str, ...]:
    """Check names of further columns.

    Raises:
        UnknownNameError: for a name that is none of `FURTHER_COLUMNS`.
    """
    checked = tuple(names)
    for name in checked:
        if name not in FURTHER_COLUMNS:
            raise UnknownNameError("column", name, FURTHER_COLUMNS)
    return checked


def accuracy_table(
    rows: Sequence[RowSummary], *, way: int | str, chance: float | None = None
) -> Table:
    """Table of mean accuracies, in percent, and of gains over frozen, with all columns and notes.

    The gain is the paired difference to the row of the adapter `frozen` with the same head and
    shot, over the episodes that both have; its column is there when any row has one. `chance` is
    0..1; None: 1 / way, or 0 where `way` is a text such as "5-10".
    """
    gains = [gain_over_frozen(row, rows) for row in rows]
    columns = accuracy_columns(rows, gains)
    chance = chance_accuracy(way) if chance is None else chance
    notes = table_legend(rows, [*filter(None, gains)], chance=chance)
    notes += [MACS_NOTE] * (FURTHER_COLUMNS["macs"] in columns)
    notes.append(f"Guessing among {way} classes gives {100 * chance:.1f} %.")
    return Table(columns, notes)


def accuracy_columns(
    rows: Sequence[RowSummary], gains: Sequence[Interval | None]
) -> dict[str, list[TableCell]]:
    """Cells by heading, top to bottom, without the columns that say nothing."""
    absent = {
        "start": not has_starts(rows),
        "names": not any(row.uses_names for row in rows),
        "over seeds": not any(row.seed_means for row in rows),
        GAIN_HEADING: not any(gains),
        "GMACs/clip": not any(row.macs_per_clip is not None for row in rows),
    }
    columns = {
        "adapter": [TableCell(adapter_name(row)) for row in rows],
        "start": [TableCell(text) for text in start_cells(rows)],
        "head": [TableCell(escape_name(row.head)) for row in rows],
        "names": [TableCell("read" if row.uses_names else EMPTY) for row in rows],
        "shot": [
            number_cell(str(row.shot), row.shot if isinstance(row.shot, int) else None)
            for row in rows
        ],
        ACCURACY_HEADING: [_accuracy_cell(row.interval) for row in rows],
        "over seeds": [number_cell(_seeds_text(row), row.seed_deviation) for row in rows],
        GAIN_HEADING: [_gain_cell(gain) for gain in gains],
        "ok/failed": [number_cell(f"{row.episodes}/{row.failed}", row.episodes) for row in rows],
        "parameters": [number_cell(f"{row.parameters:,}", row.parameters) for row in rows],
        "GMACs/clip": [_optional_cell(row.macs_per_clip, "{:.3g}", 1e9) for row in rows],
        "s/episode": [_cost_cell(row, row.seconds_per_episode, "{:.3g}") for row in rows],
        "peak MiB": [_cost_cell(row, row.peak_memory_mb, "{:,.0f}") for row in rows],
    }
    return {heading: cells for heading, cells in columns.items() if not absent.get(heading)}


def usual_headings(
    rows: Sequence[RowSummary], headings: Iterable[str], further: Collection[str] = ()
) -> list[str]:
    """Headings of the columns that a table has by default: those that vary, and those asked for.

    `further` are names of `FURTHER_COLUMNS`.
    """
    hidden = set(FURTHER_COLUMNS.values()) - {FURTHER_COLUMNS[name] for name in further}
    if len({row.head for row in rows}) > 1:
        hidden.discard("head")
    if len({(row.episodes, row.failed) for row in rows}) > 1:
        hidden.discard("ok/failed")
    return [heading for heading in headings if heading not in hidden]


def chance_accuracy(way: int | str) -> float:
    """Accuracy of guessing among `way` classes; 0 where `way` is a text."""
    return 1 / way if isinstance(way, int) and way > 0 else 0.0


def interval_cell(interval: Interval | None, form: str) -> TableCell:
    """A cell of a mean with its interval; a dash where there is none."""
    if interval is None:
        return TableCell(EMPTY)
    return number_cell(format_interval(interval, form), interval.mean, interval)


def _accuracy_cell(mean: Interval | None) -> TableCell:
    if mean is None:
        return TableCell(EMPTY)
    return number_cell(format_with_ends(mean), mean.mean, mean)


def _gain_cell(gain: Interval | None) -> TableCell:
    return TableCell(EMPTY) if gain is None else number_cell(format_gain(gain), gain.mean, gain)


def _optional_cell(value: float | None, form: str, unit: float = 1) -> TableCell:
    return TableCell(EMPTY) if value is None else number_cell(form.format(value / unit), value)


def _cost_cell(row: RowSummary, value: float | None, form: str) -> TableCell:
    """Cell of a number that only episodes that succeeded can have."""
    return _optional_cell(value if row.accuracies else None, form)


def _seeds_text(row: RowSummary) -> str:
    deviation = row.seed_deviation
    if deviation is None:
        return EMPTY
    # equal means are no certainty: mostly, nothing that a seed draws takes part
    return f"{len(row.seed_means)}: " + (f"± {100 * deviation:.2f}" if deviation else "the same")


def sort_shots(shots: Iterable[int | str]) -> list[int | str]:
    """Sort the numbers of shots, each once, numbers ascending, then ranges."""
    return sorted(set(shots), key=lambda shot: (isinstance(shot, str), shot))


def start_cells(rows: Sequence[RowSummary]) -> list[str]:
    """Cells of the column of starts: the kind of start of each row, and its marks.

    The name of a starting point stands with its kind where there are several of a kind.
    """
    names = defaultdict(set)
    for row in rows:
        names[row.start].add(row.start_name)
    return [
        EMPTY
        if row.start == FRESH and row.is_frozen
        else escape_name(row.start)
        + (f" ({escape_name(row.start_name)})" if len(names[row.start]) > 1 else "")
        + (", seen" if row.seen else "")
        for row in rows
    ]
