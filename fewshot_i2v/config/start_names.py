"""Names of starting points: the shipped ones, a path, or `fresh`."""

from __future__ import annotations

from pathlib import Path

from fewshot_i2v.config.file_names import RelativeToFile, join_path
from fewshot_i2v.utils import resources

FRESH = "fresh"
"""No starting point: an adapter with its untrained initial values."""
FROZEN_ADAPTER = "frozen"
"""The adapter that has no parameters, and so no starting point."""

METADATA_FILE = "adapter.json"


def shipped_starts_folder() -> Path:
    """The folder of shipped starting points, `NAME/ADAPTER/` in it."""
    return resources.data_folder("configs") / "starts"


def names_of_starts() -> list[str]:
    """Names of the shipped starting points, sorted; each is for one or several adapters."""
    folder = shipped_starts_folder()
    start_folders = (path.parent.parent for path in folder.rglob(METADATA_FILE))
    return sorted(
        {
            parent.relative_to(folder).as_posix()
            for parent in start_folders
            if folder in parent.parents
        }
    )


def start_name_of(entry: str) -> str:
    """The display name of a starting point: its own, or its folder's."""
    return entry if entry in (FRESH, *names_of_starts()) else start_folder(entry).resolve().name


def _resolve_start(entry: str, folder: Path) -> str:
    """Resolve an entry that is a relative path, by its slash or since it exists, and not a name."""
    if entry in (FRESH, *names_of_starts()):
        return entry
    is_path = "/" in entry or (folder / entry).exists()
    return join_path(entry, folder) if is_path else entry


START = RelativeToFile(_resolve_start)


def start_folder(entry: str) -> Path:
    """The folder that the name of a shipped starting point, or a path, stands for."""
    shipped = entry in names_of_starts()
    return shipped_starts_folder() / entry if shipped else Path(entry).expanduser()
