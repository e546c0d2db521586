"""The table of an evaluation for a terminal: header, rows, what they decide, notes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fewshot_i2v.report.tables.accuracy_table import (
    ACCURACY_HEADING,
    FURTHER_COLUMNS,
    GAIN_HEADING,
    accuracy_columns,
    chance_accuracy,
    check_columns,
    usual_headings,
)
from fewshot_i2v.report.tables.interval_text import align_means
from fewshot_i2v.report.tables.short_names import (
    ShortNames,
    short_adapter_names,
    short_head_names,
)
from fewshot_i2v.report.tables.table import LEFT_COLUMNS
from fewshot_i2v.report.tables.table_notes import MACS_NOTE, short_notes, table_legend
from fewshot_i2v.runs.row_names import row_notes
from fewshot_i2v.runs.row_summary import FRESH, RowSummary, gain_over_frozen
from fewshot_i2v.utils.text_table import (
    WIDTH,
    align_columns,
    count_text,
    display_width,
    escape_name,
    wrap_notes,
)

_LONGEST = 400
"""Characters of a name that is written out above the table."""
_SHORT_STARTS = {"base-trained": "base", "meta-trained": "meta"}


@dataclass(frozen=True)
class Layout:
    """How names are shortened until a table fits.

    Attributes:
        head: how short heads are, 0 to 2.
        short_starts: whether "base-trained" is "base".
        notes_above: whether notes that all rows of an adapter have stand above the table.
        short_adapters: whether adapters with long options are numbered.
    """

    head: int = 0
    short_starts: bool = False
    notes_above: bool = False
    short_adapters: bool = False


_LAYOUTS = (
    Layout(),
    Layout(1),
    Layout(1, notes_above=True),
    Layout(1, short_starts=True, notes_above=True),
    Layout(2, notes_above=True),
    Layout(2, short_starts=True, notes_above=True),
    Layout(2, short_starts=True, notes_above=True, short_adapters=True),
)


def render_table(
    rows: Sequence[RowSummary],
    *,
    way: int | str,
    chance: float | None = None,
    setting: str = "",
    stopping_note: str = "",
    further: Collection[str] = (),
    wide: bool = False,
    all_notes: bool = False,
) -> str:
    """Format the rows as text for a terminal: what all share, the table, what it decides, notes.

    `way` and `chance` are as for `accuracy_table`; `setting` says what the episodes are.

    Raises:
        UnknownNameError: for a column that does not exist.
    """
    check_columns(further)
    gains = [gain_over_frozen(row, rows) for row in rows]
    columns = {
        heading: [cell.text for cell in cells]
        for heading, cells in accuracy_columns(rows, gains).items()
    }
    for heading in {ACCURACY_HEADING, GAIN_HEADING} & columns.keys():
        columns[heading] = align_means(columns[heading])
    legend: Sequence[str] = ()
    if rows and not wide:
        headings = usual_headings(rows, columns, further)
        columns, legend = _fitting_columns(rows, {h: columns[h] for h in headings})
    chance = chance_accuracy(way) if chance is None else chance
    header = [*setting.splitlines(), *_common_facts(rows, columns, chance), *legend]
    known_gains = [gain for gain in gains if gain is not None]
    notes = short_notes(rows, known_gains, chance=chance)
    if all_notes:
        notes = table_legend(rows, known_gains, chance=chance)
        notes += [MACS_NOTE] * (FURTHER_COLUMNS["macs"] in columns)
    blocks = [
        wrap_notes(filter(None, header)),
        align_columns(columns, LEFT_COLUMNS, None if wide else WIDTH),
        wrap_notes(_decisions(rows, columns)),
        wrap_notes([*notes, *filter(None, [stopping_note])]),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _fitting_columns(
    rows: Sequence[RowSummary], columns: Mapping[str, list[str]]
) -> tuple[dict[str, list[str]], Sequence[str]]:
    """Columns with names as short as needed to fit, and lines on these for above the table."""
    shown: dict[str, list[str]] = {}
    legend: Sequence[str] = ()
    for layout in _LAYOUTS:
        shown, legend = _laid_out(rows, dict(columns), layout)
        if max(map(display_width, align_columns(shown, LEFT_COLUMNS))) <= WIDTH:
            break
    return shown, legend


def _laid_out(
    rows: Sequence[RowSummary], columns: dict[str, list[str]], layout: Layout
) -> tuple[dict[str, list[str]], Sequence[str]]:
    """Columns with shorter names, and lines on what these stand for."""
    labels = [escape_name(row.adapter, _LONGEST) for row in rows]
    adapters = short_adapter_names(labels) if layout.short_adapters else ShortNames(labels)
    common_notes = _common_notes(rows) if layout.notes_above else {}
    notes = [
        [note for note in row_notes(row) if note not in common_notes.get(row.adapter, ())]
        for row in rows
    ]
    columns["adapter"] = [
        name + (f" ({', '.join(of_row)})" if of_row else "")
        for name, of_row in zip(adapters.cells, notes, strict=True)
    ]
    legend = [*adapters.legend]
    if "head" in columns and len({row.head for row in rows}) > 1:
        variants = [*short_head_names([escape_name(row.head, _LONGEST) for row in rows])]
        heads = variants[-1] if layout.head == 2 else variants[min(layout.head, len(variants) - 1)]
        columns["head"] = list(heads.cells)
        legend = [*heads.legend, *legend]
    if layout.short_starts and "start" in columns:
        for long, short in _SHORT_STARTS.items():
            columns["start"] = [cell.replace(long, short, 1) for cell in columns["start"]]
    legend += [f"{adapter}: {', '.join(of_all)}" for adapter, of_all in common_notes.items()]
    return columns, legend


def _common_notes(rows: Sequence[RowSummary]) -> dict[str, list[str]]:
    """Notes that all rows of an adapter have, by adapter."""
    common: dict[str, list[str]] = {}
    for row in rows:
        notes = row_notes(row)
        common[row.adapter] = [n for n in common.get(row.adapter, notes) if n in notes]
    return {adapter: notes for adapter, notes in common.items() if notes}


def _common_facts(
    rows: Sequence[RowSummary], columns: Mapping[str, object], chance: float
) -> Iterator[str]:
    """Lines on what all rows share and no column says."""
    facts = []
    counts = {row.episodes for row in rows}
    if len(counts) == 1 and "ok/failed" not in columns:
        facts.append(count_text(counts.pop(), "episode"))
    seeds = {len(row.seed_means) for row in rows} - {0}
    if seeds:
        facts.append(f"means over {'/'.join(map(str, sorted(seeds)))} training seeds")
    facts.append(f"guessing gives {100 * chance:.1f} %")
    names = {row.start: row.start_name for row in rows if row.start != FRESH}
    for kind, name in names.items():
        if len({row.start_name for row in rows if row.start == kind}) == 1 and name:
            facts.append(f"{kind} from {escape_name(name)}")
    heads = {row.head for row in rows}
    if len(heads) == 1 and "head" not in columns:
        facts.append(f"head {escape_name(heads.pop(), _LONGEST)}")
    yield ", ".join(facts)


def _decisions(rows: Sequence[RowSummary], columns: Mapping[str, Sequence[str]]) -> list[str]:
    """Sentences on what the rows decide, with names as in the table."""
    # numpy and scipy are loaded only where there is something to decide
    from fewshot_i2v.report.analysis.decisions import decide_table
    from fewshot_i2v.report.analysis.report_data import LEVEL
    from fewshot_i2v.report.tables.decision_text import RowPhrases, decision_sentences

    if not rows:
        return []
    several_heads = len({row.head for row in rows}) > 1
    heads = columns["head"] if several_heads else [""] * len(rows)
    phrases = RowPhrases(rows, columns["adapter"], heads)
    return decision_sentences(decide_table(rows, LEVEL), phrases)
