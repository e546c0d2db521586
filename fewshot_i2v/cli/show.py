"""`fewshot-i2v show`: the table of a finished or running evaluation, from its records alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from fewshot_i2v.cli._common import echo_json
from fewshot_i2v.cli._runs import (
    Header,
    RunPath,
    group_key,
    place_of,
    read_row,
    run_folders,
    stopped_of,
    title_of,
)
from fewshot_i2v.cli._same_rows import check_seeds, names_of_starts, told_apart
from fewshot_i2v.results import EvaluationResult, RowResult


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
        from fewshot_i2v.cli._intervals import show_intervals

        show_intervals(run, split, as_json=as_json)
        return
    groups = _groups(run)
    tables = [_table(group, run, several=len(groups) > 1) for group in groups]
    if as_json and matrix:
        raise click.UsageError("--matrix is Markdown: give either --matrix or --json")
    if as_json:
        echo_json([result.to_dict() for _, result in tables])
        return
    for i, (title, result) in enumerate(tables):
        click.echo(
            ("\n" if i else "") + f"{title}\n\n{result.matrix() if matrix else result.table()}"
        )


def _groups(run: Path) -> list[list[tuple[Header, RowResult]]]:
    """Rows with their headers, those of one table together.

    Raises:
        UsageError: when there is no run folder.
    """
    groups: dict[str, list[tuple[Header, RowResult]]] = defaultdict(list)
    for folder in run_folders(run):
        data, row = read_row(folder)
        groups[f"{folder.parent}\n{group_key(data.header)}"].append((data.header, row))
    for rows in groups.values():
        check_seeds([(header, row.folder) for header, row in rows])
        rows.sort(key=lambda pair: place_of(pair[0], pair[1].adapter, pair[1].folder))
        names = names_of_starts([(header, row.folder) for header, row in rows])
        rows[:] = [
            (header, replace(row, start_name=name))
            for (header, row), name in zip(rows, names, strict=True)
        ]
    return [_told_apart(rows) for rows in groups.values()]


def _told_apart(rows: Sequence[tuple[Header, RowResult]]) -> list[tuple[Header, RowResult]]:
    """The rows; those that the table would call the same are noted with what tells them apart."""

    def _name(row: RowResult) -> tuple[object, ...]:
        return row.adapter, row.note, row.head, row.start, row.start_name, row.shot

    notes = told_apart([(_name(row), header, row.folder) for header, row in rows])
    return [
        (header, replace(row, note=", ".join(filter(None, [row.note, note]))))
        for (header, row), note in zip(rows, notes, strict=True)
    ]


def _table(
    group: list[tuple[Header, RowResult]], run: Path, *, several: bool
) -> tuple[str, EvaluationResult]:
    from fewshot_i2v.results import EvaluationResult

    config = group[0][0]["identity"]["config"]
    way, (low, high) = config["way"], group[0][1].ways
    if isinstance(way, str) and high:
        way = low if low == high else f"{low}-{high}"
    title = title_of(group[0][0], way)
    rows = tuple(row for _, row in group)
    if several:
        title = f"{rows[0].folder.parent}: {title}"
    encoder = config["encoder"]["name"]
    stopped = stopped_of([(row.folder, row.episodes + row.failed) for row in rows])
    return title, EvaluationResult(rows, run, way, config["split"], encoder, stopped=stopped)
