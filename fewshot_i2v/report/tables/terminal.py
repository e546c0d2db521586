"""The table of an evaluation as plain text: aligned, without colour, safe to print."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

from fewshot_i2v.errors import UsageError
from fewshot_i2v.runs.row_summary import (
    FRESH,
    READ_OTHERWISE,
    TableRow,
    has_seeds,
    has_starts,
    is_frozen,
    mean_of,
    methods_of,
)
from fewshot_i2v.statistics import Interval, paired_difference
from fewshot_i2v.statistics.intervals import Unit
from fewshot_i2v.utils.text_table import aligned, escaped, sentences, wrapped

if TYPE_CHECKING:
    pass

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


_NONE = "-"
NAMES_GIVEN = "given the names of the classes; do not rank them with rows that saw clips only."
"""What is said of rows whose head read the names."""
_LEFTS = frozenset({"adapter", "start", "head", "names"})


def render_table(
    rows: Sequence[TableRow], *, way: int | str, chance: float | None = None, level: float = 0.95
) -> str:
    """The rows as aligned plain text with a legend below.

    Accuracies are in percent. The gain is the paired difference to the row of the adapter `frozen`
    with the same head and shot, over the episodes that both have; its column is there when any row
    has one.

    Args:
        rows: in the order to show them.
        way: classes of an episode, or a text such as "5-10".
        chance: accuracy of guessing, 0..1; 1 / way by default, 0 where that is a text.
        level: of the intervals, above 0 and below 1.

    Returns:
        The text, without a newline at the end.

    Raises:
        UsageError: when `way` is below one, `chance` lies outside 0..1, or `level` is out of range.
    """
    chance = guessing(way) if chance is None else chance
    if (isinstance(way, int) and way < 1) or not 0 <= chance <= 1:
        raise UsageError(
            f"got way={way}, chance={chance}; expected a way of 1 or more and a chance in 0..1"
        )
    means = [mean_of(row, level) for row in rows]
    gains = [_gain(row, rows, level) for row in rows]
    columns = _columns(rows, means, gains, level)
    columns["accuracy %"] = lined_up(columns["accuracy %"])
    if not any(gains):
        columns.pop("over frozen")
    if not has_seeds(rows):
        columns.pop("over seeds")
    if not any(row.uses_names for row in rows):
        columns.pop("names")
    if not has_starts(rows):
        columns.pop("start")
    legend = _legend(rows, [*filter(None, means)], [*filter(None, gains)])
    guess = f"Guessing among {way} classes gives {100 * chance:.1f} %."
    return "\n".join([*aligned(columns, _LEFTS), "", *wrapped([*legend, guess])])


def guessing(way: int | str) -> float:
    """Accuracy of guessing among `way` classes; 0 where that is no one number."""
    return 1 / way if isinstance(way, int) and way > 0 else 0.0


def _gain(row: TableRow, rows: Sequence[TableRow], level: float) -> Interval | None:
    """The paired difference to the frozen encoder, where both ran some of the same episodes."""
    if is_frozen(row):
        return None
    for other in rows:
        if is_frozen(other) and (other.head, other.shot) == (row.head, row.shot):
            shared = sorted(row.accuracies.keys() & other.accuracies.keys())
            if shared:
                a, b = ([r.accuracies[i] for i in shared] for r in (row, other))
                return paired_difference(a, b, level, shared=row.shared)
    return None


def adapter_name(row: TableRow) -> str:
    """The adapter's label as one printable line, with its note behind it in brackets."""
    return escaped(row.adapter) + (f" ({escaped(row.note)})" if row.note else "")


def start_cells(rows: Sequence[TableRow]) -> list[str]:
    """What the adapters of each row began as: the kind, and what must be said with it.

    The name of a starting point stands with its kind where there are several of a kind.
    """
    names = defaultdict(set)
    for row in rows:
        names[row.start].add(row.start_name)
    return [_start_cell(row, several=len(names[row.start]) > 1) for row in rows]


def _start_cell(row: TableRow, *, several: bool) -> str:
    if row.start == FRESH and is_frozen(row):
        return _NONE
    name = f" ({escaped(row.start_name)})" if several else ""
    return escaped(row.start) + name + (", seen" if row.seen else "")


def _columns(
    rows: Sequence[TableRow],
    means: Sequence[Interval | None],
    gains: Sequence[Interval | None],
    level: float,
) -> dict[str, list[str]]:
    """Cells by heading, top to bottom."""
    return {
        "adapter": [adapter_name(row) for row in rows],
        "start": start_cells(rows),
        "head": [escaped(row.head) for row in rows],
        "names": ["read" if row.uses_names else _NONE for row in rows],
        "shot": [str(row.shot) for row in rows],
        "accuracy %": [_with_spread(mean, "{:.2f}") for mean in means],
        f"{_percent(level)} interval": [_ends(mean) for mean in means],
        "over seeds": [_seeds(row) for row in rows],
        "over frozen": [_with_spread(gain, "{:+z.2f}") for gain in gains],
        "ok/failed": [f"{len(row.accuracies)}/{row.failed}" for row in rows],
        "parameters": [f"{row.parameters:,}" for row in rows],
        "s/episode": [_of_episodes(row, row.seconds_per_episode, "{:.3g}") for row in rows],
        "peak MiB": [_of_episodes(row, row.peak_memory_mb, "{:,.0f}") for row in rows],
    }


def _with_spread(interval: Interval | None, form: str) -> str:
    return _NONE if interval is None else with_spread(interval, form)


def _seeds(row: TableRow) -> str:
    deviation = row.seed_deviation
    if deviation is None:
        return _NONE
    # equal means are no certainty: mostly, nothing that a seed draws takes part
    return f"{len(row.seed_means)}: " + (f"± {100 * deviation:.2f}" if deviation else "the same")


def _ends(interval: Interval | None) -> str:
    if interval is None or interval.low is None or interval.high is None:
        return _NONE
    return f"[{100 * interval.low:.2f}, {100 * interval.high:.2f}]"


def _of_episodes(row: TableRow, value: float | None, form: str) -> str:
    """A number that only episodes that succeeded can have."""
    return _NONE if value is None or not row.accuracies else form.format(value)


def _percent(level: float) -> str:
    return f"{100 * level:g} %"


def _legend(
    rows: Sequence[TableRow], means: Sequence[Interval], gains: Sequence[Interval]
) -> list[str]:
    lines = []
    if means:
        lines.append(f"± and interval: {_percent(means[0].level)}, {methods_of(means)}")
        lines += [lopsided_note(means)] if any(map(lopsided, means)) else []
        lines += sentences(mean.covers for mean in means)
    lines += episode_notes(rows, paired=bool(gains))
    if gains:
        first = gains[0]
        lines.append(
            "over frozen: gain over the frozen encoder with the same head and shot, "
            f"{_percent(first.level)}, {first.method} over the episodes that both have."
        )
        lines += [line for line in sentences(gain.covers for gain in gains) if line not in lines]
    lines += [*seed_notes(rows), *start_notes(rows), *tuning_notes(rows)]
    if any(row.uses_names for row in rows):
        lines.append(f"names: rows with read were {NAMES_GIVEN}")
    failed = sum(row.failed for row in rows)
    if failed:
        lines.append(f"Failed episodes: {failed}; left out of the means, their records say why.")
    return lines


def seed_notes(rows: Sequence[TableRow]) -> list[str]:
    """What the column of training seeds means; nothing where there is none."""
    if not has_seeds(rows):
        return []
    return [
        "over seeds: number of training seeds, and the standard deviation of their means; all "
        "other figures of the row are of the mean over the seeds, episode by episode."
    ]


def tuning_notes(rows: Sequence[TableRow]) -> list[str]:
    """What is to be said of rows that were tuned on clips compared with themselves alone."""
    heads = sorted({row.head.partition(":")[0] for row in rows if row.learns_nothing})
    if not heads:
        return []
    return [
        f"1 shot with head {', '.join(heads)}: in tuning, the only clip of a class is compared "
        "with itself, so there is nothing to learn from, and steps can cost accuracy; --steps 0 "
        "evaluates adapters as they start."
    ]


def start_notes(rows: Sequence[TableRow]) -> list[str]:
    """What the column of starts means; nothing where there is none."""
    if not has_starts(rows):
        return []
    lines = [
        "start: what each episode's adapter begins as: fresh, with untrained values; base-trained "
        "or meta-trained, with those of a starting point. Neither its training nor the choice of "
        "its state looked at the row's classes, but where the row says seen."
    ]
    if any(row.seen for row in rows):
        lines.append(
            "seen: the starting point was trained on classes or clips of this evaluation, or its "
            "state was chosen on them; such a row does not say how well new classes are learnt, "
            "and is not to be ranked with others."
        )
    if any(READ_OTHERWISE in row.note for row in rows):
        lines.append(
            f"{READ_OTHERWISE}: the run has other frames of a clip, or another size or crop of "
            "them, than the starting point was trained with."
        )
    return lines


def signed(share: float) -> str:
    """A difference of shares in points with its sign; what rounds to nothing has none."""
    text = f"{100 * share:+z.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text
