"""Table of an evaluation as plain text: aligned, without colour, safe to print."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

from fewshot_i2v.errors import UsageError
from fewshot_i2v.runs.row_summary import (
    FRESH,
    INPUT_MISMATCH,
    TableRow,
    has_seeds,
    has_starts,
    is_frozen,
    mean_accuracy,
    methods_text,
)
from fewshot_i2v.statistics import Interval, paired_difference
from fewshot_i2v.statistics.intervals import Unit
from fewshot_i2v.utils.text_table import align_columns, escape_name, unique_sentences, wrap_notes

if TYPE_CHECKING:
    pass

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


def episode_notes(rows: Sequence[TableRow], *, paired: bool) -> list[str]:
    """Note that rows of a table have different episodes; nothing where they have the same.

    Args:
        rows: of a table.
        paired: whether it has a column of differences over the episodes that two rows have.
    """
    succeeded = [row for row in rows if row.accuracies]
    shots = {row.shot for row in succeeded}
    if all(
        len({frozenset(r.accuracies) for r in succeeded if r.shot == shot}) < 2 for shot in shots
    ):
        return []
    n_all = len(set(chain.from_iterable(row.accuracies for row in succeeded)))
    n_fewest = min(len(row.accuracies) for row in succeeded)
    alternative = "the column over frozen or " if paired else ""
    return [
        f"Rows have different episodes, the least {n_fewest} of {n_all}: some are not finished, or "
        "episodes failed. Their accuracies are means over different episodes and are not to be "
        f"compared with each other; use {alternative}fewshot-i2v compare --common, which takes the "
        "episodes that two rows both have."
    ]


_EMPTY = "-"
READ_NAMES_NOTE = "given the names of the classes; do not rank them with rows that saw clips only."
"""What is said of rows whose head read the names."""
_LEFT_COLUMNS = frozenset({"adapter", "start", "head", "names"})


def render_table(
    rows: Sequence[TableRow], *, way: int | str, chance: float | None = None, level: float = 0.95
) -> str:
    """Format the rows as aligned plain text with a legend below.

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
    chance = chance_accuracy(way) if chance is None else chance
    if (isinstance(way, int) and way < 1) or not 0 <= chance <= 1:
        raise UsageError(
            f"got way={way}, chance={chance}; expected a way of 1 or more and a chance in 0..1"
        )
    means = [mean_accuracy(row, level) for row in rows]
    gains = [gain_over_frozen(row, rows, level) for row in rows]
    columns = table_columns(rows, means, gains, level)
    columns["accuracy %"] = align_intervals(columns["accuracy %"])
    if not any(gains):
        columns.pop("over frozen")
    if not has_seeds(rows):
        columns.pop("over seeds")
    if not any(row.uses_names for row in rows):
        columns.pop("names")
    if not has_starts(rows):
        columns.pop("start")
    legend = table_legend(rows, [*filter(None, means)], [*filter(None, gains)])
    guess = f"Guessing among {way} classes gives {100 * chance:.1f} %."
    return "\n".join([*align_columns(columns, _LEFT_COLUMNS), "", *wrap_notes([*legend, guess])])


def chance_accuracy(way: int | str) -> float:
    """Accuracy of guessing among `way` classes; 0 where `way` is a text."""
    return 1 / way if isinstance(way, int) and way > 0 else 0.0


def gain_over_frozen(row: TableRow, rows: Sequence[TableRow], level: float) -> Interval | None:
    """Paired difference to the frozen encoder, where both ran some of the same episodes."""
    if is_frozen(row):
        return None
    for candidate in rows:
        if is_frozen(candidate) and (candidate.head, candidate.shot) == (row.head, row.shot):
            common = sorted(row.accuracies.keys() & candidate.accuracies.keys())
            if common:
                a, b = ([member.accuracies[i] for i in common] for member in (row, candidate))
                return paired_difference(a, b, level, clips_shared=row.shared)
    return None


def adapter_name(row: TableRow) -> str:
    """Label of the adapter as one printable line, with its note behind it in brackets."""
    return escape_name(row.adapter) + (f" ({escape_name(row.note)})" if row.note else "")


def start_cells(rows: Sequence[TableRow]) -> list[str]:
    """Cells of the column of starts: the kind of start of each row, and its marks.

    The name of a starting point stands with its kind where there are several of a kind.
    """
    names = defaultdict(set)
    for row in rows:
        names[row.start].add(row.start_name)
    return [_start_cell(row, with_name=len(names[row.start]) > 1) for row in rows]


def _start_cell(row: TableRow, *, with_name: bool) -> str:
    if row.start == FRESH and is_frozen(row):
        return _EMPTY
    name = f" ({escape_name(row.start_name)})" if with_name else ""
    return escape_name(row.start) + name + (", seen" if row.seen else "")


def table_columns(
    rows: Sequence[TableRow],
    means: Sequence[Interval | None],
    gains: Sequence[Interval | None],
    level: float,
) -> dict[str, list[str]]:
    """Cells by heading, top to bottom."""
    return {
        "adapter": [adapter_name(row) for row in rows],
        "start": start_cells(rows),
        "head": [escape_name(row.head) for row in rows],
        "names": ["read" if row.uses_names else _EMPTY for row in rows],
        "shot": [str(row.shot) for row in rows],
        "accuracy %": [_mean_cell(mean, "{:.2f}") for mean in means],
        f"{_level_text(level)} interval": [_interval_cell(mean) for mean in means],
        "over seeds": [_seeds_cell(row) for row in rows],
        "over frozen": [_mean_cell(gain, "{:+z.2f}") for gain in gains],
        "ok/failed": [f"{len(row.accuracies)}/{row.failed}" for row in rows],
        "parameters": [f"{row.parameters:,}" for row in rows],
        "s/episode": [_cell_if_succeeded(row, row.seconds_per_episode, "{:.3g}") for row in rows],
        "peak MiB": [_cell_if_succeeded(row, row.peak_memory_mb, "{:,.0f}") for row in rows],
    }


def _mean_cell(interval: Interval | None, form: str) -> str:
    return _EMPTY if interval is None else format_interval(interval, form)


def _seeds_cell(row: TableRow) -> str:
    deviation = row.seed_deviation
    if deviation is None:
        return _EMPTY
    # equal means are no certainty: mostly, nothing that a seed draws takes part
    return f"{len(row.seed_means)}: " + (f"± {100 * deviation:.2f}" if deviation else "the same")


def _interval_cell(interval: Interval | None) -> str:
    if interval is None or interval.low is None or interval.high is None:
        return _EMPTY
    return f"[{100 * interval.low:.2f}, {100 * interval.high:.2f}]"


def _cell_if_succeeded(row: TableRow, value: float | None, form: str) -> str:
    """Cell of a number that only episodes that succeeded can have."""
    return _EMPTY if value is None or not row.accuracies else form.format(value)


def _level_text(level: float) -> str:
    return f"{100 * level:g} %"


def table_legend(
    rows: Sequence[TableRow], means: Sequence[Interval], gains: Sequence[Interval]
) -> list[str]:
    """Lists what the columns of accuracy and gain mean, one entry a line."""
    lines = []
    if means:
        lines.append(f"± and interval: {_level_text(means[0].level)}, {methods_text(means)}")
        lines += [asymmetry_note(means)] if any(map(is_asymmetric, means)) else []
        lines += unique_sentences(mean.covers for mean in means)
    lines += episode_notes(rows, paired=bool(gains))
    if gains:
        example = gains[0]
        lines.append(
            "over frozen: gain over the frozen encoder with the same head and shot, "
            f"{_level_text(example.level)}, {example.method} over the episodes that both have."
        )
        lines += [
            line for line in unique_sentences(gain.covers for gain in gains) if line not in lines
        ]
    lines += [*seed_notes(rows), *start_notes(rows), *tuning_notes(rows)]
    if any(row.uses_names for row in rows):
        lines.append(f"names: rows with read were {READ_NAMES_NOTE}")
    failed = sum(row.failed for row in rows)
    if failed:
        lines.append(f"Failed episodes: {failed}; left out of the means, their records say why.")
    return lines


def seed_notes(rows: Sequence[TableRow]) -> list[str]:
    """Note on the column of training seeds; nothing where there is none."""
    if not has_seeds(rows):
        return []
    return [
        "over seeds: number of training seeds, and the standard deviation of their means; all "
        "other figures of the row are of the mean over the seeds, episode by episode."
    ]


def tuning_notes(rows: Sequence[TableRow]) -> list[str]:
    """Note on rows that were tuned on clips compared only with themselves."""
    heads = sorted({row.head.partition(":")[0] for row in rows if row.learns_nothing})
    if not heads:
        return []
    return [
        f"1 shot with head {', '.join(heads)}: in tuning, the only clip of a class is compared "
        "with itself, so there is nothing to learn from, and steps can cost accuracy; --steps 0 "
        "evaluates adapters as they start."
    ]


def start_notes(rows: Sequence[TableRow]) -> list[str]:
    """Notes on the column of starts; nothing where there is none."""
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
    if any(INPUT_MISMATCH in row.note for row in rows):
        lines.append(
            f"{INPUT_MISMATCH}: the run has other frames of a clip, or another size or crop of "
            "them, than the starting point was trained with."
        )
    return lines


def format_signed(share: float) -> str:
    """Format a difference of shares in points with its sign; without one where it rounds to 0."""
    text = f"{100 * share:+z.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text
