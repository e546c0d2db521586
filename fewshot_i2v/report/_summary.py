"""The answer of a table in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fewshot_i2v.report._labels import Label
from fewshot_i2v.report._verdicts import Against, Best
from fewshot_i2v.report.rows import TableRow
from fewshot_i2v.statistics import Interval

_NAMED = 3


def summary(
    rows: Sequence[TableRow],
    labels: Sequence[Label],
    frozen: Mapping[int, Against],
    best: Mapping[int | str, Best],
) -> list[str]:
    """One paragraph for each number of shots: the best row, what it gains, and who is as good.

    Args:
        rows: of one table.
        labels: their names.
        frozen: rows against the frozen encoder.
        best: the best row of each number of shots.
    """
    if not any(row.accuracies for row in rows):
        return ["No episode has succeeded so far."]
    told = []
    for shot, of_shot in best.items():
        parts = [_lead(of_shot, labels, frozen), *_as_good(of_shot, labels)]
        parts += _below(shot, of_shot, rows, labels, frozen)
        told.append(f"{_with(shot)}: {' '.join(parts)}")
    return told or [
        "Every row saw the classes or clips that it is evaluated on: none says how well new ones "
        "are learnt."
    ]


def _with(shot: int | str) -> str:
    return "With 1 clip per class" if shot == 1 else f"With {shot} clips per class"


def _lead(best: Best, labels: Sequence[Label], frozen: Mapping[int, Against]) -> str:
    name, gain = labels[best.row].full, frozen.get(best.row)
    accuracy = f"{100 * best.mean.mean:.1f} %{_ends(best.mean)}"
    if gain is None:
        what = "has the highest accuracy," if best.others else "is right for"
        return f"{name} {what} {accuracy}{'' if best.others else ' of the query clips'}."
    if gain.verdict == "open":
        return (
            f"{name} has the highest accuracy, {accuracy}, but no gain over frozen is shown: "
            f"{100 * gain.difference.mean:+z.1f} points{_ends(gain.difference)}."
        )
    sign, verb = (1, "beats") if gain.verdict == "better" else (-1, "is worse than")
    ends = _ends(gain.difference, sign=sign)
    return f"{name} {verb} frozen by {_points(gain.difference)}{ends}, at {accuracy}."


def _as_good(best: Best, labels: Sequence[Label]) -> list[str]:
    """Which rows cannot be told apart from the best one, and that the others are lower."""
    few = [a.row for a in best.others if a.verdict == "open" and a.few]
    alike = [a.row for a in best.others if a.verdict != "worse" and a.row not in few]
    lower = len(best.others) - len(alike) - len(few)
    parts = []
    if alike:
        names = _listed([_beside(labels[i], labels[best.row]) for i in alike])
        rest = f"; the other {_rows(lower)} lower" if lower else ""
        parts.append(f"It cannot be told apart from {names}{rest}.")
    elif lower:
        parts.append("The other row is lower." if lower == 1 else "All other rows are lower.")
    if few:
        which = "one row" if len(few) == 1 else f"{len(few)} rows"
        parts.append(f"Of {which} there are too few episodes to tell.")
    return parts


def _rows(number: int) -> str:
    return "row is" if number == 1 else f"{number} rows are"


def _beside(label: Label, other: Label) -> str:
    """The name of a row beside another one: without the head where that is the same."""
    return label.name if label.head == other.head else label.full


def _below(
    shot: int | str,
    best: Best,
    rows: Sequence[TableRow],
    labels: Sequence[Label],
    frozen: Mapping[int, Against],
) -> list[str]:
    """Which adapters show no gain over the frozen encoder, and which are worse."""
    told = {against.row for against in best.others}
    of_shot = [a for i, a in frozen.items() if i in told and rows[i].shot == shot and not a.few]
    said = {"open": "No gain over frozen is shown for {}.", "worse": "Worse than frozen: {}."}
    found = []
    for verdict, text in said.items():
        names = [labels[a.row].full for a in of_shot if a.verdict == verdict]
        found += [text.format(_listed(names))] if names else []
    return found


def _listed(names: Sequence[str]) -> str:
    """Names in a sentence; many are cut short."""
    shown = list(names[:_NAMED])
    if len(names) > _NAMED + 1:
        return f"{', '.join(shown)} and {len(names) - _NAMED} more rows"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _points(difference: Interval) -> str:
    size = f"{100 * abs(difference.mean):.1f}"
    return f"{size} point{'' if size == '1.0' else 's'}"


def _ends(interval: Interval, *, sign: int = 1) -> str:
    if interval.low is None or interval.high is None:
        return ""
    low, high = sorted((sign * 100 * interval.low, sign * 100 * interval.high))
    return f" [{low:.1f}, {high:.1f}]"
