"""The group of all commands."""

from __future__ import annotations

from pathlib import Path

import click

from fewshot_i2v.cli._common import EXIT_CODES, CommandFolder
from fewshot_i2v.version import __version__

_FIRST_COMMANDS = ("episodes", "evaluate", "recommend", "fit", "predict")
"""What a newcomer needs: make a split, measure, decide, fit a model, use it."""


@click.group(
    cls=CommandFolder,
    folder=Path(__file__).parent,
    package=__package__,
    first_commands=_FIRST_COMMANDS,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
@click.version_option(__version__, prog_name="fewshot-i2v")
def cli() -> None:
    """Few-shot video recognition with frozen CLIP image encoders and image-to-video adapters.

    `fewshot-i2v evaluate` runs a small example. `fewshot-i2v COMMAND --help` explains a command,
    with examples. Results go to standard output, progress and notes to standard error.
    """
