"""Empty files for tests in which no video is opened."""

from __future__ import annotations

from pathlib import Path


def touch(folder: Path, *names: str) -> None:
    """Makes empty files, with the folders they lie in."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
