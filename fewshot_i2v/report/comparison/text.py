"""Comparisons as plain text: the table, a sentence for each pair, and a legend."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log2

from fewshot_i2v.report.comparison.baselines import ComparedRow
from fewshot_i2v.report.comparison.compare import RowComparison, clips_clause, other_clips_clause
from fewshot_i2v.report.tables.terminal import (
    READ_NAMES_NOTE,
    constant_difference_text,
    start_notes,
)
from fewshot_i2v.statistics import Interval
from fewshot_i2v.statistics.verdicts import per_comparison_level
from fewshot_i2v.utils.text_table import align_columns, escape_name, unique_sentences, wrap_notes

_LEFT_COLUMNS = frozenset({"row", "against"})
_EMPTY = "-"
_MIN_SHOWN_P = 1e-4


def render_comparisons(
    comparisons: Sequence[RowComparison],
    not_compared: Sequence[ComparedRow] = (),
    *,
    level: float = 0.95,
) -> str:
    """Format comparisons as aligned text, one table for each setting, with sentences and a legend.

    Args:
        comparisons: from `fewshot_i2v.report.comparison.compare_rows`; one family.
        not_compared: rows without a baseline.
        level: the level that they were made with.

    Returns:
        The text, without a newline at the end.
    """
    settings: dict[str, list[RowComparison]] = {}
    for comparison in comparisons:
        settings.setdefault(_table_title(comparison), []).append(comparison)
    tables = [_table(title, members, level) for title, members in settings.items()]
    notes = [*_legend(comparisons, level), *_not_compared_notes(not_compared)]
    return "\n\n".join([*tables, "\n".join(wrap_notes(notes))])


def _table_title(comparison: RowComparison) -> str:
    """Setting of both rows; where a term of it differs, that of the row comes first."""
    row, baseline = comparison.row.title, comparison.baseline.title
    row_terms, baseline_terms = row.split(", "), baseline.split(", ")
    if len(row_terms) != len(baseline_terms):
        return f"{row}; against {baseline}"
    return ", ".join(map(_merge_settings, row_terms, baseline_terms))


def _merge_settings(row_term: str, baseline_term: str) -> str:
    """Merge two texts, repeating neither their start nor their end: "16 and 8 frames"."""
    if row_term == baseline_term:
        return row_term
    a, b = row_term.split(), baseline_term.split()
    start = _common_prefix_length(
        a, b
    )  # the word there is of the middle, so the end begins behind it
    end = _common_prefix_length(a[:start:-1], b[:start:-1])
    middles = [words[start : len(words) - end] for words in (a, b)]
    if not all(middles):
        return f"{row_term} and {baseline_term}"
    joined = [*a[:start], *middles[0], "and", *middles[1], *a[len(a) - end :]]
    return " ".join(joined)


def _common_prefix_length(a: Sequence[str], b: Sequence[str]) -> int:
    """Number of leading words that are the same."""
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


def _table(title: str, comparisons: Sequence[RowComparison], level: float) -> str:
    columns = {
        "row": [comparison.name for comparison in comparisons],
        "against": [comparison.baseline_name for comparison in comparisons],
        "shot": [str(comparison.row.table_row.shot) for comparison in comparisons],
        "units": [str(comparison.difference.n) for comparison in comparisons],
        "accuracy %": [f"{100 * comparison.mean:.2f}" for comparison in comparisons],
        "against %": [f"{100 * comparison.baseline_mean:.2f}" for comparison in comparisons],
        "difference": [_difference_cell(comparison) for comparison in comparisons],
        f"{100 * level:g} % interval": [
            _interval_cell(comparison.difference) for comparison in comparisons
        ],
        "other clips": [_interval_cell(comparison.other_clips) for comparison in comparisons],
        "p": [format_p(comparison.p) for comparison in comparisons],
        "Holm p": [format_p(comparison.p_holm) for comparison in comparisons],
        "win/tie/loss": [
            f"{comparison.wins}/{comparison.ties}/{comparison.losses}" for comparison in comparisons
        ],
    }
    units = {comparison.unit for comparison in comparisons}
    heading = f"{units.pop()}s" if len(units) == 1 else "episodes or clips"
    columns = {heading if key == "units" else key: cells for key, cells in columns.items()}
    heads = {
        member.table_row.head
        for comparison in comparisons
        for member in (comparison.row, comparison.baseline)
    }
    title += f", head {escape_name(heads.pop())}" if len(heads) == 1 else ""
    sentence_lines = wrap_notes(verdict_sentence(comparison, level) for comparison in comparisons)
    return "\n".join([title, "", *align_columns(columns, _LEFT_COLUMNS), "", *sentence_lines])


def verdict_sentence(comparison: RowComparison, level: float) -> str:
    """Format the verdict on one row as a sentence."""
    c = comparison
    start = (
        f"{c.name} {c.verdict} {c.baseline_name} "
        f"{clips_clause(c.unit, on_other_clips=c.holds_on_other_clips)}"
    )
    start += f" at {c.row.table_row.shot} shot"
    start += "" if c.row.table_row.shot == 1 else "s"
    size = f"{100 * abs(c.difference.mean):.2f} points"
    if c.verdict != "cannot be told apart from":
        return f"{start}, by {size} (Holm p {format_p(c.p_holm)}){_other_clips_text(c)}."
    if not c.n_changed:
        return f"{start}: their accuracies are the same in every {c.unit}."
    if 2.0 ** (1 - c.n_changed) > 1 - level:
        return (
            f"{start}: they differ in {c.n_changed} of {c.difference.n} {c.unit}s, too few for any "
            "verdict, whichever of them is better there."
        )
    text = f"{start}: {_format_points(c.difference.mean)} points (Holm p {format_p(c.p_holm)})"
    if c.unit == "episode" and c.n_undecided * 2.0 ** (1 - c.n_changed) > 1 - level:
        min_episodes = ceil(1 + log2(c.n_undecided / (1 - level)))
        return (
            f"{text}; with {c.n_undecided} comparisons left to decide, {c.n_changed} episodes that "
            "differ allow no verdict, however large the difference: it takes at least "
            f"{min_episodes}."
        )
    if c.visible is None:
        return f"{text}."
    detectable_text = f"a true difference of {100 * c.visible:.1f} points"
    return f"{text}; {detectable_text} there would be told apart in 80 % of such runs."


def _other_clips_text(comparison: RowComparison) -> str:
    """Clause on other clips that the verdict does not cover; empty where there is none."""
    ends = _interval_cell(comparison.other_clips)
    ends = "" if ends == _EMPTY else ends
    return other_clips_clause(
        comparison.unit, on_other_clips=comparison.holds_on_other_clips, ends=ends
    )


def format_p(p: float) -> str:
    """Format a probability with four decimals; smaller ones as a bound."""
    return f"<{_MIN_SHOWN_P:.4f}" if p < _MIN_SHOWN_P else f"{p:.4f}"


def _format_points(difference: float) -> str:
    return f"{100 * difference:+z.2f}"


def _difference_cell(comparison: RowComparison) -> str:
    """Cell of the difference; in words where it is the same in all episodes or clips."""
    interval = comparison.difference
    text = _format_points(interval.mean)
    return constant_difference_text(interval, text, comparison.unit) if interval.equal else text


def _interval_cell(interval: Interval | None) -> str:
    if interval is None or interval.low is None or interval.high is None:
        return _EMPTY
    return f"[{_format_points(interval.low)}, {_format_points(interval.high)}]"


def _legend(comparisons: Sequence[RowComparison], level: float) -> list[str]:
    example, n_comparisons = comparisons[0].difference, len(comparisons)
    units = " or ".join(dict.fromkeys(f"{comparison.unit}s" for comparison in comparisons))
    risk = f"{1 - level:.3g}"
    adjusted = f"Holm p: equal to p, for there is one comparison; at most {risk} is a verdict."
    if n_comparisons > 1:
        adjusted = (
            f"Holm p: p adjusted for the {n_comparisons} comparisons shown. Verdicts go by it: at "
            f"most {risk}, and one or more of them are wrong on these clips in at most "
            f"{100 * (1 - level):.3g} % of such tables."
        )
    lines = [
        f"difference: mean of row minus against over the same {units}, in percentage points; "
        f"interval: {100 * level:g} %, {example.method}.",
        *unique_sentences(comparison.difference.covers for comparison in comparisons),
        "p: how probable so large a difference is where neither is better "
        f"({_tests_text(comparisons)}); it speaks of the same clips and classes as the interval.",
        adjusted,
        *_other_clips_legend(comparisons, level),
    ]
    return [*lines, *_rows_legend(comparisons)]


def _other_clips_legend(comparisons: Sequence[RowComparison], level: float) -> list[str]:
    """Notes on the intervals for other clips, and on verdicts that cover other clips."""
    intervals = [
        comparison.other_clips for comparison in comparisons if comparison.other_clips is not None
    ]
    methods = sorted({interval.method for interval in intervals if interval.low is not None})
    covers = " ".join(unique_sentences(interval.covers for interval in intervals))
    if not methods:
        return [f"other clips: {covers}"] if intervals else []
    n_comparisons, risk = len(comparisons), f"{100 * (1 - level):.3g} %"
    strict_level = f"{100 * per_comparison_level(level, n_comparisons):.4g} %"
    family_clause = (
        "" if n_comparisons == 1 else f", so that all {n_comparisons} hold together (Bonferroni)"
    )
    return [
        f"other clips: interval of the difference, {100 * level:g} %, {' or '.join(methods)}. "
        f"{covers}",
        f"A verdict says other clips of these classes only where, besides, that interval at "
        f"{strict_level}{family_clause} excludes 0: one or more of these are wrong in at most "
        f"{risk} of such tables.",
    ]


def _tests_text(comparisons: Sequence[RowComparison]) -> str:
    tests = list(dict.fromkeys(comparison.test for comparison in comparisons))
    flips = [test.partition(", ")[2] for test in tests if test.startswith("sign-flip")]
    ways = dict.fromkeys("all ways counted" if test.startswith("all") else test for test in flips)
    phrases = [f"sign-flip test: the rows swapped at random in each, {' or '.join(ways)}"] * bool(
        ways
    )
    phrases += [f"over clips: {test}" for test in tests if not test.startswith("sign-flip")]
    return "; ".join(phrases)


def _rows_legend(comparisons: Sequence[RowComparison]) -> list[str]:
    rows = dict.fromkeys(
        row for comparison in comparisons for row in (comparison.row, comparison.baseline)
    )
    lines = []
    n_excluded = max(comparison.shared_episodes.n_excluded for comparison in comparisons)
    if n_excluded:
        lines.append(
            f"Up to {n_excluded} episodes of a comparison were left out: only one of the rows has "
            "them, or they differ or failed."
        )
    across = dict.fromkeys(
        text for comparison in comparisons for text in comparison.shared_episodes.across
    )
    if across:
        lines.append("Compared although it differs: " + "; ".join(across) + ".")
    seeds = sorted({comparison.n_seeds for comparison in rows} - {1})
    if seeds:
        lines.append(
            f"Rows of {' or '.join(map(str, seeds))} training seeds: the mean over the seeds, "
            "episode by episode."
        )
    lines += start_notes([comparison.table_row for comparison in rows])
    reads_names = {comparison.table_row.uses_names for comparison in rows}
    if len(reads_names) > 1:
        heads = ", ".join(
            dict.fromkeys(
                comparison.table_row.head for comparison in rows if comparison.table_row.uses_names
            )
        )
        lines.append(f"names: rows with the head {heads} were {READ_NAMES_NOTE}")
    return lines


def _not_compared_notes(not_compared: Sequence[ComparedRow]) -> list[str]:
    if not not_compared:
        return []
    return [
        "Not compared, for no other row has their head and shot and was asked the same: "
        + ", ".join(str(row.folder) for row in not_compared)
        + ". --baseline names what to compare with, and says what differs."
    ]
