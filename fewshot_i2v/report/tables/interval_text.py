"""Intervals as text: in cells, aligned below each other, and in notes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fewshot_i2v.statistics import Interval
from fewshot_i2v.statistics.intervals import Unit
from fewshot_i2v.utils.text_table import unique_sentences

EMPTY = "-"
"""Cell without a value."""
_TOLERANCE = 1e-9


def is_asymmetric(interval: Interval) -> bool:
    """Whether the two sides of an interval differ."""
    if interval.low is None or interval.high is None:
        return False
    return abs(interval.low + interval.high - 2 * interval.mean) > _TOLERANCE


def format_interval(interval: Interval, form: str) -> str:
    """Format a percentage with its interval: "60.00 ± 5.10", or "97.00 -8.48 +2.26" if asymmetric.

    A difference that is the same in all episodes has none: "same in all 12 episodes".

    Args:
        interval: of a share or a difference of shares.
        form: of a number, such as "{:+.2f}"; its decimals are those of the sides too.
    """
    text = form.format(100 * interval.mean)
    if interval.equal:
        return constant_difference_text(interval, text)
    if interval.low is None or interval.high is None:
        return text
    decimals = len(text.rpartition(".")[2])
    if is_asymmetric(interval):
        below, above = interval.mean - interval.low, interval.high - interval.mean
        return f"{text} -{100 * below:.{decimals}f} +{100 * above:.{decimals}f}"
    return f"{text} ± {50 * (interval.high - interval.low):.{decimals}f}"


def constant_difference_text(interval: Interval, text: str, unit: Unit = "episode") -> str:
    """Format a difference that is the same in all episodes, in words, since its spread is unknown.

    Args:
        interval: that is `equal`.
        text: of its mean.
        unit: what it is over.
    """
    scope = f"in all {interval.n:,} {unit}s"
    return f"{text} {scope}" if abs(interval.mean) > _TOLERANCE else f"same {scope}"


def align_intervals(cells: Sequence[str]) -> list[str]:
    """Pad cells of `format_interval` so that means and sides are aligned."""
    split_cells = [cell.split(" ") for cell in cells]
    widths: dict[tuple[bool, int], int] = {}
    for pieces in split_cells:
        for i in range(1, len(pieces)):
            key = pieces[1] == "±", i
            widths[key] = max(widths.get(key, 0), len(pieces[i]))
    sides = [
        "".join(f" {pieces[i].rjust(widths[pieces[1] == '±', i])}" for i in range(1, len(pieces)))
        for pieces in split_cells
    ]
    mean_width = max((len(pieces[0]) for pieces in split_cells), default=0)
    side_width = max(map(len, sides), default=0)
    return [
        pieces[0].rjust(mean_width) + side.ljust(side_width)
        for pieces, side in zip(split_cells, sides, strict=True)
    ]


def asymmetry_note(intervals: Sequence[Interval], decimals: int = 2) -> str:
    """Note on the two numbers behind a mean, with the first such interval as the example."""
    example = next(value for value in intervals if is_asymmetric(value))
    shown = format_interval(example, f"{{:.{decimals}f}}")
    return (
        f"Where both sides differ they stand apart: {shown} is an interval that reaches "
        f"{shown.split(' ')[1][1:]} below the mean and {shown.split(' ')[2][1:]} above it."
    )


def join_methods(intervals: Iterable[Interval]) -> str:
    """Methods of some intervals, such as "Student t or paired Student t"."""
    return " or ".join(sorted({interval.method for interval in intervals}))


def join_covers(intervals: Iterable[Interval]) -> str:
    """Sentences on what some intervals cover, each once."""
    return " ".join(unique_sentences(interval.covers for interval in intervals))


def methods_text(means: Sequence[Interval]) -> str:
    """Methods of intervals over episodes, in a sentence or two."""
    asymmetry = " Near 0 or 100 %, or with few episodes, it is not the same on both sides."
    return f"{join_methods(means)} over episodes." + asymmetry * any(map(is_asymmetric, means))


def format_ends(interval: Interval | None, form: str = "{:.2f}") -> str:
    """Format the ends of an interval in percent, "[54.90, 65.10]"; empty where there are none.

    Args:
        interval: of a share or a difference of shares.
        form: of a number, such as "{:+z.2f}".
    """
    if interval is None or interval.low is None or interval.high is None:
        return ""
    return f"[{form.format(100 * interval.low)}, {form.format(100 * interval.high)}]"


def format_signed(share: float) -> str:
    """Format a difference of shares in points with its sign; without one where it rounds to 0."""
    text = f"{100 * share:+z.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text
