"""The command line, `fewshot-i2v`: one file in this folder per command.

A command's file has the command's name (underscores for dashes) and defines `command`. Files are
imported when their command or the list of commands is asked for, and import torch and pydantic only
once a command runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from fewshot_i2v import __version__
from fewshot_i2v.cli._common import EXIT_CODES, CommandFolder


@click.group(
    cls=CommandFolder,
    folder=Path(__file__).parent,
    package=__name__,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="fewshot-i2v")
def cli() -> None:
    """Few-shot video recognition with frozen CLIP image encoders and image-to-video adapters.

    Results go to standard output, progress and notes to standard error.
    """


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and ends the process.

    Args:
        args: what follows the program's name; None: from `sys.argv`.

    Raises:
        SystemExit: always, with a status as in `fewshot_i2v.errors`.
    """
    cli.main(args, prog_name="fewshot-i2v")
    raise SystemExit(0)
