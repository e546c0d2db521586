"""What `coverage_of_intervals.py` prints: every line, or a few lines for the docs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.special import ndtri

Line = dict[str, Any]

LOW, HIGH = 0.93, 0.97
CAREFUL = {
    "5-shot": "in 200 episodes the part of the clips drowns in chance; it is set to 0 where it "
    "comes out below, and its few degrees of freedom make the interval longer",
    "gain, 1-shot": "400 repetitions are few; 3,000 others gave 96.5 %",
    "5-shot, 5 queries, disjoint": "14 episodes ask every class almost equally often, which makes "
    "their mean steadier than their spread says",
    "24 new classes of 8 clips": "388 repetitions are few: 97.2 ± 1.7 %",
    "1-shot near 1, disjoint": "few errors: the interval is made longer towards the middle",
    "accuracies": "few values, most of them equal near an end: rather too wide than too narrow",
}
"""Settings (or ends of their names) of claimed intervals that hold more often than `HIGH`: why."""


def careful(line: Line) -> str | None:
    """Why a claimed interval holds more often than it need; None where it does not."""
    if not line["claimed"] or line["coverage"] <= HIGH:
        return None
    return next((why for name, why in CAREFUL.items() if line["setting"].endswith(name)), "")


def table(lines: Sequence[Line]) -> str:
    """All lines as Markdown."""
    rows = [
        "| setting | episodes | mean % | interval | holds | claimed | coverage % | ± % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        error = 100 * np.sqrt(line["coverage"] * (1 - line["coverage"]) / line["repetitions"])
        rows.append(
            f"| {line['setting']} | {line['episodes'] or ''} | {100 * line['mean']:.1f} "
            f"| {line['interval']} | {line['truth']} | {'yes' if line['claimed'] else 'no'} "
            f"| {100 * line['coverage']:.1f} ± {float(ndtri(0.975)) * error:.1f} "
            f"| {100 * line['half_width']:.2f} |"
        )
    return "\n".join(rows)


def _is(interval: str, truth: str, *, claimed: bool = True, part: str = "") -> Callable[..., bool]:
    def _fits(line: Line) -> bool:
        found = (line["interval"], line["truth"], line["claimed"])
        return found == (interval, truth, claimed) and part in line["setting"]

    return _fits


def _closed(episodes: int) -> Callable[..., bool]:
    def _fits(line: Line) -> bool:
        is_closed = _is("Student t", "clips", claimed=False)(line)
        return is_closed and (line["setting"], line["episodes"]) == ("1-shot", episodes)

    return _fits


_CLIPS, _HERE = "other clips of these classes", "all episodes on these clips"
_FEW = "6 to 90 accuracies, means 0.6 to 0.987"
ROWS: tuple[tuple[str, str, str, Callable[..., bool]], ...] = (
    ("Student t", _HERE, "episodes drawn anew, clips fixed", _is("Student t", "here")),
    *(
        (
            f"Student t, {n:,} episodes",
            f"{_CLIPS} (**not claimed**)",
            "wrong: clips are in many episodes",
            _closed(n),
        )
        for n in (200, 1000, 10000)
    ),
    ("jackknife over clips", _CLIPS, "clips independent", _is("jackknife, clips", "clips")),
    ("bootstrap over clips", _CLIPS, "clips independent", _is("bootstrap, clips", "clips")),
    (
        "Student t, disjoint episodes",
        _CLIPS,
        "no clip in two episodes",
        _is("Student t", "clips", part="disjoint"),
    ),
    (
        "bounded, disjoint episodes",
        _CLIPS,
        "no clip in two episodes; near 1 too",
        _is("bounded", "clips", part="disjoint"),
    ),
    (
        "jackknife over groups",
        _CLIPS,
        "clips of a recording alike",
        _is("jackknife, groups", "clips"),
    ),
    (
        "bootstrap over groups",
        _CLIPS,
        "clips of a recording alike",
        _is("bootstrap, groups", "clips"),
    ),
    (
        "jackknife over clips",
        f"{_CLIPS} (**not claimed**)",
        "wrong: clips of a recording alike",
        _is("jackknife, clips", "clips", claimed=False),
    ),
    (
        "jackknife over classes",
        "other classes",
        "12 or 24 classes drawn anew",
        _is("jackknife, classes", "classes"),
    ),
    (
        "jackknife over classes",
        "other classes (**not claimed**)",
        "wrong: classes are near relatives, by threes",
        _is("jackknife, classes", "classes", claimed=False),
    ),
    (
        "bootstrap over classes",
        "other classes",
        "12 or 24 classes drawn anew",
        _is("bootstrap, classes", "classes"),
    ),
    (
        "Student t",
        "other classes (**not claimed**)",
        "wrong: classes are in many episodes",
        _is("Student t", "classes", claimed=False),
    ),
    ("Wilson", "mean of answers", "each clip asked once", _is("Wilson", "mean")),
    ("over seeds", "mean of trainings", "3 or 5 training seeds", _is("over seeds", "mean")),
    ("bounded", "mean of accuracies", f"{_FEW}; too careful", _is("bounded", "mean")),
    ("percentile-t", "mean of accuracies", f"{_FEW}; too careful", _is("percentile-t", "mean")),
    (
        "Student t",
        "mean of accuracies (**not claimed**)",
        f"{_FEW}: not normal",
        _is("Student t", "mean", claimed=False),
    ),
)


def short(lines: Sequence[Line], command: str) -> str:
    """The same, a line for each interval and what it is taken for, with the range over settings.

    Args:
        lines: that all of `ROWS` find something in.
        command: that made them.
    """
    rows = [
        "| interval | covers | assumption | nominal % | measured % |",
        "|---|---|---|---|---|",
    ]
    for name, covers, assumption, fits in ROWS:
        found = [100 * line["coverage"] for line in lines if fits(line)]
        if not found:
            continue
        low, high = f"{min(found):.1f}", f"{max(found):.1f}"
        measured = low if low == high else f"{low} to {high}"
        rows.append(f"| {name} | {covers} | {assumption} | 95 | {measured} |")
    above: dict[str, list[Line]] = {}
    for line in lines:
        why = careful(line)
        if why is not None:
            above.setdefault(why, []).append(line)
    notes = [f"Made by `{command}`. Above {100 * HIGH:.0f} %, so a little too careful:"]
    for why, of in above.items():
        names = sorted({f"{line['interval']}" for line in of})
        where = sorted({line["setting"] for line in of})
        listed = where[0] if len(where) == 1 else f"{len(where)} settings of few accuracies"
        best = 100 * max(line["coverage"] for line in of)
        notes.append(f"- {listed} ({'; '.join(names)}; up to {best:.1f} %): {why}.")
    return "\n".join([*rows, "", *notes])
