"""`fewshot-i2v show`: the table of a finished or running evaluation, from its records alone."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fewshot_i2v.cli._common import echo_json

if TYPE_CHECKING:
    from fewshot_i2v.results import EvaluationResult, RowResult

# Rows that differ in anything else do not belong in one table.
_ROW_KEYS = ("adapter", "start", "head", "shot", "tuning")
Header = dict[str, Any]


@click.command(short_help="Show the table of an evaluation.")
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--matrix", is_flag=True, help="Markdown: adapters down, heads across.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON: one object per table.")
def command(run: Path, matrix: bool, as_json: bool) -> None:
    """Show the table of RUN, a run folder or a folder of run folders.

    Rows of one evaluation that were asked the same episodes of the same encoder share a table.
    """
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
    from fewshot_i2v.errors import UsageError

    folders = sorted(path.parent for path in run.rglob("run.json"))
    if not folders:
        raise UsageError(
            f"{run}: no run.json in it or in a folder below; expected the --output of an evaluation"
        )
    groups: dict[str, list[tuple[Header, RowResult]]] = defaultdict(list)
    for folder in folders:
        header, row = _read(folder)
        groups[f"{folder.parent}\n{_group_key(header)}"].append((header, row))
    for rows in groups.values():
        rows.sort(key=lambda pair: _place(*pair))
    return list(groups.values())


def _place(header: Header, row: RowResult) -> tuple[int, bool, Path]:
    """Where a row stands: in the order of its run; beside other runs `frozen` first, by name."""
    return header.get("position", 0), row.adapter != "frozen", row.folder


def _group_key(header: Header) -> str:
    identity = header["identity"]
    config = {k: v for k, v in identity["config"].items() if k not in _ROW_KEYS}
    parts = [config, *(identity.get(key) for key in ("split", "encoder", "trials"))]
    return json.dumps(parts, sort_keys=True)


def _read(folder: Path) -> tuple[Header, RowResult]:
    from fewshot_i2v.config import Choice
    from fewshot_i2v.records import read_run
    from fewshot_i2v.results import RowResult

    run = read_run(folder)
    config = run.header["identity"]["config"]
    row = RowResult.from_records(
        run.records.values(),
        adapter=Choice.model_validate(config["adapter"]).label,
        head=Choice.model_validate(config["head"]).label,
        shot=config["shot"],
        parameters=run.header.get("parameters", 0),
        marks=run.header.get("marks", {}),
        folder=folder,
    )
    return run.header, row


def _table(
    group: list[tuple[Header, RowResult]], run: Path, *, several: bool
) -> tuple[str, EvaluationResult]:
    from fewshot_i2v.results import EvaluationResult

    config = group[0][0]["identity"]["config"]
    way, (low, high) = config["way"], group[0][1].ways
    if isinstance(way, str) and high:
        way = low if low == high else f"{low}-{high}"
    encoder, video = config["encoder"]["name"], config["video"]
    title = (
        f"split {config['split']} ({config['subset']}), {way}-way, "
        f"{config['query']} query clips per class, seed {config['seed']}, encoder {encoder}, "
        f"{video['frames']} frames"
    )
    rows = tuple(row for _, row in group)
    if several:
        title = f"{rows[0].folder.parent}: {title}"
    return title, EvaluationResult(rows, run, way, config["split"], encoder)
