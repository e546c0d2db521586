"""A mean and how far its interval reaches, as cells and notes of tables say it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from fewshot_i2v.report.rows import TableRow
from fewshot_i2v.statistics import Interval
from fewshot_i2v.statistics.intervals import Unit

_EQUAL = 1e-9


def lopsided(interval: Interval) -> bool:
    """Whether an interval is not the same on both sides of its mean."""
    if interval.low is None or interval.high is None:
        return False
    return abs(interval.low + interval.high - 2 * interval.mean) > _EQUAL


def with_spread(interval: Interval, form: str) -> str:
    """A share in percent with its interval: "60.00 ± 5.10", or "97.00 -8.48 +2.26" if lopsided.

    A difference that is the same in all episodes has none: "same in all 12 episodes".

    Args:
        interval: of a share or a difference of shares.
        form: of a number, such as "{:+.2f}"; its decimals are those of the sides too.
    """
    text = form.format(100 * interval.mean)
    if interval.equal:
        return same_text(interval, text)
    if interval.low is None or interval.high is None:
        return text
    places = len(text.rpartition(".")[2])
    if lopsided(interval):
        below, above = interval.mean - interval.low, interval.high - interval.mean
        return f"{text} -{100 * below:.{places}f} +{100 * above:.{places}f}"
    return f"{text} ± {50 * (interval.high - interval.low):.{places}f}"


def same_text(interval: Interval, text: str, unit: Unit = "episode") -> str:
    """A difference that is the same in all episodes, in words, since nothing shows its spread.

    Args:
        interval: that is `equal`.
        text: of its mean.
        unit: what it is over.
    """
    where = f"in all {interval.n:,} {unit}s"
    return f"{text} {where}" if abs(interval.mean) > _EQUAL else f"same {where}"


def lined_up(cells: Sequence[str]) -> list[str]:
    """Cells of `with_spread` padded so that means and sides stand below each other."""
    parts = [cell.split(" ") for cell in cells]
    width: dict[tuple[bool, int], int] = {}
    for part in parts:
        for i in range(1, len(part)):
            key = part[1] == "±", i
            width[key] = max(width.get(key, 0), len(part[i]))
    sides = [
        "".join(f" {part[i].rjust(width[part[1] == '±', i])}" for i in range(1, len(part)))
        for part in parts
    ]
    means = max((len(part[0]) for part in parts), default=0)
    rest = max(map(len, sides), default=0)
    return [
        part[0].rjust(means) + side.ljust(rest) for part, side in zip(parts, sides, strict=True)
    ]


def lopsided_note(intervals: Sequence[Interval], places: int = 2) -> str:
    """What two numbers behind a mean are, with the first such interval as the example."""
    first = next(value for value in intervals if lopsided(value))
    shown = with_spread(first, f"{{:.{places}f}}")
    return (
        f"Where both sides differ they stand apart: {shown} is an interval that reaches "
        f"{shown.split(' ')[1][1:]} below the mean and {shown.split(' ')[2][1:]} above it."
    )


def episode_notes(rows: Sequence[TableRow], *, paired: bool) -> list[str]:
    """That rows of a table have different episodes; nothing where they have the same.

    Args:
        rows: of a table.
        paired: whether it has a column of differences over the episodes that two rows have.
    """
    ran = [row for row in rows if row.accuracies]
    shots = {row.shot for row in ran}
    if all(len({frozenset(r.accuracies) for r in ran if r.shot == shot}) < 2 for shot in shots):
        return []
    every = len(set(chain.from_iterable(row.accuracies for row in ran)))
    least = min(len(row.accuracies) for row in ran)
    how = "the column over frozen or " if paired else ""
    return [
        f"Rows have different episodes, the least {least} of {every}: some are not finished, or "
        "episodes failed. Their accuracies are means over different episodes and are not to be "
        f"compared with each other; use {how}fewshot-i2v compare --common, which takes the "
        "episodes that two rows both have."
    ]
