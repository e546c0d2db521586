"""Comparisons as plain text: the table, a sentence for each pair, and a legend."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from fewshot_i2v.report.comparison.compare import RowComparison
from fewshot_i2v.report.comparison.short_table import (
    format_p,
    name_heads_by_letters,
    short_columns,
    short_comparison_notes,
)
from fewshot_i2v.report.tables.interval_text import (
    EMPTY,
    constant_difference_text,
    format_ends,
    join_covers,
    join_methods,
)
from fewshot_i2v.report.tables.table import LEFT_COLUMNS
from fewshot_i2v.report.tables.table_notes import (
    READ_NAMES_NOTE,
    repeat_notes,
    shots_text,
    start_notes,
)
from fewshot_i2v.runs.prediction_reader import RecordedRow
from fewshot_i2v.runs.run_index import setting_text
from fewshot_i2v.statistics import Interval
from fewshot_i2v.statistics.sample_size import fewest_decisive_episodes
from fewshot_i2v.statistics.verdicts import per_comparison_level
from fewshot_i2v.utils.text_table import (
    WIDTH,
    align_columns,
    escape_name,
    join_with_and,
    unique_sentences,
    wrap_notes,
)

_SIGNED = "{:+z.1f}"
_PLURAL_VERDICTS = {"beats": "beat", "is worse than": "are worse than"}


def render_comparisons(
    comparisons: Sequence[RowComparison],
    not_compared: Sequence[RecordedRow] = (),
    *,
    level: float = 0.95,
    wide: bool = True,
    all_notes: bool = True,
) -> str:
    """Format comparisons as aligned text, one table for each setting, with sentences and notes.

    Unless `wide`, a table has the columns that fit 80 columns; unless `all_notes`, there are at
    most three notes.
    """
    settings: dict[str, list[RowComparison]] = {}
    for comparison in comparisons:
        settings.setdefault(_table_title(comparison), []).append(comparison)
    tables = [
        _table(title, members, level) if wide else _short_table(title, members, level)
        for title, members in settings.items()
    ]
    notes = short_comparison_notes(comparisons, not_compared, level)
    if all_notes:
        repeats = repeat_notes([c.baseline.summary for c in comparisons])
        notes = [*_legend(comparisons, level), *repeats, *_not_compared_notes(not_compared)]
    return "\n\n".join([*tables, "\n".join(wrap_notes(notes))])


def _table_title(comparison: RowComparison) -> str:
    """Setting of both rows; where a term of it differs, that of the row comes first."""
    row, baseline = (
        setting_text(member.summary.config, member.summary.config["way"])
        for member in (comparison.row, comparison.baseline)
    )
    row_terms, baseline_terms = row.split(", "), baseline.split(", ")
    if len(row_terms) != len(baseline_terms):
        return f"{row}; against {baseline}"
    return ", ".join(map(_merge_settings, row_terms, baseline_terms))


def _merge_settings(row_term: str, baseline_term: str) -> str:
    """Merge two texts, repeating neither their start nor their end: "16 and 8 frames"."""
    if row_term == baseline_term:
        return row_term
    a, b = row_term.split(), baseline_term.split()
    start = _common_prefix_length(a, b)
    # the word there is of the middle, so the end begins behind it
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


def _short_table(title: str, comparisons: Sequence[RowComparison], level: float) -> str:
    """A table of 80 columns, with what all its rows share above, and the verdicts below."""
    comparisons = name_heads_by_letters(comparisons)
    columns, lines = short_columns(comparisons, level)
    header = [*wrap_notes([_with_common_head(title, comparisons)]), *lines]
    sentences = _joint_sentences(comparisons, level)
    blocks = wrap_notes(header), align_columns(columns, LEFT_COLUMNS, WIDTH), wrap_notes(sentences)
    return "\n\n".join(map("\n".join, blocks))


def _with_common_head(title: str, comparisons: Sequence[RowComparison]) -> str:
    heads = {member.summary.head for c in comparisons for member in (c.row, c.baseline)}
    return title + (f", head {escape_name(heads.pop())}" if len(heads) == 1 else "")


def _table(title: str, comparisons: Sequence[RowComparison], level: float) -> str:
    units = {comparison.unit for comparison in comparisons}
    columns = {
        "row": [c.name for c in comparisons],
        "against": [c.baseline_name for c in comparisons],
        "shot": [str(c.row.summary.shot) for c in comparisons],
        f"{units.pop()}s" if len(units) == 1 else "episodes or clips": [
            str(c.difference.n) for c in comparisons
        ],
        "accuracy %": [f"{100 * c.test.means[0]:.1f}" for c in comparisons],
        "against %": [f"{100 * c.test.means[1]:.1f}" for c in comparisons],
        "difference": [
            constant_difference_text(c.difference, _points(c.difference), c.unit)
            if c.difference.equal  # its spread is unknown
            else _points(c.difference)
            for c in comparisons
        ],
        f"{100 * level:g} % interval": [
            format_ends(c.difference, _SIGNED) or EMPTY for c in comparisons
        ],
        "other clips": [format_ends(c.other_clips, _SIGNED) or EMPTY for c in comparisons],
        "p": [format_p(c.test.p) for c in comparisons],
        "Holm p": [format_p(c.decision.p) for c in comparisons],
        "win/tie/loss": [
            f"{pair.wins}/{pair.ties}/{pair.losses}"
            for pair in (c.test.paired for c in comparisons)
        ],
    }
    title = _with_common_head(title, comparisons)
    sentences = [verdict_sentence(comparison, level) for comparison in comparisons]
    lines = [title, "", *align_columns(columns, LEFT_COLUMNS), "", *wrap_notes(sentences)]
    return "\n".join(lines)


def verdict_sentence(comparison: RowComparison, level: float) -> str:
    """Format the verdict on one row as a sentence."""
    c = comparison
    start = f"{c.name} {c.verdict} {c.baseline_name} {c.clips_clause}"
    start += f" at {shots_text(c.row.summary.shot)}"
    size = f"{100 * abs(c.difference.mean):.1f} points"
    if c.verdict != "cannot be told apart from":
        ends = format_ends(c.other_clips, _SIGNED)
        clause = c.other_clips_clause(ends)
        return f"{start}, by {size} (Holm p {format_p(c.decision.p)}){clause}."
    if not c.n_changed:
        return f"{start}: their accuracies are the same in every {c.unit}."
    if c.n_changed < fewest_decisive_episodes(level):
        return (
            f"{start}: they differ in {c.n_changed} of {c.difference.n} {c.unit}s, too few for any "
            "verdict, whichever of them is better there."
        )
    text = f"{start}: {_points(c.difference)} points (Holm p {format_p(c.decision.p)})"
    min_episodes = fewest_decisive_episodes(level, c.n_undecided)
    if c.unit == "episode" and c.n_changed < min_episodes:
        return (
            f"{text}; with {c.n_undecided} comparisons left to decide, {c.n_changed} episodes that "
            "differ allow no verdict, however large the difference: it takes at least "
            f"{min_episodes}."
        )
    if c.visible is None:
        return f"{text}."
    detectable_text = f"a true difference of {100 * c.visible:.1f} points"
    return f"{text}; {detectable_text} there would be told apart in 80 % of such runs."


def _joint_sentences(comparisons: Sequence[RowComparison], level: float) -> list[str]:
    """Sentences on the verdicts; rows of the same verdict at the same shot share one."""
    groups: dict[Hashable, list[RowComparison]] = {}
    for i, c in enumerate(comparisons):
        decided = c.verdict in _PLURAL_VERDICTS
        clause = c.other_clips_clause(format_ends(c.other_clips, _SIGNED)) if decided else i
        key = c.row.summary.shot, c.verdict, c.baseline_name, c.clips_clause, clause
        groups.setdefault(key, []).append(c)
    return [
        _joint_sentence(members) if len(members) > 1 else verdict_sentence(members[0], level)
        for members in groups.values()
    ]


def _joint_sentence(comparisons: Sequence[RowComparison]) -> str:
    """The same verdict on several rows, with the range of their differences."""
    c = comparisons[0]
    sizes = sorted(100 * abs(member.difference.mean) for member in comparisons)
    low, high = f"{sizes[0]:.1f}", f"{sizes[-1]:.1f}"
    size = low if low == high else f"{low} to {high}"
    names = [member.name for member in comparisons]
    clause = c.other_clips_clause(format_ends(c.other_clips, _SIGNED))
    return (
        f"{join_with_and(names, len(names))} {_PLURAL_VERDICTS[c.verdict]} {c.baseline_name} "
        f"{c.clips_clause} at {shots_text(c.row.summary.shot)}, by {size} points{clause}."
    )


def _points(difference: Interval) -> str:
    return _SIGNED.format(100 * difference.mean)


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
    methods = join_methods(interval for interval in intervals if interval.low is not None)
    covers = join_covers(intervals)
    if not methods:
        return [f"other clips: {covers}"] if intervals else []
    n_comparisons, risk = len(comparisons), f"{100 * (1 - level):.3g} %"
    strict_level = f"{100 * per_comparison_level(level, n_comparisons):.4g} %"
    family_clause = (
        "" if n_comparisons == 1 else f", so that all {n_comparisons} hold together (Bonferroni)"
    )
    return [
        f"other clips: interval of the difference, {100 * level:g} %, {methods}. {covers}",
        f"A verdict says other clips of these classes only where, besides, that interval at "
        f"{strict_level}{family_clause} excludes 0: one or more of these are wrong in at most "
        f"{risk} of such tables.",
    ]


def _tests_text(comparisons: Sequence[RowComparison]) -> str:
    tests = list(dict.fromkeys(comparison.test.method for comparison in comparisons))
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
    seeds = sorted({len(row.predictions) for row in rows} - {1})
    if seeds:
        lines.append(
            f"Rows of {' or '.join(map(str, seeds))} training seeds: the mean over the seeds, "
            "episode by episode."
        )
    lines += start_notes([comparison.summary for comparison in rows])
    reads_names = {comparison.summary.uses_names for comparison in rows}
    if len(reads_names) > 1:
        heads = ", ".join(
            dict.fromkeys(
                comparison.summary.head for comparison in rows if comparison.summary.uses_names
            )
        )
        lines.append(f"names: rows with the head {heads} were {READ_NAMES_NOTE}")
    return lines


def _not_compared_notes(not_compared: Sequence[RecordedRow]) -> list[str]:
    if not not_compared:
        return []
    return [
        "Not compared, for no other row has their head, shot and episodes: "
        + ", ".join(str(row.summary.folder) for row in not_compared)
        + ". --baseline names what to compare with, and says what differs."
    ]
