"""Which rows a summary says nothing about, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fewshot_i2v.report._labels import Label
from fewshot_i2v.report._verdicts import Against, Best
from fewshot_i2v.report.rows import TableRow
from fewshot_i2v.report.terminal import is_frozen

_NAMED = 3


def listed(names: Sequence[str]) -> str:
    """Names in a sentence; many are cut short."""
    shown = list(names[:_NAMED])
    if len(names) > _NAMED + 1:
        return f"{', '.join(shown)} and {len(names) - _NAMED} more rows"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def left_out(
    shot: int | str,
    best: Best,
    rows: Sequence[TableRow],
    labels: Sequence[Label],
    frozen: Mapping[int, Against],
) -> list[str]:
    """Sentences that name the rows of a shot that are not ranked or not compared with frozen.

    Args:
        shot: the number of shots.
        best: its best row.
        rows: of the table.
        labels: their names.
        frozen: rows against the frozen encoder.
    """
    ranked = {best.row, *(against.row for against in best.others)}
    causes: dict[str, list[str]] = {}
    for i, row in enumerate(rows):
        if row.shot == shot and i not in ranked:
            cause = _cause(row, names_apart=not rows[best.row].uses_names)
            cause = cause or f"no episode in common with {labels[best.row].full}"
            causes.setdefault(cause, []).append(labels[i].full)
    parts = []
    if causes:
        told = [f"{listed(names)}, {_which(cause, names)}" for cause, names in causes.items()]
        parts.append(f"Not ranked: {'; '.join(told)}.")
    alone = [labels[i].full for i in _without_frozen(shot, rows, frozen) if i in ranked]
    if alone:
        cause = _which("no episode in common with it", alone)
        parts.append(f"Not compared with frozen: {listed(alone)}, {cause}.")
    return parts


def _cause(row: TableRow, *, names_apart: bool) -> str:
    if not row.accuracies:
        return "of which no episode has succeeded"
    if row.seen:
        return "which saw what it is evaluated on"
    return "which read the class names" if row.uses_names and names_apart else ""


def _which(cause: str, names: Sequence[str]) -> str:
    """The cause as a clause behind one name or several."""
    several = len(names) > 1
    if cause.startswith("no episode"):
        return f"which {'have' if several else 'has'} {cause}"
    return cause.replace("it is", "they are") if several else cause


def _without_frozen(
    shot: int | str, rows: Sequence[TableRow], frozen: Mapping[int, Against]
) -> Iterator[int]:
    """Places of rows whose head and shot a frozen encoder has, but none of their episodes."""
    heads = {r.head for r in rows if is_frozen(r) and r.shot == shot and r.accuracies}
    for i, row in enumerate(rows):
        known = row.shot == shot and row.head in heads and row.accuracies
        if known and not is_frozen(row) and i not in frozen:
            yield i
