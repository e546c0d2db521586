"""Markdown table of adapters and starts against heads, one for each number of shots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count

from fewshot_i2v.report.tables.accuracy_table import (
    chance_accuracy,
    sort_shots,
    start_cells,
)
from fewshot_i2v.report.tables.interval_text import (
    format_interval,
    join_covers,
    methods_text,
)
from fewshot_i2v.report.tables.table import markdown_lines
from fewshot_i2v.report.tables.table_notes import episode_notes, start_notes, tuning_notes
from fewshot_i2v.runs.row_names import adapter_name, number_duplicates
from fewshot_i2v.runs.row_summary import RowSummary, has_starts
from fewshot_i2v.utils.text_table import count_text, escape_name

_NAMES_SYMBOL = "†"


def render_matrix(
    rows: Sequence[RowSummary], *, way: int | str, chance: float | None = None
) -> str:
    """Render mean accuracy of every adapter and start (rows) with every head (columns).

    There is a table for each shot, with percent and intervals; a cell without a run is "-". Rows
    with the same names are numbered, and heads that read class names are marked.
    """
    labels, columns = _row_labels(rows), _column_headings(rows)
    tables = [_table(rows, labels, columns, shot) for shot in sort_shots(row.shot for row in rows)]
    legend = _legend(rows, chance_accuracy(way) if chance is None else chance)
    return "\n\n".join([*tables, legend])


def _row_labels(rows: Sequence[RowSummary]) -> list[tuple[str, ...]]:
    """Name of each row: the adapter, and the start where any row has one."""
    names = number_duplicates([(f"{row.adapter}\n{row.note}", adapter_name(row)) for row in rows])
    if not has_starts(rows):
        return [(name,) for name in names]
    cells = zip([row.start_name for row in rows], start_cells(rows), strict=True)
    return list(zip(names, number_duplicates([*cells]), strict=True))


def _column_headings(rows: Sequence[RowSummary]) -> list[str]:
    """Heading of each row's column."""
    names = number_duplicates([(row.head, escape_name(row.head)) for row in rows])
    return [
        name + (_NAMES_SYMBOL if row.uses_names else "")
        for row, name in zip(rows, names, strict=True)
    ]


def _table(
    rows: Sequence[RowSummary],
    labels: Sequence[tuple[str, ...]],
    columns: Sequence[str],
    shot: int | str,
) -> str:
    labelled_rows = zip(rows, labels, columns, strict=True)
    shot_rows = [(row, label, column) for row, label, column in labelled_rows if row.shot == shot]
    heads = list(dict.fromkeys(column for _, _, column in shot_rows))
    used = {label for _, label, _ in shot_rows}
    lines_of = {label: [label] for label in used}
    cells: dict[tuple[tuple[str, ...], str], str] = {}
    for row, label, column in shot_rows:
        row_names = _free_line(lines_of[label], column, cells, used)
        cells[row_names, column] = (
            format_interval(row.interval, "{:.1f}") + ("*" if row.failed else "")
            if row.interval is not None
            else "failed"
            if row.failed
            else "-"
        )
    table_lines = [
        row_names
        for label in dict.fromkeys(row_label for _, row_label, _ in shot_rows)
        for row_names in lines_of[label]
    ]
    names = ["adapter", "start"][: len(table_lines[0])]
    lines = [
        [*row_names, *(cells.get((row_names, head), "-") for head in heads)]
        for row_names in table_lines
    ]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in ([*names, *heads], *lines)]
    return "\n".join([f"{shot}-shot", "", *markdown_lines(escaped[0], escaped[1:])])


def _free_line(
    lines: list[tuple[str, ...]],
    column: str,
    cells: Mapping[tuple[tuple[str, ...], str], str],
    used: set[tuple[str, ...]],
) -> tuple[str, ...]:
    """First line of a label that is free in a column; a new one, numbered, where none is."""
    for row_names in lines:
        if (row_names, column) not in cells:
            return row_names
    adapter, *remaining_names = lines[0]
    numbered = ((f"{adapter} ({number})", *remaining_names) for number in count(len(lines) + 1))
    new_line = next(row_names for row_names in numbered if row_names not in used)
    lines.append(new_line)
    used.add(new_line)
    return new_line


def _legend(rows: Sequence[RowSummary], chance: float) -> str:
    counts = {len(row.accuracies) for row in rows}
    min_episodes, max_episodes = min(counts, default=0), max(counts, default=0)
    episodes = count_text(max_episodes, "episode")
    if min_episodes != max_episodes:
        episodes = f"{min_episodes} to {episodes}"
    lines = [f"Accuracy in percent over {episodes}; guessing gives {100 * chance:.1f}."]
    means = [row.interval for row in rows if row.interval is not None]
    if means:
        methods = f"{100 * means[0].level:g} %, {methods_text(means)}"
        lines.append(f"±: {methods} {join_covers(means)}")
    lines += episode_notes(rows, paired=False)
    lines += [*start_notes(rows), *tuning_notes(rows)]
    if any(row.uses_names for row in rows):
        lines.append(
            f"{_NAMES_SYMBOL}: the head read the class names; do not rank it with heads that saw "
            "clips only."
        )
    if any(row.failed for row in rows):
        lines.append("*: without episodes that failed.")
    return "\n".join(lines)
