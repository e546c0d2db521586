"""The table of comparisons for a terminal of 80 columns, and a line each on what matters."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from fewshot_i2v.report.comparison.compare import RowComparison
from fewshot_i2v.report.tables.interval_text import (
    EMPTY,
    FEW_DIFFER,
    align_means,
    format_ends,
    format_gain,
    format_signed,
)
from fewshot_i2v.report.tables.short_names import ShortNames, short_head_names
from fewshot_i2v.report.tables.table import LEFT_COLUMNS
from fewshot_i2v.report.tables.table_notes import MAX_SHORT_NOTES, repeat_notes, shots_text
from fewshot_i2v.runs.prediction_reader import RecordedRow
from fewshot_i2v.runs.row_names import LONGEST_HEAD, shorten_head
from fewshot_i2v.runs.run_index import table_key
from fewshot_i2v.statistics.intervals import MIN_DIFFERING
from fewshot_i2v.utils.text_table import (
    WIDTH,
    align_columns,
    count_text,
    display_width,
    escape_name,
    join_with_and,
)

_SIGNED = "{:+z.1f}"
_MIN_SHOWN_P = 1e-4


def format_p(p: float) -> str:
    """Format a probability with four decimals; smaller ones as a bound."""
    return f"<{_MIN_SHOWN_P:.4f}" if p < _MIN_SHOWN_P else f"{p:.4f}"


def short_columns(
    comparisons: Sequence[RowComparison], level: float
) -> tuple[dict[str, list[str]], list[str]]:
    """Columns that a reader needs, and lines on what is the same in all comparisons."""
    difference = f"difference [{100 * level:g} %]"
    columns = {
        "row": [c.name for c in comparisons],
        "head": [],
        "against": [c.baseline_name for c in comparisons],
        "shot": [str(c.row.summary.shot) for c in comparisons],
        "over": [_count_text(c) for c in comparisons],
        difference: align_means([_difference_cell(c) for c in comparisons]),
        "other clips": [format_ends(c.other_clips, _SIGNED) or EMPTY for c in comparisons],
        "Holm p": [format_p(c.decision.p) for c in comparisons],
    }
    facts = [
        f"{heading} {columns.pop(heading)[0]}"
        for heading in ("over", "against")
        if len(set(columns[heading])) == 1
    ]
    if "against" in columns and all(map(_is_with_same_head, comparisons)):
        del columns["against"]
        several = len({c.row.summary.head for c in comparisons}) > 1
        facts.append(f"against frozen{' with the same head' * several}")
    legend = _head_column(comparisons, columns)
    too_wide = max(map(display_width, align_columns(columns, LEFT_COLUMNS))) > WIDTH
    if too_wide or set(columns["other clips"]) == {EMPTY}:
        del columns["other clips"]  # the sentences below the table have it
    return columns, [", ".join(facts), *legend]


def _head_column(
    comparisons: Sequence[RowComparison], columns: dict[str, list[str]]
) -> Sequence[str]:
    """Move heads that differ from the names of rows into a column of letters; with their legend."""
    heads = [escape_name(c.row.summary.head, LONGEST_HEAD) for c in comparisons]
    if len(set(heads)) == 1 or "against" in columns:
        del columns["head"]
        return _letters(comparisons).legend if "against" in columns else ()
    *_, letters = short_head_names(heads)
    columns["head"] = [*letters.cells]
    columns["row"] = [_without_head(c.name) for c in comparisons]
    return letters.legend


def _without_head(name: str) -> str:
    return re.sub(r" with head \S+", "", name, count=1)


def _letters(comparisons: Sequence[RowComparison]) -> ShortNames:
    """Letters of the heads of all rows and baselines, two for each comparison."""
    members = [member.summary for c in comparisons for member in (c.row, c.baseline)]
    heads = [escape_name(member.head, LONGEST_HEAD) for member in members]
    if len(set(heads)) == 1:
        return ShortNames([""] * len(heads))
    *_, letters = short_head_names(heads)
    return letters


def name_heads_by_letters(comparisons: Sequence[RowComparison]) -> list[RowComparison]:
    """Shorten the names of rows: a head that all have is left out, others are letters."""
    letters = iter(_letters(comparisons).cells)

    def _short(name: str, row: RecordedRow) -> str:
        return shorten_head(name, row.summary.head, next(letters))

    return [
        replace(c, name=_short(c.name, c.row), baseline_name=_short(c.baseline_name, c.baseline))
        for c in comparisons
    ]


def _is_with_same_head(comparison: RowComparison) -> bool:
    row, baseline = comparison.row.summary, comparison.baseline.summary
    return baseline.is_frozen and row.head == baseline.head


def _difference_cell(comparison: RowComparison) -> str:
    """Difference in points with the ends of its interval, or why it has none."""
    difference = comparison.difference
    ends = format_ends(difference, _SIGNED)
    if ends:
        return f"{format_signed(difference.mean)} {ends}"
    if comparison.unit == "clip":
        return format_signed(difference.mean)
    return format_gain(difference)


def _count_text(comparison: RowComparison) -> str:
    return count_text(comparison.difference.n, comparison.unit)


def short_comparison_notes(
    comparisons: Sequence[RowComparison], not_compared: Sequence[RecordedRow], level: float
) -> list[str]:
    """Notes of a line or two each, at most `MAX_SHORT_NOTES`, those that warn first."""
    return [*_notes(comparisons, not_compared, level)][:MAX_SHORT_NOTES]


def _best_baseline_notes(comparisons: Sequence[RowComparison]) -> Iterator[str]:
    """Name the best frozen row where rows are compared with several, each with its head."""
    *_, letters = short_head_names([c.row.summary.head for c in comparisons])
    means: dict[tuple[str, int | str], dict[str, float]] = defaultdict(dict)
    for c, letter in zip(comparisons, letters.cells, strict=True):
        if _is_with_same_head(c):
            setting = table_key(c.baseline.summary)
            means[setting, c.baseline.summary.shot][letter] = c.test.means[1]
    best = [
        f"head {max(of_shot, key=lambda letter: of_shot[letter])} at {shots_text(shot)}"
        for (_, shot), of_shot in means.items()
        if len(of_shot) > 1
    ]
    if best:
        yield f"Best frozen row: {join_with_and(best)}; --baseline compares all rows with it."


def _notes(
    comparisons: Sequence[RowComparison], not_compared: Sequence[RecordedRow], level: float
) -> Iterator[str]:
    yield from repeat_notes([c.baseline.summary for c in comparisons])
    if not_compared:
        frozen = "frozen " * all(row.summary.is_frozen for row in not_compared)
        yield (
            f"Not compared: {count_text(len(not_compared), f'{frozen}row')} that no other row has "
            "the head and shot of; --notes names them."
        )
    shared = [c.shared_episodes for c in comparisons]
    n_excluded = max(episodes.n_excluded for episodes in shared)
    if n_excluded:
        yield f"Up to {n_excluded} episodes of a comparison are left out: not in both rows."
    across = dict.fromkeys(text for episodes in shared for text in episodes.across)
    if across:
        yield f"Compared although it differs: {'; '.join(across)}."
    yield from _best_baseline_notes(comparisons)
    summaries = [row.summary for c in comparisons for row in (c.row, c.baseline)]
    if any(row.seen for row in summaries):
        yield "seen: the start was trained or chosen on these classes or clips: do not rank it."
    if len({row.uses_names for row in summaries}) > 1:
        yield "Some heads knew the names of the classes: do not rank them with others."
    yield (
        f"Holm p: for all {len(comparisons)} comparisons; at most {1 - level:.3g} is a verdict on "
        "these clips."
        if len(comparisons) > 1
        else f"Holm p: at most {1 - level:.3g} is a verdict on these clips."
    )
    if any(FEW_DIFFER in _difference_cell(c) for c in comparisons):
        yield f"{FEW_DIFFER}: rows differ in fewer than {MIN_DIFFERING} episodes: no interval."
