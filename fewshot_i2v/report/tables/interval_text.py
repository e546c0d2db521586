"""Intervals as text: in cells, aligned below each other, and in notes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from fewshot_i2v.statistics import Interval
from fewshot_i2v.statistics.intervals import MIN_EPISODES, Unit
from fewshot_i2v.utils.text_table import count_text, join_with_and, unique_sentences

EMPTY = "-"
"""Cell without a value."""
FEW_DIFFER, ALL_EQUAL = "few differ", "all equal"
"""Why a gain has no interval: too few episodes differ, or the difference is the same in all."""
_TOLERANCE = 1e-9


def is_asymmetric(interval: Interval) -> bool:
    """Whether the two sides of an interval differ."""
    if interval.low is None or interval.high is None:
        return False
    return abs(interval.low + interval.high - 2 * interval.mean) > _TOLERANCE


def format_interval(interval: Interval, form: str) -> str:
    """Format a percentage with its interval: "60.0 ± 5.1", or "97.0 [88.5, 99.3]" if asymmetric.

    A difference that is the same in all episodes has none: "same in all 12 episodes". The decimals
    of `form`, such as "{:+.1f}", are those of the interval too.
    """
    text = form.format(100 * interval.mean)
    if interval.equal:
        return constant_difference_text(interval, text)
    if interval.low is None or interval.high is None:
        return text
    if is_asymmetric(interval):
        return f"{text} {format_ends(interval, form)}"
    decimals = len(text.rpartition(".")[2])
    return f"{text} ± {50 * (interval.high - interval.low):.{decimals}f}"


def format_with_ends(interval: Interval) -> str:
    """Format an accuracy in percent with the ends of its interval: "90.3 [81.9, 95.1]"."""
    return f"{100 * interval.mean:.1f} {format_ends(interval)}".rstrip()


def format_gain(gain: Interval) -> str:
    """Format a gain in points: "+28.0 ± 9.3", or "+0.3 (few differ)", why it has no interval."""
    text = format_signed(gain.mean)
    if gain.low is not None and gain.high is not None:
        return f"{text} ± {50 * (gain.high - gain.low):.1f}"
    return f"{text} ({no_interval_reason(gain)})"


def no_interval_reason(gain: Interval) -> str:
    """Why a gain has no interval: `FEW_DIFFER`, `ALL_EQUAL`, or how few episodes there are."""
    if gain.n < MIN_EPISODES:
        return count_text(gain.n, "episode")
    return ALL_EQUAL if gain.equal else FEW_DIFFER


def constant_difference_text(interval: Interval, text: str, unit: Unit = "episode") -> str:
    """Format a difference that is the same in all episodes, whose spread is unknown, in words."""
    scope = f"in all {interval.n:,} {unit}s"
    return f"{text} {scope}" if abs(interval.mean) > _TOLERANCE else f"same {scope}"


def align_means(cells: Sequence[str]) -> list[str]:
    """Pad cells that begin with a number, so that the numbers and what follows them are aligned."""
    pieces = [cell.partition(" ") for cell in cells]
    mean_width = max((len(mean) for mean, _, _ in pieces), default=0)
    tail_width = max((len(tail) for _, _, tail in pieces), default=0)
    return [
        f"{mean.rjust(mean_width)}{gap or ' ' * bool(tail_width)}{tail.ljust(tail_width)}"
        for mean, gap, tail in pieces
    ]


def join_methods(intervals: Iterable[Interval]) -> str:
    """Methods of some intervals, such as "Student t or paired Student t", each once.

    Those without ends have none, unless all are.
    """
    intervals = list(intervals)
    with_ends = [interval for interval in intervals if interval.low is not None]
    methods = sorted({interval.method for interval in with_ends or intervals})
    return " or ".join([*methods[:1], *_without_common_start(methods)[1:]])


def methods_by_label(labelled: Sequence[tuple[str, Interval]]) -> str:
    """Methods of some intervals, each once, and for all but the most frequent one, whose it is.

    Such as "jackknife over clips, Student t; for aim: Student t on the logit scale". Intervals
    without ends have none, unless all are.
    """
    with_ends = [pair for pair in labelled if pair[1].low is not None]
    labels: dict[str, list[str]] = defaultdict(list)
    for label, interval in with_ends or labelled:
        labels[interval.method].append(label)
    if not with_ends:
        return " or ".join(sorted(labels))
    methods = sorted(labels, key=lambda method: -len(labels[method]))
    short = _without_common_start(methods)
    further = [
        f"for {join_with_and(labels[method], len(labels[method]))}: {text}"
        for method, text in zip(methods[1:], short[1:], strict=True)
    ]
    return "; ".join([*methods[:1], *further])


def _without_common_start(methods: Sequence[str]) -> list[str]:
    """Methods without the part before the comma, where all have the same."""
    starts = {method.rpartition(", ")[0] for method in methods}
    return [method.rpartition(", ")[2] for method in methods] if len(starts) == 1 else [*methods]


def join_covers(intervals: Iterable[Interval]) -> str:
    """Sentences on what some intervals cover, each once."""
    return " ".join(unique_sentences(interval.covers for interval in intervals))


def methods_text(means: Sequence[Interval]) -> str:
    """Methods of intervals over episodes, in a sentence or two."""
    asymmetry = " Near 0 or 100 %, or with few episodes, it is not the same on both sides."
    return f"{join_methods(means)} over episodes." + asymmetry * any(map(is_asymmetric, means))


def format_ends(interval: Interval | None, form: str = "{:.1f}") -> str:
    """Format the ends of an interval in percent, "[54.9, 65.1]"; empty where there are none."""
    if interval is None or interval.low is None or interval.high is None:
        return ""
    return f"[{form.format(100 * interval.low)}, {form.format(100 * interval.high)}]"


def format_signed(share: float) -> str:
    """Format a difference of shares in points with its sign; without one where it rounds to 0."""
    text = f"{100 * share:+z.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text
