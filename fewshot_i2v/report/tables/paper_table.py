"""The table of a paper: a row for each adapter, start and head, numbers of shots side by side."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from fewshot_i2v.report.analysis.report_data import LEVEL, ReportSection
from fewshot_i2v.report.comparison.pair_test import mean_queries
from fewshot_i2v.report.tables.accuracy_table import (
    ACCURACY_HEADING,
    GAIN_HEADING,
    accuracy_columns,
    sort_shots,
)
from fewshot_i2v.report.tables.interval_text import (
    ALL_EQUAL,
    EMPTY,
    FEW_DIFFER,
    format_interval,
    methods_text,
    no_interval_reason,
)
from fewshot_i2v.report.tables.short_names import head_words, short_head_names
from fewshot_i2v.report.tables.table import TableCell, escape_markdown, markdown_lines
from fewshot_i2v.report.tables.table_notes import covers_other_clips, shots_text
from fewshot_i2v.runs.row_names import LONGEST_HEAD
from fewshot_i2v.runs.row_summary import RowSummary
from fewshot_i2v.statistics import Interval
from fewshot_i2v.statistics.intervals import MIN_DIFFERING, MIN_EPISODES
from fewshot_i2v.utils.text_table import count_text, escape_name, join_with_and

PAPER_ACCURACY_HEADING = "accuracy %"
_NAME_HEADINGS = ("adapter", "start", "head", "names")
_FURTHER_HEADINGS = ("parameters",)


@dataclass(frozen=True)
class PaperTable:
    """A table with a group of columns for each number of shots.

    Attributes:
        names: cells by heading, a line each: what the line is, such as its adapter.
        groups: for each number of shots its title, and its cells by heading.
        further: cells by heading behind the groups.
        best: lines whose accuracy is above that of all other rows, by group.
        facts: what all rows have in common, for the caption.
        notes: what numbers, marks and short names mean, a sentence or two each.
    """

    names: dict[str, list[TableCell]]
    groups: list[tuple[str, dict[str, list[TableCell]]]]
    further: dict[str, list[TableCell]]
    best: list[set[int]]
    facts: list[str]
    notes: list[str] = field(default_factory=list)

    def to_markdown(self) -> list[str]:
        """Format table and notes as two blocks of Markdown."""
        columns = dict(self.names)
        for title, group in self.groups:
            prefix = f"{title}: " if len(self.groups) > 1 else ""
            columns |= {f"{prefix}{heading}": cells for heading, cells in group.items()}
        columns |= self.further
        texts = [[_markdown_cell(cell) for cell in cells] for cells in columns.values()]
        lines = [[escape_markdown(text) for text in line] for line in zip(*texts, strict=True)]
        notes = "\n".join(f"- {escape_markdown(note)}" for note in self.notes)
        return ["\n".join(markdown_lines(list(columns), lines)), notes]


def paper_table(section: ReportSection) -> PaperTable:
    """Table of a section for a paper, without the columns that are the same in all rows."""
    rows, shots = section.summaries, sort_shots(row.shot for row in section.summaries)
    lines = _lines(rows)
    columns = accuracy_columns(rows, section.gains)
    heads, legend = _head_cells(rows)
    columns["head"] = heads
    firsts = [next(iter(line.values())) for line in lines]
    names = {h: [columns[h][i] for i in firsts] for h in _NAME_HEADINGS if h in columns}
    facts = _constant_facts(names)
    names = {h: c for h, c in names.items() if h == "adapter" or len({x.text for x in c}) > 1}
    groups = [(shots_text(shot), _group(columns, lines, shot)) for shot in shots]
    further = {h: _joint_cells(columns[h], lines) for h in _FURTHER_HEADINGS}
    further = {h: cells for h, cells in further.items() if len({c.text for c in cells}) > 1}
    beating = {best.row for best in section.verdicts[1].values() if best.beats_all}
    best = [{i for i, line in enumerate(lines) if line.get(shot) in beating} for shot in shots]
    if len(shots) == 1:
        facts.append(shots_text(shots[0]))
    counts = {row.episodes for row in rows}
    facts += [count_text(n, "episode") for n in counts if len(counts) == 1]
    table = PaperTable(names, groups, further, best, facts)
    table.notes.extend(_notes(section, table, legend))
    return table


def _lines(rows: Sequence[RowSummary]) -> list[dict[int | str, int]]:
    """Positions of the rows of each line by their number of shots."""
    lines: dict[tuple[Hashable, int], dict[int | str, int]] = {}
    for i, row in enumerate(rows):
        key = row.adapter, row.note, row.start, row.start_name, row.seen, row.head
        number = 0
        while row.shot in lines.get((key, number), {}):
            number += 1
        lines.setdefault((key, number), {})[row.shot] = i
    return list(lines.values())


def _head_cells(rows: Sequence[RowSummary]) -> tuple[list[TableCell], list[str]]:
    """Short names of heads, and a note on what they stand for where they are letters."""
    labels = [escape_name(row.head, LONGEST_HEAD) for row in rows]
    if len(set(labels)) < 2 or not any(":" in label for label in labels):
        return [TableCell(label) for label in labels], []
    *_, letters = short_head_names(labels)
    meanings = dict(zip(letters.cells, map(head_words, labels), strict=True))
    legend = "; ".join(f"{letter}: {meaning}" for letter, meaning in meanings.items())
    return [TableCell(cell) for cell in letters.cells], [f"Heads are {legend}."]


def _constant_facts(names: dict[str, list[TableCell]]) -> list[str]:
    """What a caption says of names that are the same in all lines."""
    facts = []
    for heading in ("start", "head"):
        texts = {cell.text for cell in names.get(heading, ())}
        if len(texts) == 1 and texts != {EMPTY}:
            text = texts.pop()
            facts.append(f"{heading} {head_words(text) if heading == 'head' else text}")
    return facts


def _group(
    columns: dict[str, list[TableCell]], lines: Sequence[dict[int | str, int]], shot: int | str
) -> dict[str, list[TableCell]]:
    """Cells of one number of shots, by heading; a gain only where a row has one."""
    headings = {ACCURACY_HEADING: PAPER_ACCURACY_HEADING, GAIN_HEADING: GAIN_HEADING}
    group = {}
    for heading, shown in headings.items():
        if heading not in columns:
            continue
        cells = [columns[heading][line[shot]] if shot in line else TableCell(EMPTY)
                 for line in lines]  # fmt: skip
        if heading == ACCURACY_HEADING or any(cell.interval is not None for cell in cells):
            group[shown] = cells
    return group


def _joint_cells(
    column: Sequence[TableCell], lines: Sequence[dict[int | str, int]]
) -> list[TableCell]:
    """A cell for each line; where it has several values, all of them in the order of shots."""
    texts = [dict.fromkeys(column[line[shot]].text for shot in sort_shots(line)) for line in lines]
    return [TableCell(" / ".join(values)) for values in texts]


def _notes(section: ReportSection, table: PaperTable, legend: Sequence[str]) -> Iterator[str]:
    rows = section.summaries
    means = [row.interval for row in rows if row.interval is not None]
    gains = [gain for gain in section.gains if gain is not None]
    yield f"Mean accuracy {_episodes_text(section)}."
    with_ends = [mean for mean in means if mean.low is not None]
    if with_ends:
        scope = "these classes" if covers_other_clips(with_ends) else "these clips and classes"
        yield (
            f"±: half the width of a {100 * LEVEL:g} % interval, {methods_text(with_ends)} It is "
            f"for {scope}, not for others."
        )
    if gains:
        yield (
            f"{GAIN_HEADING}: difference in points to the frozen encoder with the same head and "
            "shots, on the same episodes; its interval is that of the paired differences."
        )
    yield from _mark_notes(gains)
    yield from legend
    yield from _start_notes(rows)
    seeds = sorted({len(row.seed_means) for row in rows} - {0})
    if seeds:
        yield f"Means over {join_with_and([str(n) for n in seeds])} training seeds."
    if any(table.best):
        yield "Bold: shown to be above all other rows with as many shots."
    if any(cell.text == EMPTY for _, group in table.groups for cells in group.values()
           for cell in cells):  # fmt: skip
        yield "A dash: not run, or no other row to compare with, as for frozen itself."


def _episodes_text(section: ReportSection) -> str:
    """Episodes, classes and queries behind the means."""
    counts = sorted({row.episodes for row in section.summaries})
    episodes = count_text(counts[-1], "episode") if counts else "no episode"
    if len(counts) > 1:
        episodes = f"{counts[0]} to {episodes}"
    tables = [table for row_tables in section.prediction_tables for table in row_tables]
    drawn = {name for table in tables for name in table.classes}
    answered = [table for table in tables if len(table)]
    way = f"{section.way} classes"
    if drawn:
        is_all = section.way == len(drawn)
        way = f"all {len(drawn)} classes" if is_all else f"{way}, drawn from {len(drawn)}"
    queries = {float(q) for table in answered for q in (mean_queries([table]),)}
    text = f"over {episodes} of {way}"
    if len(queries) == 1:
        count = queries.pop()
        text += f", with {count:g} query clips in each"
    guess = "" if section.chance is None else f"; guessing gives {100 * section.chance:.1f} %"
    return text + guess


def _mark_notes(gains: Sequence[Interval]) -> Iterator[str]:
    """What the marks say that stand in place of an interval, those of the table alone."""
    reasons = {no_interval_reason(gain) for gain in gains if gain.low is None}
    if FEW_DIFFER in reasons:
        yield (
            f"{MARKS[FEW_DIFFER]} {FEW_DIFFER}: the two differ in fewer than {MIN_DIFFERING} "
            "episodes, which do not show how much others would differ: no interval."
        )
    if ALL_EQUAL in reasons:
        yield f"{MARKS[ALL_EQUAL]} {ALL_EQUAL}: the difference is the same in all: no interval."
    if reasons - MARKS.keys():
        yield f"Fewer than {MIN_EPISODES} episodes have no interval."


MARKS = {FEW_DIFFER: "†", ALL_EQUAL: "‡"}
"""Mark of a gain without an interval, by the reason."""


def gain_mark(cell: TableCell) -> str:
    """Mark of a cell whose difference has no interval for a reason that a note gives; or empty."""
    interval = cell.interval
    if interval is None or interval.low is not None or not cell.text.endswith(")"):
        return ""
    return MARKS.get(no_interval_reason(interval), "")


def _markdown_cell(cell: TableCell) -> str:
    """Text of a cell: ± where an interval has two equal sides, and the mark of a gain."""
    mark = gain_mark(cell)
    if mark:
        return f"{cell.text.partition(' ')[0]} {mark}"
    if cell.interval is not None and cell.text.endswith("]"):
        return format_interval(cell.interval, "{:.1f}")
    return cell.text


def _start_notes(rows: Sequence[RowSummary]) -> Iterator[str]:
    if any(row.seen for row in rows):
        yield "seen: the start was trained on these classes or clips: not to be ranked with others."
    if any(row.uses_names for row in rows):
        yield "names read: the head knew the names of the classes: not to be ranked with others."
