"""`fewshot-i2v compare`: compare rows over the same episodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fewshot_i2v.cli._common import echo_json, runs_argument, width_flags
from fewshot_i2v.cli._help import help_command
from fewshot_i2v.cli._next import command_line, echo_next


@help_command(
    "Test which rows differ, and whether by chance.",
    ("compare runs/mine", "every adapter with frozen"),
    ("compare runs/mine --all-pairs", "every two adapters"),
)
@runs_argument
@click.option(
    "--baseline",
    metavar="NAME|FOLDER",
    help="Compare with this row: an adapter, a name from the table, or a folder. [default: the "
    "adapter frozen with the same head and shot]",
)
@click.option("--all-pairs", is_flag=True, help="Compare every two rows of the same shot.")
@click.option("--common", is_flag=True, help="Compare the episodes that both rows have.")
@click.option(
    "--across",
    multiple=True,
    metavar="KEY",
    help="Compare although this key differs, such as encoder or video.frames.",
)
@click.option(
    "--level",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Of the intervals, and of all verdicts together.",
)
@width_flags
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def command(
    runs: tuple[Path, ...],
    baseline: str | None,
    wide: bool,
    notes: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Compare the rows of RUN..., run folders or folders of run folders, episode by episode.

    Each row is compared with its baseline over the same episodes: difference with interval, p of a
    sign-flip test, and p adjusted for the number of comparisons (Holm). Rows of other
    episodes are refused.
    """
    from fewshot_i2v.report.comparison.compare_runs import compare, find_baseline_folder

    table = compare(*runs, baseline=baseline, **options)
    if as_json:
        echo_json(table.to_dict())
        return
    click.echo(table.table(wide=wide, notes=notes))
    baseline_folder = find_baseline_folder(baseline)
    folders = dict.fromkeys([*runs, *([baseline_folder] if baseline_folder else [])])
    echo_next(
        command_line("recommend", *folders),
        command_line("report", *folders, "--out", "report.html"),
    )
