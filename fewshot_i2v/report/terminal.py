"""The table of an evaluation as plain text: aligned, without colour, safe to print."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics import Interval, mean_interval, paired_difference

_GAP = "  "
_NONE = "-"
_LONGEST_NAME = 60
_NOTE_WIDTH = 100
_BASELINE = "frozen"
_FRESH = "fresh"


@dataclass(frozen=True)
class TableRow:
    """One adapter, start, head and shot of the table.

    Attributes:
        adapter: label, such as "aim:scale=1.0".
        head: label.
        shot: support clips per class, or a range of them.
        accuracies: of each episode that succeeded, 0..1, by episode number.
        failed: episodes that failed.
        parameters: trained parameters of one episode, adapter and head.
        seconds_per_episode: typical time of an episode, or None where unknown.
        peak_memory_mb: in MiB, or None where unknown.
        note: said beside the adapter's name, such as "reconstruction"; or empty.
        uses_names: whether the head read the class names.
        start: what the adapters began as: "fresh", "base-trained" or "meta-trained".
        start_name: name of the starting point; empty for "fresh".
        seen: whether the starting point was trained on classes or clips of the evaluation, or its
            state chosen on them.
        shared: whether episodes have clips in common.
    """

    adapter: str
    head: str
    shot: int | str
    accuracies: Mapping[int, float] = field(repr=False)
    failed: int = 0
    parameters: int = 0
    seconds_per_episode: float | None = None
    peak_memory_mb: float | None = None
    note: str = ""
    uses_names: bool = False
    start: str = _FRESH
    start_name: str = ""
    seen: bool = False
    shared: bool = True


def mean_of(row: TableRow, level: float) -> Interval | None:
    """Mean accuracy of a row with its interval; None where no episode succeeded."""
    if not row.accuracies:
        return None
    return mean_interval(list(row.accuracies.values()), level, shared=row.shared)


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
    if not any(gains):
        columns.pop("over frozen")
    if not any(row.uses_names for row in rows):
        columns.pop("names")
    if not has_starts(rows):
        columns.pop("start")
    legend = _legend(rows, [*filter(None, means)], [*filter(None, gains)])
    guess = f"Guessing among {way} classes gives {100 * chance:.1f} %."
    wrap = textwrap.TextWrapper(_NOTE_WIDTH, break_on_hyphens=False).wrap
    notes = [part for line in [*legend, guess] for part in wrap(line)]
    return "\n".join([*_aligned(columns), "", *notes])


def guessing(way: int | str) -> float:
    """Accuracy of guessing among `way` classes; 0 where that is no one number."""
    return 1 / way if isinstance(way, int) and way > 0 else 0.0


def escaped(name: str) -> str:
    """A name as one printable line: control and direction marks shown as escapes, long ones cut.

    Args:
        name: anything.

    Returns:
        At most 60 characters, the last one "…" where something was cut.
    """
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii")
        for c in name[: _LONGEST_NAME + 1]
    )
    return shown if len(shown) <= _LONGEST_NAME else shown[: _LONGEST_NAME - 1] + "…"


def _is_baseline(row: TableRow) -> bool:
    return row.adapter.partition(":")[0] == _BASELINE


def _gain(row: TableRow, rows: Sequence[TableRow], level: float) -> Interval | None:
    """The paired difference to the frozen encoder, where both ran some of the same episodes."""
    if _is_baseline(row):
        return None
    for other in rows:
        if _is_baseline(other) and (other.head, other.shot) == (row.head, row.shot):
            shared = sorted(row.accuracies.keys() & other.accuracies.keys())
            if shared:
                a, b = ([r.accuracies[i] for i in shared] for r in (row, other))
                return paired_difference(a, b, level, shared=row.shared)
    return None


def adapter_name(row: TableRow) -> str:
    """The adapter's label as one printable line, with its note behind it in brackets."""
    return escaped(row.adapter) + (f" ({escaped(row.note)})" if row.note else "")


def has_starts(rows: Sequence[TableRow]) -> bool:
    """Whether any row has a starting point, so that what each began as must be said."""
    return any(row.start != _FRESH for row in rows)


def start_cells(rows: Sequence[TableRow]) -> list[str]:
    """What the adapters of each row began as: the kind, and what must be said with it.

    The name of a starting point stands with its kind where there are several of a kind.
    """
    names = defaultdict(set)
    for row in rows:
        names[row.start].add(row.start_name)
    return [_start_cell(row, several=len(names[row.start]) > 1) for row in rows]


def _start_cell(row: TableRow, *, several: bool) -> str:
    if row.start == _FRESH and _is_baseline(row):
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
        "accuracy %": [_with_half_width(mean, "{:.2f}") for mean in means],
        f"{_percent(level)} interval": [_ends(mean) for mean in means],
        "over frozen": [_with_half_width(gain, "{:+.2f}") for gain in gains],
        "ok/failed": [f"{len(row.accuracies)}/{row.failed}" for row in rows],
        "parameters": [f"{row.parameters:,}" for row in rows],
        "s/episode": [_number(row.seconds_per_episode, "{:.3g}") for row in rows],
        "peak MiB": [_number(row.peak_memory_mb, "{:,.0f}") for row in rows],
    }


def _with_half_width(interval: Interval | None, form: str) -> str:
    if interval is None:
        return _NONE
    half = interval.half_width
    spread = "" if half is None else f" ± {100 * half:.2f}"
    return form.format(100 * interval.mean) + spread


def _ends(interval: Interval | None) -> str:
    if interval is None or interval.low is None or interval.high is None:
        return _NONE
    return f"[{100 * interval.low:.2f}, {100 * interval.high:.2f}]"


def _number(value: float | None, form: str) -> str:
    return _NONE if value is None else form.format(value)


def _percent(level: float) -> str:
    return f"{100 * level:g} %"


def _aligned(columns: Mapping[str, Sequence[str]]) -> list[str]:
    """Lines of the table: names to the left, numbers to the right, a rule below the headings."""
    lefts = {"adapter", "start", "head", "names"}
    padded = []
    for heading, cells in columns.items():
        width = max(_width(cell) for cell in (heading, *cells))
        sides = [
            cell + " " * (width - _width(cell))
            if heading in lefts
            else " " * (width - _width(cell)) + cell
            for cell in (heading, *cells)
        ]
        padded.append([sides[0], "-" * width, *sides[1:]])
    return [_GAP.join(line).rstrip() for line in zip(*padded, strict=True)]


def _width(text: str) -> int:
    """Columns of a terminal that a text takes."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def _legend(
    rows: Sequence[TableRow], means: Sequence[Interval], gains: Sequence[Interval]
) -> list[str]:
    lines = []
    if means:
        first = means[0]
        lines.append(f"± and interval: {_percent(first.level)}, {first.method} over episodes.")
        lines += sentences(mean.covers for mean in means)
    if gains:
        first = gains[0]
        lines.append(
            "over frozen: gain over the frozen encoder with the same head and shot, "
            f"{_percent(first.level)}, {first.method} over the episodes that both have."
        )
        lines += [line for line in sentences(gain.covers for gain in gains) if line not in lines]
    lines += start_notes(rows)
    if any(row.uses_names for row in rows):
        lines.append(
            "names: rows with read were given the names of the classes; do not rank them with rows "
            "that saw clips only."
        )
    failed = sum(row.failed for row in rows)
    if failed:
        lines.append(f"Failed episodes: {failed}; left out of the means, their records say why.")
    return lines


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
    return lines


def sentences(texts: Iterable[str]) -> list[str]:
    """Each sentence once, in order of first appearance."""
    return list(dict.fromkeys(s for text in texts for s in re.split(r"(?<=\.) ", text)))
