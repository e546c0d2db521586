"""`fewshot-i2v episodes`: look at splits, check them against files, make and freeze them.

One file in this folder per command, as in the folder above.
"""

from __future__ import annotations

from pathlib import Path

from fewshot_i2v.cli._common import EXIT_CODES, CommandFolder

command = CommandFolder(
    name="episodes",
    folder=Path(__file__).parent,
    package=__name__,
    epilog=EXIT_CODES,
    short_help="Look at splits, check them against files, make and freeze them.",
    help="Look at splits, check them against files, make new ones, and freeze episodes.",
)
