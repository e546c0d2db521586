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
    first_commands=("new", "check", "show"),
    short_help="Make, check and show splits, such as of your own clips.",
    help="Make splits, check their clips, show them, and write episodes to files.",
)
