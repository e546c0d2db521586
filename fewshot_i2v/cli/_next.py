"""The last lines of a command: which command is useful next, with the paths of this run."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from pathlib import Path

import click

PROGRAM = "fewshot-i2v"
ARGUMENTS_KEY = "fewshot_i2v.arguments"
"""Where the arguments of the present command are in click's `Context.meta`."""


def command_line(*words: str | Path) -> str:
    """Build a command of this program that can be pasted into a shell."""
    return shlex.join([PROGRAM, *map(str, words)])


def same_command(
    ctx: click.Context, *, without: Collection[str], without_values: Collection[str] = ()
) -> str:
    """Build the present command without some of its flags.

    Flags in `without` have no values, those in `without_values` have one.
    """
    names: list[str] = []
    context: click.Context | None = ctx
    while context is not None and context.parent is not None:
        names.insert(0, context.info_name or "")
        context = context.parent
    arguments: Sequence[str] = ctx.meta.get(ARGUMENTS_KEY, ())
    words = [
        word
        for previous, word in zip(["", *arguments], arguments, strict=False)
        if word not in without
        and previous not in without_values
        and word.partition("=")[0] not in without_values
    ]
    return command_line(*names, *words)


def continuation(runs: Sequence[Path], *flags: str) -> list[str]:
    """Commands that go on with the evaluations of run folders under further flags, in order."""
    from fewshot_i2v.evaluation.reproduce import continuation_commands
    from fewshot_i2v.runs.header import read_header
    from fewshot_i2v.runs.run_index import find_run_folders

    commands = []
    for folder in dict.fromkeys(path.parent for run in runs for path in find_run_folders(run)):
        rows = [path for path in find_run_folders(folder) if path.parent == folder]
        headers = [header for path in rows if (header := read_header(path / "run.json"))]
        headers.sort(key=lambda header: header.get("position", 0))
        commands += continuation_commands(folder, headers, flags) or [
            f"the command that made {folder} once more, with {' '.join(flags)}"
        ]
    return commands


def echo_next(*commands: str) -> None:
    """Write the next useful commands to standard error, a line each."""
    for i, command in enumerate(commands):
        click.echo(("\nnext: " if i == 0 else "      ") + command, err=True)
