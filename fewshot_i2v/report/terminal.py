"""The table of an evaluation as plain text: aligned, without colour, safe to print."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from fewshot_i2v.errors import UsageError
from fewshot_i2v.report._columns import aligned, sentences, wrapped
from fewshot_i2v.report._spread import (
    episode_notes,
    lined_up,
    lopsided,
    lopsided_note,
    with_spread,
)
from fewshot_i2v.report.rows import FRESH, READ_OTHERWISE, TableRow, mean_of, methods_of
from fewshot_i2v.statistics import Interval, paired_difference

_NONE = "-"
_LONGEST_NAME = 60
_BASELINE = "frozen"
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


def is_frozen(row: TableRow) -> bool:
    """Whether a row is of the frozen encoder alone, which others are compared with."""
    return row.adapter.partition(":")[0] == _BASELINE


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


def has_starts(rows: Sequence[TableRow]) -> bool:
    """Whether any row has a starting point, so that what each began as must be said."""
    return any(row.start != FRESH for row in rows)


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


def has_seeds(rows: Sequence[TableRow]) -> bool:
    """Whether any row is the mean over several training seeds."""
    return any(row.seed_means for row in rows)


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
