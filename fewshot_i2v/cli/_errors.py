"""Print errors: one line for files and pipes, wrapped for a terminal."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence

import click

from fewshot_i2v.utils.text_table import wrap_text

_MIN_WIDTH = 40
"""Columns below which lines are not wrapped: little would stand on each."""
_SPACE = "\ue000"
"""Stands for a space at which no line is broken: a sign that no text has."""
_WHOLE = (
    re.compile(r"`[^`\n]+`"),  # a command
    re.compile(r"(?<!\w)'[^'\n]+'(?!\w)"),  # a value
    re.compile(r'(?<!\w)"[^"\n]+"(?!\w)'),
    re.compile(r"^/[^\n]*?(?=: )"),  # the file that the error is about
)
"""What can be copied from an error, and so must not be broken."""


def echo_error(message: object, arguments: Sequence[str] | None = None) -> None:
    """Write an error to standard error, wrapped where that is a terminal.

    Args:
        message: the error, or its text.
        arguments: of the command, which stay unbroken in the text; None: those of the process.
    """
    text = f"error: {message}"
    width = _terminal_width()
    if width >= _MIN_WIDTH:
        text = wrap_error(text, width, sys.argv[1:] if arguments is None else arguments)
    click.echo(text, err=True)


def wrap_error(text: str, width: int, arguments: Iterable[str] = ()) -> str:
    """Wrap an error at spaces that are in no command, no quoted value and no path.

    Args:
        text: one or several lines, each of which is wrapped by itself and keeps its indent.
        width: columns of the terminal.
        arguments: texts that stay unbroken, such as paths with spaces.
    """
    label = "error: "
    lines = text.removeprefix(label).split("\n")
    wrapped = []
    for number, line in enumerate(lines):
        content = line.lstrip()
        indent = line[: len(line) - len(content)]
        first = label if number == 0 and text.startswith(label) else indent
        pieces = wrap_text(
            _join_whole(content, arguments), width, first=first, hanging=f"{indent}  "
        )
        wrapped += pieces or [line]
    return "\n".join(wrapped).replace(_SPACE, " ")


def _join_whole(text: str, arguments: Iterable[str]) -> str:
    """Replace the spaces inside of what must not be broken."""
    for argument in arguments:
        if " " in argument.strip() and "\n" not in argument:
            text = text.replace(argument, argument.replace(" ", _SPACE))
    for pattern in _WHOLE:
        text = pattern.sub(lambda match: match.group().replace(" ", _SPACE), text)
    return text


def _terminal_width() -> int:
    """Columns of the terminal that standard error is; 0 where it is none."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns if sys.stderr.isatty() else 0
    except (AttributeError, OSError, ValueError):  # closed, or no file of the system
        return 0
