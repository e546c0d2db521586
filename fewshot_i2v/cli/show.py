"""`fewshot-i2v show`: the table of a finished or running evaluation, from its records only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fewshot_i2v.cli._common import echo_json
from fewshot_i2v.evaluation.results import EvaluationResult
from fewshot_i2v.runs.row_summary import RowResult
from fewshot_i2v.runs.run_index import (
    RunHeader,
    RunPath,
    check_duplicate_seeds,
    distinguishing_notes,
    find_run_folders,
    read_row,
    row_labels,
    row_order,
    seed_group_key,
    start_display_names,
    stopping_record_of,
    table_key,
    table_title,
)

if TYPE_CHECKING:
    from fewshot_i2v.report.analysis.generalization import ClipGroups, GeneralizationIntervals
    from fewshot_i2v.runs.record_lines import RecordLines


@click.command(short_help="Show the table of an evaluation.")
@click.argument("run", type=RunPath())
@click.option("--matrix", is_flag=True, help="Markdown: adapters down, heads across.")
@click.option(
    "--intervals",
    is_flag=True,
    help="What the accuracies say of other clips, groups of clips, classes and training seeds.",
)
@click.option("--split", help="With --intervals: the split, where the run's is not to be found.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON: one object per table.")
def command(run: Path, matrix: bool, intervals: bool, split: str | None, as_json: bool) -> None:
    """Show the table of RUN, a run folder or a folder of run folders.

    Rows of one evaluation that were asked the same episodes of the same encoder share a table.
    """
    if intervals and matrix:
        raise click.UsageError("--intervals is a table of its own: leave out --matrix")
    if split is not None and not intervals:
        raise click.UsageError("--split is for --intervals: give both or none")
    if intervals:
        show_intervals(run, split, as_json=as_json)
        return
    groups = _read_tables(run)
    tables = [_build_table(group, run, many_tables=len(groups) > 1) for group in groups]
    if as_json and matrix:
        raise click.UsageError("--matrix is Markdown: give either --matrix or --json")
    if as_json:
        echo_json([result.to_dict() for _, result in tables])
        return
    for i, (title, result) in enumerate(tables):
        click.echo(
            ("\n" if i else "") + f"{title}\n\n{result.matrix() if matrix else result.table()}"
        )


def _read_tables(run: Path) -> list[list[tuple[RunHeader, RowResult]]]:
    """Read rows with their headers, grouped by table.

    Raises:
        UsageError: when there is no run folder.
    """
    groups: dict[str, list[tuple[RunHeader, RowResult]]] = defaultdict(list)
    for folder in find_run_folders(run):
        data, row = read_row(folder)
        groups[f"{folder.parent}\n{table_key(data.header)}"].append((data.header, row))
    for rows in groups.values():
        check_duplicate_seeds([(header, row.folder) for header, row in rows])
        rows.sort(
            key=lambda header_and_row: row_order(
                header_and_row[0], header_and_row[1].adapter, header_and_row[1].folder
            )
        )
        names = start_display_names([(header, row.folder) for header, row in rows])
        rows[:] = [
            (header, replace(row, start_name=name))
            for (header, row), name in zip(rows, names, strict=True)
        ]
    return [_with_distinguishing_notes(rows) for rows in groups.values()]


def _with_distinguishing_notes(
    rows: Sequence[tuple[RunHeader, RowResult]],
) -> list[tuple[RunHeader, RowResult]]:
    """Add distinguishing notes to rows with the same name in the table."""

    def _name(row: RowResult) -> tuple[object, ...]:
        return row.adapter, row.note, row.head, row.start, row.start_name, row.shot

    notes = distinguishing_notes([(_name(row), header, row.folder) for header, row in rows])
    return [
        (header, replace(row, note=", ".join(filter(None, [row.note, note]))))
        for (header, row), note in zip(rows, notes, strict=True)
    ]


def _build_table(
    group: list[tuple[RunHeader, RowResult]], run: Path, *, many_tables: bool
) -> tuple[str, EvaluationResult]:
    from fewshot_i2v.evaluation.results import EvaluationResult

    config = group[0][0]["identity"]["config"]
    way, (low, high) = config["way"], group[0][1].ways
    if isinstance(way, str) and high:
        way = low if low == high else f"{low}-{high}"
    title = table_title(group[0][0], way)
    rows = tuple(row for _, row in group)
    if many_tables:
        title = f"{rows[0].folder.parent}: {title}"
    encoder = config["encoder"]["name"]
    stopped = stopping_record_of([(row.folder, row.episodes + row.failed) for row in rows])
    return title, EvaluationResult(rows, run, way, config["split"], encoder, stopped=stopped)


@dataclass(frozen=True, eq=False)
class _IntervalRow:
    """A row: one run folder for each of its training seeds."""

    headers: list[RunHeader]
    records: list[RecordLines]
    folder: Path
    start: str = ""

    @property
    def labels(self) -> dict[str, Any]:
        return row_labels(self.headers[0])

    @property
    def is_frozen(self) -> bool:
        return str(self.labels["adapter"]).partition(":")[0] == "frozen"

    @property
    def shares_clips(self) -> bool:
        """Whether episodes may share clips."""
        from fewshot_i2v.runs.row_summary import share_clips

        if not self.headers[0].get("marks", {}).get("disjoint"):
            return True
        return share_clips(self.records[0].values())

    def succeeded_episodes(self) -> frozenset[int]:
        """Episodes that succeeded with every seed."""
        return frozenset.intersection(
            *(frozenset(seed_records) - seed_records.failed for seed_records in self.records)
        )

    def display_name(self, *, with_head: bool) -> str:
        """The row's name in a table; with its head where rows differ in it."""
        from fewshot_i2v.utils.text_table import escape_name

        start_note = f" from {escape_name(self.start)}" if self.start else ""
        head_note = f" with {escape_name(self.labels['head'])}" if with_head else ""
        return escape_name(self.labels["adapter"]) + start_note + head_note


def show_intervals(run: Path, split: str | None, *, as_json: bool) -> None:
    """Write the intervals of all rows.

    Args:
        run: a run folder or a folder with some.
        split: name or path of the split, for the groups of its clips; None: the runs' path.
        as_json: whether to write JSON, one object per table.

    Raises:
        UsageError: when there is no run folder, or `split` is not that of the runs.
    """
    from fewshot_i2v.report.analysis.generalization import generalization_text

    tables = []
    for i, rows in enumerate(_read_interval_tables(run)):
        groups = _find_clip_groups(rows, split)
        accuracies, gains = _accuracy_and_gain_intervals(rows, groups)
        title = table_title(rows[0].headers[0], rows[0].headers[0]["identity"]["config"]["way"])
        if as_json:
            tables.append(
                {
                    "title": title,
                    "rows": [row_intervals.to_dict() for row_intervals in accuracies],
                    "over_frozen": [row_intervals.to_dict() for row_intervals in gains],
                }
            )
        elif not accuracies:
            click.echo(("\n" if i else "") + f"{title}\n\nno episode succeeded yet")
        else:
            click.echo(("\n" if i else "") + f"{title}\n\n{generalization_text(accuracies, gains)}")
    if as_json:
        echo_json(tables)


def _read_interval_tables(run: Path) -> Iterator[list[_IntervalRow]]:
    """Yield the rows of each table."""
    from fewshot_i2v.runs.header import read_header

    runs_by_table: dict[tuple[str, str], list[tuple[RunHeader, Path]]] = defaultdict(list)
    for folder in find_run_folders(run):
        header = read_header(folder / "run.json") or {}
        runs_by_table[str(folder.parent), table_key(header)].append((header, folder))
    for runs in runs_by_table.values():
        runs.sort(
            key=lambda header_and_folder: row_order(
                header_and_folder[0],
                row_labels(header_and_folder[0])["adapter"],
                header_and_folder[1],
            )
        )
        yield _group_seeds(runs)


def _group_seeds(runs: Sequence[tuple[RunHeader, Path]]) -> list[_IntervalRow]:
    """Build rows; runs that differ only in the seed are one."""
    from fewshot_i2v.runs.run_folder import read_run

    check_duplicate_seeds(runs)
    rows: dict[str | Path, _IntervalRow] = {}
    for header, folder in runs:
        is_single_seed = row_labels(header)["training_seed"] is None
        row = rows.setdefault(
            folder if is_single_seed else seed_group_key(header, folder),
            _IntervalRow([], [], folder),
        )
        row.headers.append(header)
        row.records.append(read_run(folder).records)
    names = start_display_names([(row.headers[0], row.folder) for row in rows.values()])
    return [replace(row, start=name) for row, name in zip(rows.values(), names, strict=True)]


def _accuracy_and_gain_intervals(
    rows: Sequence[_IntervalRow], groups: ClipGroups | None
) -> tuple[list[GeneralizationIntervals], list[GeneralizationIntervals]]:
    """Intervals of each row's accuracy, and gain over the frozen encoder."""
    from fewshot_i2v.errors import UsageError
    from fewshot_i2v.report.analysis.generalization import generalization_intervals
    from fewshot_i2v.statistics.predictions import PredictionTable

    @cache
    def _outcomes(row: _IntervalRow, indices: frozenset[int]) -> list[PredictionTable]:
        chosen = sorted(indices)
        return [PredictionTable.from_records(records.read(chosen)) for records in row.records]

    with_head = len({row.labels["head"] for row in rows}) > 1
    accuracies, gains = [], []
    for row in rows:
        name, shot, succeeded = (
            row.display_name(with_head=with_head),
            row.labels["shot"],
            row.succeeded_episodes(),
        )
        if not succeeded:
            continue
        intervals_of = partial(
            generalization_intervals, name, shot, groups=groups, clips_shared=row.shares_clips
        )
        accuracies.append(intervals_of(_outcomes(row, succeeded)))
        baseline = next((other_row for other_row in rows if _is_baseline_of(other_row, row)), None)
        common = succeeded & baseline.succeeded_episodes() if baseline else frozenset()
        if baseline and common:
            baseline_outcomes = _outcomes(baseline, common)
            try:
                gains.append(intervals_of(_outcomes(row, common), baseline=baseline_outcomes))
            except UsageError as error:
                raise UsageError(f"{row.folder} and {baseline.folder}: {error}") from error
    return accuracies, gains


def _is_baseline_of(candidate: _IntervalRow, row: _IntervalRow) -> bool:
    same_setting = all(candidate.labels[key] == row.labels[key] for key in ("head", "shot"))
    return candidate.is_frozen and not row.is_frozen and same_setting


def _find_clip_groups(rows: Sequence[_IntervalRow], split: str | None) -> ClipGroups | None:
    """The groups of the clips; None without groups, or if the split is missing."""
    from fewshot_i2v.errors import UsageError
    from fewshot_i2v.report.analysis.generalization import ClipGroups
    from fewshot_i2v.report.page.filmstrips import ClipSources, find_split

    try:
        split_of_run = find_split(rows[0].headers[0], ClipSources(split))
    except UsageError:
        if split is not None:
            raise
        click.echo(
            "note: the split of the run is not to be found, so groups of clips are not looked at; "
            "give it with --split",
            err=True,
        )
        return None
    subset = rows[0].headers[0]["identity"]["config"]["subset"]
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
