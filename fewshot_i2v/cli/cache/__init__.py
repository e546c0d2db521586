"""`fewshot-i2v cache`: see and clear the cache folder.

One file in this folder per command, as in the folder above.
"""

from __future__ import annotations

from pathlib import Path

from fewshot_i2v.cli._common import EXIT_CODES, CommandFolder

command = CommandFolder(
    name="cache",
    folder=Path(__file__).parent,
    package=__name__,
    epilog=EXIT_CODES,
    short_help="List and clear clips and their features in the cache.",
    help="See what is in the cache folder, and clear it. All of it can be made again.",
)
