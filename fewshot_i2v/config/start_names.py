"""Names of starting points: the shipped ones, a path, or `fresh`."""

from __future__ import annotations

from pathlib import Path

from fewshot_i2v.utils import resources

FRESH = "fresh"
"""No starting point: an adapter with its untrained initial values."""
UNTRAINED = "frozen"
"""The adapter that has no parameters, and so no starting point."""

_INFO = "adapter.json"


def starts_folder() -> Path:
    """Where the shipped starting points lie: `NAME/ADAPTER/` below it."""
    return resources.data_folder("configs") / "starts"


def names_of_starts() -> list[str]:
    """Names of the shipped starting points, sorted; each stands for one or several adapters."""
    folder = starts_folder()
    parents = (path.parent.parent for path in folder.rglob(_INFO))
    return sorted({p.relative_to(folder).as_posix() for p in parents if folder in p.parents})


def name_of_start(entry: str) -> str:
    """How a starting point is called in tables and file names: its name, or its folder's."""
    return entry if entry in (FRESH, *names_of_starts()) else _folder(entry).resolve().name


def is_start_path(entry: str, folder: Path) -> bool:
    """Whether an entry of a YAML file in `folder` is a path relative to it, and not a name."""
    if entry in (FRESH, *names_of_starts()):
        return False
    return "/" in entry or (folder / entry).exists()


def _folder(entry: str) -> Path:
    shipped = entry in names_of_starts()
    return starts_folder() / entry if shipped else Path(entry).expanduser()
