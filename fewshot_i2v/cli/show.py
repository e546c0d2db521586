"""`fewshot-i2v show`: the table of a finished or running evaluation, from its records only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from fewshot_i2v.cli._common import RunPath, echo_json, parse_columns, table_flags
from fewshot_i2v.cli._help import help_command
from fewshot_i2v.cli._next import command_line, echo_next
from fewshot_i2v.runs.row_names import LONGEST_HEAD, display_names, name_rows, shorten_head
from fewshot_i2v.runs.row_summary import RowSummary, baseline_of, check_duplicate_seeds
from fewshot_i2v.runs.run_index import (
    find_run_folders,
    read_row,
    row_order,
    setting_text,
    stopping_record_of,
    table_key,
    way_of,
)
from fewshot_i2v.utils.text_table import escape_name, wrap_notes

if TYPE_CHECKING:
    from fewshot_i2v.evaluation.results import EvaluationResult
    from fewshot_i2v.report.analysis.generalization import ClipGroups, GeneralizationIntervals
    from fewshot_i2v.report.tables.short_names import ShortNames
    from fewshot_i2v.runs.prediction_reader import RecordedRow

_Row = TypeVar("_Row")


@help_command(
    "Show the table of an evaluation.",
    ("show runs/mine", "also while it runs"),
    ("show runs/mine --columns parameters,seconds --notes", "more columns, and all notes"),
)
@click.argument("run", type=RunPath())
@table_flags
@click.option("--matrix", is_flag=True, help="Markdown: adapters down, heads across.")
@click.option(
    "--intervals",
    is_flag=True,
    help="What the accuracies say of other clips, groups of clips, classes and training seeds.",
)
@click.option("--split", help="With --intervals: the split, if the run's is not where it was.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON: one object per table.")
def command(
    run: Path,
    columns: str,
    wide: bool,
    notes: bool,
    matrix: bool,
    intervals: bool,
    split: str | None,
    as_json: bool,
) -> None:
    """Show the table of RUN, a run folder or a folder of run folders.

    Rows of one evaluation that have the same episodes and the same encoder share a table. It fits
    80 columns; below it stands what the rows decide.
    """
    further_columns = parse_columns(columns)
    if intervals and matrix:
        raise click.UsageError("--intervals is a table of its own: leave out --matrix")
    if split is not None and not intervals:
        raise click.UsageError("--split is for --intervals: give both or none")
    if intervals:
        show_intervals(run, split, as_json=as_json)
        return
    row_groups = _group_by_table(map(read_row, find_run_folders(run)), lambda row: row)
    groups = [name_rows(rows) for rows in row_groups]
    tables = [_build_table(rows, run, many_tables=len(groups) > 1) for rows in groups]
    if as_json and matrix:
        raise click.UsageError("--matrix is Markdown: give either --matrix or --json")
    if as_json:
        echo_json([result.to_dict() for result in tables])
        return
    for i, result in enumerate(tables):
        text = f"{result.setting}\n\n{result.matrix()}" if matrix else ""
        text = text or result.table(columns=further_columns, wide=wide, notes=notes)
        click.echo(("\n" if i else "") + text)
    all_notes = [] if notes or matrix else [command_line("show", run, "--notes")]
    echo_next(command_line("recommend", run), *all_notes)


def _group_by_table(
    rows: Iterable[_Row], summary_of: Callable[[_Row], RowSummary]
) -> Iterator[list[_Row]]:
    """Yield the rows of each table, in the order to show them."""
    tables: dict[tuple[Path, str], list[_Row]] = defaultdict(list)
    for row in rows:
        summary = summary_of(row)
        tables[summary.folder.parent, table_key(summary)].append(row)
    for members in tables.values():
        check_duplicate_seeds(map(summary_of, members))
        yield sorted(members, key=lambda row: row_order(summary_of(row)))


def _build_table(rows: Sequence[RowSummary], run: Path, *, many_tables: bool) -> EvaluationResult:
    from fewshot_i2v.evaluation.results import EvaluationResult

    config, way = rows[0].config, way_of(rows[0])
    title = setting_text(config, way)
    if many_tables:
        title = f"{rows[0].folder.parent}:\n{title}"
    encoder, stopped = config["encoder"]["name"], stopping_record_of(rows)
    return EvaluationResult(
        tuple(rows), run, way, config["split"], encoder, stopped=stopped, setting=title
    )


def show_intervals(run: Path, split: str | None, *, as_json: bool) -> None:
    """Write the intervals of all rows.

    The groups of clips are those of the split, by default that of the runs.

    Raises:
        UsageError: when there is no run folder, or `split` is not that of the runs.
    """
    from fewshot_i2v.report.comparison.baselines import with_start_names
    from fewshot_i2v.report.tables.generalization_text import generalization_text
    from fewshot_i2v.runs.prediction_reader import PredictionReader, merge_recorded_seeds

    tables = []
    recorded_rows = map(PredictionReader().read, find_run_folders(run))
    for i, table in enumerate(_group_by_table(recorded_rows, lambda row: row.summary)):
        rows = with_start_names(merge_recorded_seeds(table))
        summary = rows[0].summary
        heads = _short_heads(rows)
        groups = _find_clip_groups(summary, split)
        accuracies, gains = _accuracy_and_gain_intervals(
            rows, groups, () if as_json else heads.cells
        )
        title = setting_text(summary.config, summary.config["way"])
        if as_json:
            tables.append(
                {
                    "title": title,
                    "rows": [row_intervals.to_dict() for row_intervals in accuracies],
                    "over_frozen": [row_intervals.to_dict() for row_intervals in gains],
                }
            )
            continue
        text = "no episode succeeded yet"
        if accuracies:
            text = generalization_text(accuracies, gains)
        lines = wrap_notes([title, *heads.legend])
        click.echo(("\n" if i else "") + "\n".join([*lines, "", text]))
    if as_json:
        echo_json(tables)


def _short_heads(rows: Sequence[RecordedRow]) -> ShortNames:
    """Letters for the heads of rows, and what they stand for; empty where all have the same."""
    from fewshot_i2v.report.tables.short_names import ShortNames, short_head_names

    labels = [escape_name(row.summary.head, LONGEST_HEAD) for row in rows]
    if len(set(labels)) < 2:
        return ShortNames([""] * len(rows))
    *_, letters = short_head_names(labels)
    return letters


def _accuracy_and_gain_intervals(
    rows: Sequence[RecordedRow], groups: ClipGroups | None, heads: Sequence[str]
) -> tuple[list[GeneralizationIntervals], list[GeneralizationIntervals]]:
    """Intervals of each row's accuracy, and gain over the frozen encoder.

    Where `heads` has short names, rows have these and not the labels of heads in their names.
    """
    from fewshot_i2v.errors import UsageError
    from fewshot_i2v.report.analysis.generalization import generalization_intervals

    summaries = [row.summary for row in rows]
    names = display_names(summaries)
    if heads:
        names = [shorten_head(n, row.head, "") for n, row in zip(names, summaries, strict=True)]
    accuracies, gains = [], []
    for row, summary, name, head in zip(
        rows, summaries, names, heads or [""] * len(rows), strict=True
    ):
        if not summary.accuracies:
            continue
        intervals_of = partial(
            generalization_intervals, name, summary.shot, groups=groups, clips_shared=summary.shared
        )
        accuracies.append(replace(intervals_of(row.select([*summary.accuracies])), head=head))
        frozen = None if summary.is_frozen else baseline_of(summary, summaries)
        if frozen is None:
            continue
        common = sorted(summary.accuracies.keys() & frozen.accuracies.keys())
        baseline = rows[next(i for i, other in enumerate(summaries) if other is frozen)]
        try:
            gain = intervals_of(row.select(common), baseline=baseline.select(common))
        except UsageError as error:
            raise UsageError(f"{summary.folder} and {frozen.folder}: {error}") from error
        gains.append(replace(gain, head=head))
    return accuracies, gains


def _find_clip_groups(row: RowSummary, split: str | None) -> ClipGroups | None:
    """The groups of the clips; None without groups, or if the split is missing."""
    from fewshot_i2v.errors import UsageError
    from fewshot_i2v.report.analysis.generalization import ClipGroups
    from fewshot_i2v.report.page.filmstrips import ClipSources, find_split

    try:
        split_of_run = find_split(row.header, ClipSources(split))
    except UsageError:
        if split is not None:
            raise
        click.echo(
            "note: the split of the run is not where it was, so groups of clips are not looked at; "
            "name it with --split",
            err=True,
        )
        return None
    subset = row.config["subset"]
    subsets = (
        ("train", "test") if subset == "test" and "train" in split_of_run.subsets else (subset,)
    )
    group_by_clip = {
        clip.name: clip.group
        for subset_name in subsets
        for name in split_of_run.classes(subset_name)
        for clip in split_of_run.clips(subset_name, name)
    }
    grouped = {name: group for name, group in group_by_clip.items() if group is not None}
    # one group per clip says nothing that the clips do not
    if len(grouped) < len(group_by_clip) or len(set(grouped.values())) == len(grouped):
        return None
    return ClipGroups(grouped, split_of_run.group_scope)
