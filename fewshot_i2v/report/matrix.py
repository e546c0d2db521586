"""Adapters against heads as a Markdown table, one for each number of shots."""

from __future__ import annotations

from collections.abc import Sequence

from fewshot_i2v.report.terminal import TableRow, adapter_name, escaped
from fewshot_i2v.statistics import mean_interval

_NAMES_MARK = "†"


def render_matrix(rows: Sequence[TableRow], *, way: int, level: float = 0.95) -> str:
    """Mean accuracy of every adapter (rows) with every head (columns).

    Args:
        rows: in the order to show them; adapters and heads keep their first appearance.
        way: classes of an episode.
        level: of the intervals, above 0 and below 1.

    Returns:
        For each shot a heading and a Markdown table with percent and half-widths; a cell without a
        run is "-". Heads that read class names are marked. A legend says what an interval covers.
    """
    shots = sorted({row.shot for row in rows})
    parts = [_table([row for row in rows if row.shot == shot], shot, level) for shot in shots]
    return "\n\n".join([*parts, _legend(rows, way, level)])


def _table(rows: Sequence[TableRow], shot: int, level: float) -> str:
    adapters = list(dict.fromkeys(adapter_name(row) for row in rows))
    heads = list(dict.fromkeys(_head(row) for row in rows))
    cells = {(adapter_name(row), _head(row)): _cell(row, level) for row in rows}
    lines = [
        f"{shot}-shot",
        "",
        _line(["adapter", *heads]),
        _line(["---", *("--:" for _ in heads)]),
    ]
    lines += [_line([a, *(cells.get((a, head), "-") for head in heads)]) for a in adapters]
    return "\n".join(lines)


def _head(row: TableRow) -> str:
    return escaped(row.head) + (_NAMES_MARK if row.uses_names else "")


def _cell(row: TableRow, level: float) -> str:
    if not row.accuracies:
        return "failed"
    interval = mean_interval(list(row.accuracies.values()), level)
    half = interval.half_width
    spread = "" if half is None else f" ± {100 * half:.1f}"
    return f"{100 * interval.mean:.1f}{spread}" + ("*" if row.failed else "")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _legend(rows: Sequence[TableRow], way: int, level: float) -> str:
    counts = {len(row.accuracies) for row in rows}
    few, many = min(counts, default=0), max(counts, default=0)
    number = str(many) if few == many else f"{few} to {many}"
    first = next((row for row in rows if row.accuracies), None)
    lines = [f"Accuracy in percent over {number} episodes; guessing gives {100 / way:.1f}."]
    if first:
        interval = mean_interval(list(first.accuracies.values()), level)
        lines.append(f"±: {100 * level:g} %, {interval.method} over episodes. {interval.covers}")
    if any(row.uses_names for row in rows):
        lines.append(
            f"{_NAMES_MARK}: the head read the class names; do not rank it with heads that saw "
            "clips only."
        )
    if any(row.failed for row in rows):
        lines.append("*: without episodes that failed.")
    return "\n".join(lines)
