"""`fewshot-i2v cache clear`: remove files from the cache folder."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from fewshot_i2v.cli._common import EXIT_CODES, echo_json
from fewshot_i2v.cli._help import help_command
from fewshot_i2v.cli._next import command_line, echo_next
from fewshot_i2v.cli.cache._table import cache_option, group_lines
from fewshot_i2v.errors import UsageError
from fewshot_i2v.utils.resources import default_cache_folder
from fewshot_i2v.utils.sizes import format_size
from fewshot_i2v.utils.text_table import escape_name
from fewshot_i2v.utils.timing import parse_age

_KINDS = ("decoded", "features", "generated", "checks")


def _age(value: str) -> int:
    try:
        return parse_age(value)
    except ValueError as error:
        expected = "an age in hours, days or weeks, such as 12h, 30d or 8w"
        raise click.BadParameter(f"{value!r} is not {expected}.") from error


@help_command(
    "Remove files from the cache, all or some.",
    ("cache clear", "everything, after a question"),
    ("cache clear --older-than 30d", "what was not used for 30 days"),
    ("cache clear --kind decoded --yes", "decoded clips, without a question"),
    epilog=EXIT_CODES,
)
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(_KINDS),
    multiple=True,
    help="Only decoded clips, features of clips, generated clips, or results of "
    "`episodes check`. Repeatable.",
)
@click.option(
    "--older-than",
    "age",
    type=_age,
    metavar="AGE",
    default=None,
    help="Only what was not used for so long: 12h, 30d or 8w.  [default: everything]",
)
@cache_option
@click.option("--yes", "-y", is_flag=True, help="Remove them without a question.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON; goes with --yes.")
def command(
    kinds: tuple[str, ...], age: int | None, cache: Path | None, yes: bool, as_json: bool
) -> None:
    """Show what would be removed from the cache folder, ask, and remove it.

    Clips and features that a running command uses stay, and so does every file that this program
    did not write. What was removed is made again when it is needed.
    """
    from fewshot_i2v.data.cache_folder import clear_files, group_files, list_cache

    if as_json and not yes:
        raise UsageError("--json: asks no question; give --yes with it")
    folder = (cache or default_cache_folder()).absolute()
    latest = time.time() - (age or 0)
    files = [
        file
        for file in list_cache(folder)
        if (not kinds or file.kind in kinds) and (age is None or file.last_used <= latest)
    ]
    if not as_json:
        if not files:
            click.echo(f"{escape_name(str(folder), 200)}: nothing to remove")
            return
        click.echo(f"from {escape_name(str(folder), 200)}:\n")
        click.echo("\n".join(group_lines(group_files(files))) + "\n")
    if not (yes or _confirm()):
        click.echo("nothing was removed", err=True)
        return
    cleared = clear_files(folder, files)
    if as_json:
        echo_json({"folder": str(folder), **cleared._asdict()})
        return
    note = f"; {cleared.in_use:,} in use by running commands stay" if cleared.in_use else ""
    click.echo(f"removed {cleared.files:,} files, {format_size(cleared.size)}{note}")
    words = [] if cache is None else ["--cache", str(cache)]
    echo_next(command_line("cache", "list", *words))


def _confirm() -> bool:
    """Ask whether the files may be removed."""
    try:
        return click.confirm("Remove these files?", err=True)
    except click.Abort as error:
        click.echo(err=True)  # ends the line of the question
        if not sys.stdin.isatty():
            raise UsageError("nobody can answer here: nothing was removed; give --yes") from error
        raise
