"""A comparison as plain text: the table, a sentence for each row, and what it all means."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log2

from fewshot_i2v.report.comparison.baselines import Contender
from fewshot_i2v.report.comparison.compare import Comparison, elsewhere, where
from fewshot_i2v.report.tables.terminal import NAMES_GIVEN, same_text, start_notes
from fewshot_i2v.statistics import Interval
from fewshot_i2v.statistics.verdicts import each_level
from fewshot_i2v.utils.text_table import aligned, escaped, sentences, wrapped

_LEFTS = frozenset({"row", "against"})
_NONE = "-"
_LEAST_SHOWN = 1e-4


def render_comparisons(
    comparisons: Sequence[Comparison], alone: Sequence[Contender] = (), *, level: float = 0.95
) -> str:
    """The comparisons as aligned text, one table for each setting, with sentences and a legend.

    Args:
        comparisons: as `fewshot_i2v.report.comparison.compare.compare_rows` gives them; one family.
        alone: rows that were not compared, for want of a baseline.
        level: the level that they were made with.

    Returns:
        The text, without a newline at the end.
    """
    settings: dict[str, list[Comparison]] = {}
    for c in comparisons:
        settings.setdefault(_title(c), []).append(c)
    tables = [_table(title, of_it, level) for title, of_it in settings.items()]
    notes = [*_legend(comparisons, level), *_missing(alone)]
    return "\n\n".join([*tables, "\n".join(wrapped(notes))])


def _title(comparison: Comparison) -> str:
    """The setting of both rows; where something of it differs, that of the row comes first."""
    row, baseline = comparison.row.title, comparison.baseline.title
    parts, others = row.split(", "), baseline.split(", ")
    if len(parts) != len(others):
        return f"{row}; against {baseline}"
    return ", ".join(map(_both, parts, others))


def _both(one: str, other: str) -> str:
    """Two texts as one, with what they begin and end with said once: "16 and 8 frames"."""
    if one == other:
        return one
    a, b = one.split(), other.split()
    start = _common(a, b)  # the word there is of the middle, so the end begins behind it
    end = _common(a[:start:-1], b[:start:-1])
    middles = [words[start : len(words) - end] for words in (a, b)]
    if not all(middles):
        return f"{one} and {other}"
    joined = [*a[:start], *middles[0], "and", *middles[1], *a[len(a) - end :]]
    return " ".join(joined)


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    """How many of the first words are the same."""
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


def _table(title: str, comparisons: Sequence[Comparison], level: float) -> str:
    columns = {
        "row": [c.name for c in comparisons],
        "against": [c.baseline_name for c in comparisons],
        "shot": [str(c.row.row.shot) for c in comparisons],
        "units": [str(c.difference.n) for c in comparisons],
        "accuracy %": [f"{100 * c.mean:.2f}" for c in comparisons],
        "against %": [f"{100 * c.baseline_mean:.2f}" for c in comparisons],
        "difference": [_difference(c) for c in comparisons],
        f"{100 * level:g} % interval": [_ends(c.difference) for c in comparisons],
        "other clips": [_ends(c.other_clips) for c in comparisons],
        "p": [p_text(c.p) for c in comparisons],
        "Holm p": [p_text(c.p_holm) for c in comparisons],
        "win/tie/loss": [f"{c.wins}/{c.ties}/{c.losses}" for c in comparisons],
    }
    units = {c.unit for c in comparisons}
    heading = f"{units.pop()}s" if len(units) == 1 else "episodes or clips"
    columns = {heading if key == "units" else key: cells for key, cells in columns.items()}
    heads = {contender.row.head for c in comparisons for contender in (c.row, c.baseline)}
    title += f", head {escaped(heads.pop())}" if len(heads) == 1 else ""
    said = wrapped(sentence(c, level) for c in comparisons)
    return "\n".join([title, "", *aligned(columns, _LEFTS), "", *said])


def sentence(comparison: Comparison, level: float) -> str:
    """The verdict on one row in words."""
    c = comparison
    start = f"{c.name} {c.verdict} {c.baseline_name} {where(c.unit, also=c.also)}"
    start += f" at {c.row.row.shot} shot"
    start += "" if c.row.row.shot == 1 else "s"
    size = f"{100 * abs(c.difference.mean):.2f} points"
    if c.verdict != "cannot be told apart from":
        return f"{start}, by {size} (Holm p {p_text(c.p_holm)}){_open(c)}."
    if not c.changed:
        return f"{start}: their accuracies are the same in every {c.unit}."
    if 2.0 ** (1 - c.changed) > 1 - level:
        return (
            f"{start}: they differ in {c.changed} of {c.difference.n} {c.unit}s, too few for any "
            "verdict, whichever of them is better there."
        )
    text = f"{start}: {_points(c.difference.mean)} points (Holm p {p_text(c.p_holm)})"
    if c.unit == "episode" and c.undecided * 2.0 ** (1 - c.changed) > 1 - level:
        least = ceil(1 + log2(c.undecided / (1 - level)))
        return (
            f"{text}; with {c.undecided} comparisons left to decide, {c.changed} episodes that "
            f"differ allow no verdict, however large the difference: it takes at least {least}."
        )
    if c.visible is None:
        return f"{text}."
    visible = f"a true difference of {100 * c.visible:.1f} points"
    return f"{text}; {visible} there would be told apart in 80 % of such runs."


def _open(comparison: Comparison) -> str:
    """What a verdict leaves open of other clips; empty where nothing."""
    ends = _ends(comparison.other_clips)
    ends = "" if ends == _NONE else ends
    return elsewhere(comparison.unit, also=comparison.also, ends=ends)


def p_text(p: float) -> str:
    """A probability with four decimals; smaller ones as a bound."""
    return f"<{_LEAST_SHOWN:.4f}" if p < _LEAST_SHOWN else f"{p:.4f}"


def _points(difference: float) -> str:
    return f"{100 * difference:+z.2f}"


def _difference(comparison: Comparison) -> str:
    """The difference; in words where it is the same in all episodes or clips."""
    interval = comparison.difference
    text = _points(interval.mean)
    return same_text(interval, text, comparison.unit) if interval.equal else text


def _ends(interval: Interval | None) -> str:
    if interval is None or interval.low is None or interval.high is None:
        return _NONE
    return f"[{_points(interval.low)}, {_points(interval.high)}]"


def _legend(comparisons: Sequence[Comparison], level: float) -> list[str]:
    first, number = comparisons[0].difference, len(comparisons)
    units = " or ".join(dict.fromkeys(f"{c.unit}s" for c in comparisons))
    risk = f"{1 - level:.3g}"
    adjusted = f"Holm p: equal to p, for there is one comparison; at most {risk} is a verdict."
    if number > 1:
        adjusted = (
            f"Holm p: p adjusted for the {number} comparisons shown. Verdicts go by it: at most "
            f"{risk}, and one or more of them are wrong on these clips in at most "
            f"{100 * (1 - level):.3g} % of such tables."
        )
    lines = [
        f"difference: mean of row minus against over the same {units}, in percentage points; "
        f"interval: {100 * level:g} %, {first.method}.",
        *sentences(c.difference.covers for c in comparisons),
        "p: how probable so large a difference is where neither is better "
        f"({_tests(comparisons)}); it speaks of the same clips and classes as the interval.",
        adjusted,
        *_other_clips_legend(comparisons, level),
    ]
    return [*lines, *_rows_legend(comparisons)]


def _other_clips_legend(comparisons: Sequence[Comparison], level: float) -> list[str]:
    """What the intervals for other clips are, and when a verdict covers other clips."""
    found = [c.other_clips for c in comparisons if c.other_clips is not None]
    known = sorted({one.method for one in found if one.low is not None})
    covers = " ".join(sentences(one.covers for one in found))
    if not known:
        return [f"other clips: {covers}"] if found else []
    number, wrong = len(comparisons), f"{100 * (1 - level):.3g} %"
    strict = f"{100 * each_level(level, number):.4g} %"
    shared = "" if number == 1 else f", so that all {number} hold together (Bonferroni)"
    return [
        f"other clips: interval of the difference, {100 * level:g} %, {' or '.join(known)}. "
        f"{covers}",
        f"A verdict says other clips of these classes only where, besides, that interval at "
        f"{strict}{shared} excludes 0: one or more of these are wrong in at most {wrong} of such "
        "tables.",
    ]


def _tests(comparisons: Sequence[Comparison]) -> str:
    tests = list(dict.fromkeys(c.test for c in comparisons))
    flips = [t.partition(", ")[2] for t in tests if t.startswith("sign-flip")]
    ways = dict.fromkeys("all ways counted" if t.startswith("all") else t for t in flips)
    said = [f"sign-flip test: the rows swapped at random in each, {' or '.join(ways)}"] * bool(ways)
    said += [f"over clips: {t}" for t in tests if not t.startswith("sign-flip")]
    return "; ".join(said)


def _rows_legend(comparisons: Sequence[Comparison]) -> list[str]:
    contenders = dict.fromkeys(x for c in comparisons for x in (c.row, c.baseline))
    lines = []
    left = max(c.asked.left_out for c in comparisons)
    if left:
        lines.append(
            f"Up to {left} episodes of a comparison were left out: only one of the rows has them, "
            "or they differ or failed."
        )
    across = dict.fromkeys(text for c in comparisons for text in c.asked.across)
    if across:
        lines.append("Compared although it differs: " + "; ".join(across) + ".")
    seeds = sorted({c.seeds for c in contenders} - {1})
    if seeds:
        lines.append(
            f"Rows of {' or '.join(map(str, seeds))} training seeds: the mean over the seeds, "
            "episode by episode."
        )
    lines += start_notes([c.row for c in contenders])
    named = {c.row.uses_names for c in contenders}
    if len(named) > 1:
        heads = ", ".join(dict.fromkeys(c.row.head for c in contenders if c.row.uses_names))
        lines.append(f"names: rows with the head {heads} were {NAMES_GIVEN}")
    return lines


def _missing(alone: Sequence[Contender]) -> list[str]:
    if not alone:
        return []
    return [
        "Not compared, for no other row has their head and shot and was asked the same: "
        + ", ".join(str(c.folder) for c in alone)
        + ". --baseline names what to compare with, and says what differs."
    ]
