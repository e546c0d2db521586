"""`fewshot-i2v cache list`: what is in the cache folder."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import click

from fewshot_i2v.cli._common import echo_json
from fewshot_i2v.cli._help import help_command
from fewshot_i2v.cli._next import command_line, echo_next
from fewshot_i2v.cli.cache._table import cache_option, group_lines
from fewshot_i2v.utils.resources import default_cache_folder
from fewshot_i2v.utils.sizes import format_size
from fewshot_i2v.utils.text_table import escape_name


@help_command(
    "Show what is in the cache, its size and its last use.",
    ("cache list", "what is there, how large it is, and when it was last used"),
)
@cache_option
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def command(cache: Path | None, as_json: bool) -> None:
    """Show what is in the cache folder: decoded clips, features, generated clips, checks.

    The time of the last use is exact to an hour. Files that this program did not write are neither
    counted nor ever removed.
    """
    from fewshot_i2v.data.cache_folder import group_files, list_cache

    folder = (cache or default_cache_folder()).absolute()
    groups = group_files(list_cache(folder))
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if as_json:
        facts = {"folder": str(folder), "size": sum(group.size for group in groups), "free": free}
        echo_json(facts | {"groups": [asdict(group) for group in groups]})
        return
    click.echo(f"{escape_name(str(folder), 200)}, {format_size(free)} free on its disk\n")
    if not groups:
        click.echo("nothing is there")
        echo_next(command_line("evaluate"))
        return
    click.echo("\n".join(group_lines(groups)))
    words = [] if cache is None else ["--cache", str(cache)]
    echo_next(command_line("cache", "clear", "--older-than", "30d", *words))
