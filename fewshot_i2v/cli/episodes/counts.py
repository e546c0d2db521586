"""`fewshot-i2v episodes counts`: classes and clips of splits in one table."""

from __future__ import annotations

from pathlib import Path

import click

from fewshot_i2v.cli._common import echo_json
from fewshot_i2v.cli._flags import SPLITS
from fewshot_i2v.cli._help import HelpCommand
from fewshot_i2v.utils import resources


@click.command(
    cls=HelpCommand,
    examples=(("episodes counts", "all shipped splits"),),
    short_help="Count classes and clips of splits, as a Markdown table.",
)
@click.argument("splits", nargs=-1, shell_complete=SPLITS["shell_complete"], metavar="[SPLIT]...")
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    help="Folder of the clips.  [default: that of the split]",
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def command(splits: tuple[str, ...], root: Path | None, as_json: bool) -> None:
    """Count classes and clips of SPLITs, names or paths. Without any: of all shipped splits.

    The Markdown table has for each subset: classes / clips (clips of the smallest, the middle and
    the largest class).
    """
    from fewshot_i2v.data.splits.split_file import load_split
    from fewshot_i2v.data.splits.summary import count_clips, counts_table

    names = splits or tuple(resources.data_names("episodes"))
    rows = [count_clips(load_split(name, root=root)) for name in names]
    if as_json:
        echo_json(rows)
    else:
        click.echo(counts_table(rows))
