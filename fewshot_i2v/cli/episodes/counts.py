"""`fewshot-i2v episodes counts`: classes and clips of splits in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fewshot_i2v.cli._common import echo_json, root_option
from fewshot_i2v.cli._errors import echo_error
from fewshot_i2v.cli._flags import SPLITS
from fewshot_i2v.cli._help import help_command
from fewshot_i2v.cli._next import command_line, echo_next
from fewshot_i2v.errors import FewshotError
from fewshot_i2v.utils import resources


@help_command(
    "Count classes and clips of splits, as a Markdown table.",
    ("episodes counts", "all shipped splits"),
)
@click.argument("splits", nargs=-1, shell_complete=SPLITS["shell_complete"], metavar="[SPLIT]...")
@root_option
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def command(splits: tuple[str, ...], root: Path | None, as_json: bool) -> None:
    """Count classes and clips of SPLITs, names or paths. Without any: of all shipped splits.

    The Markdown table has for each subset: classes / clips (clips of the smallest, the middle and
    the largest class). A split that cannot be read is named below the table of the others.
    """
    from fewshot_i2v.data.splits.split_file import load_split
    from fewshot_i2v.data.splits.summary import count_clips, counts_table

    names = splits or tuple(resources.data_names("episodes"))
    rows: list[dict[str, Any]] = []
    problems: list[FewshotError] = []
    for name in names:
        try:
            rows.append(count_clips(load_split(name, root=root)))
        except FewshotError as error:
            problems.append(error)
    if as_json:
        echo_json(rows)
    elif rows:
        click.echo(counts_table(rows))
    for problem in problems:
        echo_error(problem)
    if problems:
        raise click.exceptions.Exit(problems[0].exit_code)
    if not as_json:
        roots = [] if root is None else ["--root", str(root)]
        echo_next(command_line("episodes", "show", names[0], *roots))
