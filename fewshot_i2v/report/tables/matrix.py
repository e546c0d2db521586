"""Adapters and starts against heads as a Markdown table, one for each number of shots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count

from fewshot_i2v.report.tables.terminal import (
    adapter_name,
    episode_notes,
    guessing,
    lopsided,
    lopsided_note,
    start_cells,
    start_notes,
    tuning_notes,
    with_spread,
)
from fewshot_i2v.runs.row_summary import TableRow, has_starts, mean_of, methods_of
from fewshot_i2v.utils.text_table import escaped, sentences

_NAMES_MARK = "†"


def render_matrix(
    rows: Sequence[TableRow], *, way: int | str, chance: float | None = None, level: float = 0.95
) -> str:
    """Mean accuracy of every adapter and start (rows) with every head (columns).

    Args:
        rows: in the order to show them; adapters and heads keep their first appearance.
        way: classes of an episode, or a text such as "5-10".
        chance: accuracy of guessing, 0..1; None: 1 / way.
        level: of the intervals, above 0 and below 1.

    Returns:
        For each shot a heading and a Markdown table with percent and intervals; a cell without a
        run is "-". Rows that nothing shown tells apart are numbered. Heads that read class names
        are marked. A legend says what an interval covers.
    """
    shots = sorted({row.shot for row in rows}, key=lambda shot: (isinstance(shot, str), shot))
    labels, columns = _labels(rows), _heads(rows)
    parts = [_table(rows, labels, columns, shot, level) for shot in shots]
    return "\n\n".join([*parts, _legend(rows, guessing(way) if chance is None else chance, level)])


def _labels(rows: Sequence[TableRow]) -> list[tuple[str, ...]]:
    """What stands to the left of each row: the adapter, and the start where any row has one."""
    names = _distinct([(f"{row.adapter}\n{row.note}", adapter_name(row)) for row in rows])
    if not has_starts(rows):
        return [(name,) for name in names]
    cells = zip([row.start_name for row in rows], start_cells(rows), strict=True)
    return list(zip(names, _distinct([*cells]), strict=True))


def _heads(rows: Sequence[TableRow]) -> list[str]:
    """Heading of each row's column."""
    names = _distinct([(row.head, escaped(row.head)) for row in rows])
    return [
        name + (_NAMES_MARK if row.uses_names else "")
        for row, name in zip(rows, names, strict=True)
    ]


def _distinct(names: Sequence[tuple[str, str]]) -> list[str]:
    """What is shown for labels; those that differ only where they were cut get a number."""
    labels: dict[str, dict[str, int]] = {}
    for label, shown in names:
        of_this = labels.setdefault(shown, {})
        of_this.setdefault(label, len(of_this) + 1)
    return [
        shown if len(labels[shown]) == 1 else f"{shown} ({labels[shown][label]})"
        for label, shown in names
    ]


def _table(
    rows: Sequence[TableRow],
    labels: Sequence[tuple[str, ...]],
    columns: Sequence[str],
    shot: int | str,
    level: float,
) -> str:
    triples = zip(rows, labels, columns, strict=True)
    own = [(row, label, column) for row, label, column in triples if row.shot == shot]
    heads = list(dict.fromkeys(column for _, _, column in own))
    taken = {label for _, label, _ in own}
    lines_of = {label: [label] for label in taken}
    cells: dict[tuple[tuple[str, ...], str], str] = {}
    for row, label, column in own:
        left = _free(lines_of[label], column, cells, taken)
        cells[left, column] = _cell(row, level)
    lefts = [left for label in dict.fromkeys(x for _, x, _ in own) for left in lines_of[label]]
    names = ["adapter", "start"][: len(lefts[0])]
    lines = [
        f"{shot}-shot",
        "",
        _line([*names, *heads]),
        _line([*("---" for _ in names), *("--:" for _ in heads)]),
    ]
    lines += [_line([*left, *(cells.get((left, h), "-") for h in heads)]) for left in lefts]
    return "\n".join(lines)


def _free(
    lines: list[tuple[str, ...]],
    column: str,
    cells: Mapping[tuple[tuple[str, ...], str], str],
    taken: set[tuple[str, ...]],
) -> tuple[str, ...]:
    """The first line of a label that has room in a column; a new one, numbered, where none has."""
    for left in lines:
        if (left, column) not in cells:
            return left
    first, *rest = lines[0]
    numbered = ((f"{first} ({number})", *rest) for number in count(len(lines) + 1))
    new = next(left for left in numbered if left not in taken)
    lines.append(new)
    taken.add(new)
    return new


def _cell(row: TableRow, level: float) -> str:
    interval = mean_of(row, level)
    if interval is None:
        return "failed" if row.failed else "-"
    return with_spread(interval, "{:.1f}") + ("*" if row.failed else "")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _legend(rows: Sequence[TableRow], chance: float, level: float) -> str:
    counts = {len(row.accuracies) for row in rows}
    few, many = min(counts, default=0), max(counts, default=0)
    number = str(many) if few == many else f"{few} to {many}"
    lines = [f"Accuracy in percent over {number} episodes; guessing gives {100 * chance:.1f}."]
    means = [mean for mean in (mean_of(row, level) for row in rows) if mean is not None]
    if means:
        covers = " ".join(sentences(mean.covers for mean in means))
        lines.append(f"±: {100 * level:g} %, {methods_of(means)} {covers}")
        lines += [lopsided_note(means, 1)] if any(map(lopsided, means)) else []
    lines += episode_notes(rows, paired=False)
    lines += [*start_notes(rows), *tuning_notes(rows)]
    if any(row.uses_names for row in rows):
        lines.append(
            f"{_NAMES_MARK}: the head read the class names; do not rank it with heads that saw "
            "clips only."
        )
    if any(row.failed for row in rows):
        lines.append("*: without episodes that failed.")
    return "\n".join(lines)
