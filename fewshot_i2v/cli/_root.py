"""The group of all commands."""

from __future__ import annotations

from pathlib import Path

import click

from fewshot_i2v.cli._common import EXIT_CODES, CommandFolder
from fewshot_i2v.version import __version__


@click.group(
    cls=CommandFolder,
    folder=Path(__file__).parent,
    package=__package__,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="fewshot-i2v")
def cli() -> None:
    """Few-shot video recognition with frozen CLIP image encoders and image-to-video adapters.

    Results go to standard output, progress and notes to standard error.
    """
