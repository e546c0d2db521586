"""`fewshot-i2v config`: look at configurations.

One file in this folder per command, as in the folder above.
"""

from __future__ import annotations

from pathlib import Path

from fewshot_i2v.cli._common import EXIT_CODES, CommandFolder

command = CommandFolder(
    name="config",
    folder=Path(__file__).parent,
    package=__name__,
    epilog=EXIT_CODES,
    short_help="Show a configuration with all its values.",
    help="Look at configurations.",
)
