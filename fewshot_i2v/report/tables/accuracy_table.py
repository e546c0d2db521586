"""The table of accuracies: its columns, and the notes that say what they mean."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain

from fewshot_i2v.report.tables.interval_text import (
    EMPTY,
    align_intervals,
    asymmetry_note,
    format_ends,
    format_interval,
    is_asymmetric,
    methods_text,
)
from fewshot_i2v.report.tables.table import Table, TableCell, number_cell
from fewshot_i2v.runs.row_names import adapter_name
from fewshot_i2v.runs.row_summary import (
    FRESH,
    INPUT_MISMATCH,
    RowSummary,
    gain_over_frozen,
    has_starts,
)
from fewshot_i2v.statistics import Interval
from fewshot_i2v.utils.text_table import escape_name, unique_sentences

READ_NAMES_NOTE = "given the names of the classes; do not rank them with rows that saw clips only."
"""What is said of rows whose head read the names."""
_MACS_NOTE = (
    "GMACs/clip: 10^9 multiply-accumulates of the adapted encoder for one clip; a prediction takes "
    "that once for each clip, a step of fine-tuning about three times for each support clip."
)


def render_table(rows: Sequence[RowSummary], *, way: int | str, chance: float | None = None) -> str:
    """Format the rows as aligned plain text with a legend below.

    Args:
        rows: in the order to show them.
        way: classes of an episode, or a text such as "5-10".
        chance: accuracy of guessing, 0..1; None: 1 / way, or 0 where that is a text.

    Returns:
        The text, without a newline at the end.
    """
    table = accuracy_table(rows, way=way, chance=chance)
    aligned = align_intervals([cell.text for cell in table.columns["accuracy %"]])
    columns = {**table.columns, "accuracy %": [TableCell(text) for text in aligned]}
    return replace(table, columns=columns).to_text()


def accuracy_table(
    rows: Sequence[RowSummary],
    *,
    way: int | str,
    chance: float | None = None,
    with_macs: bool = False,
) -> Table:
    """Table of mean accuracies, in percent, and of gains over frozen.

    The gain is the paired difference to the row of the adapter `frozen` with the same head and
    shot, over the episodes that both have; its column is there when any row has one.

    Args:
        rows: in the order to show them.
        way: classes of an episode, or a text such as "5-10".
        chance: accuracy of guessing, 0..1; None: 1 / way, or 0 where that is a text.
        with_macs: whether multiply-accumulates have a column, where they are known.
    """
    gains = [gain_over_frozen(row, rows) for row in rows]
    with_macs = with_macs and any(row.macs_per_clip is not None for row in rows)
    notes = table_legend(rows, [*filter(None, gains)])
    notes += [_MACS_NOTE] * with_macs
    chance = chance_accuracy(way) if chance is None else chance
    notes.append(f"Guessing among {way} classes gives {100 * chance:.1f} %.")
    return Table(_columns(rows, gains, with_macs=with_macs), notes)


def chance_accuracy(way: int | str) -> float:
    """Accuracy of guessing among `way` classes; 0 where `way` is a text."""
    return 1 / way if isinstance(way, int) and way > 0 else 0.0


def _columns(
    rows: Sequence[RowSummary], gains: Sequence[Interval | None], *, with_macs: bool
) -> dict[str, list[TableCell]]:
    """Cells by heading, top to bottom, without the columns that say nothing."""
    absent = {
        "start": not has_starts(rows),
        "names": not any(row.uses_names for row in rows),
        "over seeds": not any(row.seed_means for row in rows),
        "over frozen": not any(gains),
        "GMACs/clip": not with_macs,
    }
    columns = {
        "adapter": [TableCell(adapter_name(row)) for row in rows],
        "start": [TableCell(text) for text in start_cells(rows)],
        "head": [TableCell(escape_name(row.head)) for row in rows],
        "names": [TableCell("read" if row.uses_names else EMPTY) for row in rows],
        "shot": [
            number_cell(str(row.shot), row.shot if isinstance(row.shot, int) else None)
            for row in rows
        ],
        "accuracy %": [interval_cell(row.interval, "{:.2f}") for row in rows],
        "95 % interval": [TableCell(format_ends(row.interval) or EMPTY) for row in rows],
        "over seeds": [number_cell(_seeds_text(row), row.seed_deviation) for row in rows],
        "over frozen": [interval_cell(gain, "{:+z.2f}") for gain in gains],
        "ok/failed": [number_cell(f"{row.episodes}/{row.failed}", row.episodes) for row in rows],
        "parameters": [number_cell(f"{row.parameters:,}", row.parameters) for row in rows],
        "GMACs/clip": [_optional_cell(row.macs_per_clip, "{:.3g}", 1e9) for row in rows],
        "s/episode": [_cost_cell(row, row.seconds_per_episode, "{:.3g}") for row in rows],
        "peak MiB": [_cost_cell(row, row.peak_memory_mb, "{:,.0f}") for row in rows],
    }
    return {heading: cells for heading, cells in columns.items() if not absent.get(heading)}


def interval_cell(interval: Interval | None, form: str) -> TableCell:
    """A cell of a mean with its interval; a dash where there is none."""
    if interval is None:
        return TableCell(EMPTY)
    return number_cell(format_interval(interval, form), interval.mean)


def _optional_cell(value: float | None, form: str, unit: float = 1) -> TableCell:
    return TableCell(EMPTY) if value is None else number_cell(form.format(value / unit), value)


def _cost_cell(row: RowSummary, value: float | None, form: str) -> TableCell:
    """Cell of a number that only episodes that succeeded can have."""
    return _optional_cell(value if row.accuracies else None, form)


def _seeds_text(row: RowSummary) -> str:
    deviation = row.seed_deviation
    if deviation is None:
        return EMPTY
    # equal means are no certainty: mostly, nothing that a seed draws takes part
    return f"{len(row.seed_means)}: " + (f"± {100 * deviation:.2f}" if deviation else "the same")


def sort_shots(shots: Iterable[int | str]) -> list[int | str]:
    """Sort the numbers of shots, each once, numbers ascending, then ranges."""
    return sorted(set(shots), key=lambda shot: (isinstance(shot, str), shot))


def start_cells(rows: Sequence[RowSummary]) -> list[str]:
    """Cells of the column of starts: the kind of start of each row, and its marks.

    The name of a starting point stands with its kind where there are several of a kind.
    """
    names = defaultdict(set)
    for row in rows:
        names[row.start].add(row.start_name)
    return [
        EMPTY
        if row.start == FRESH and row.is_frozen
        else escape_name(row.start)
        + (f" ({escape_name(row.start_name)})" if len(names[row.start]) > 1 else "")
        + (", seen" if row.seen else "")
        for row in rows
    ]


def table_legend(rows: Sequence[RowSummary], gains: Sequence[Interval]) -> list[str]:
    """Lists what the columns of accuracy and gain mean, one entry a line."""
    means = [row.interval for row in rows if row.interval is not None]
    lines = []
    if means:
        lines.append(f"± and interval: {100 * means[0].level:g} %, {methods_text(means)}")
        lines += [asymmetry_note(means)] if any(map(is_asymmetric, means)) else []
        lines += unique_sentences(mean.covers for mean in means)
    lines += episode_notes(rows, paired=bool(gains))
    if gains:
        example = gains[0]
        lines.append(
            "over frozen: gain over the frozen encoder with the same head and shot, "
            f"{100 * example.level:g} %, {example.method} over the episodes that both have."
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


def episode_notes(rows: Sequence[RowSummary], *, paired: bool) -> list[str]:
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


def seed_notes(rows: Sequence[RowSummary]) -> list[str]:
    """Note on the column of training seeds; nothing where there is none."""
    if not any(row.seed_means for row in rows):
        return []
    return [
        "over seeds: number of training seeds, and the standard deviation of their means; all "
        "other figures of the row are of the mean over the seeds, episode by episode."
    ]


def tuning_notes(rows: Sequence[RowSummary]) -> list[str]:
    """Note on rows that were tuned on clips compared only with themselves."""
    heads = sorted({row.head.partition(":")[0] for row in rows if row.learns_nothing})
    if not heads:
        return []
    # trx has parameters of its own, which need steps
    untuned = ", --steps 0 evaluates adapters as they start" if heads != ["trx"] else ""
    return [
        f"1 shot with head {', '.join(heads)}: in tuning, the only clip of a class is compared "
        "with itself, so there is nothing to learn from, and steps can cost accuracy; "
        f"--recipe auto compares changed views of it{untuned}."
    ]


def start_notes(rows: Sequence[RowSummary]) -> list[str]:
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
