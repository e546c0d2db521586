"""The table of what is in a cache, for `cache list` and `cache clear`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fewshot_i2v.utils.sizes import format_size
from fewshot_i2v.utils.text_table import align_columns
from fewshot_i2v.utils.timing import format_age

if TYPE_CHECKING:
    from fewshot_i2v.data.cache_folder import CacheGroup

_KIND_LABELS = {
    "decoded": "decoded clips",
    "features": "features",
    "generated": "generated clips",
    "checks": "results",
}

cache_option = click.option(
    "--cache",
    type=click.Path(path_type=Path),
    help="The cache folder.  [default: that of the user]",
)


def group_lines(groups: Sequence[CacheGroup]) -> list[str]:
    """Return the lines of a table of groups, with their total."""
    now = time.time()
    size, files = sum(group.size for group in groups), sum(group.files for group in groups)
    names = [f"{_KIND_LABELS[group.kind]}, {group.label}" for group in groups]
    columns = {
        "what": [*names, "total"],
        "files": [*(f"{group.files:,}" for group in groups), f"{files:,}"],
        "size": [*(format_size(group.size) for group in groups), format_size(size)],
        "last used": [*(format_age(now - group.last_used) for group in groups), ""],
    }
    return align_columns(columns, ("what", "last used"))
