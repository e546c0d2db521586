"""What starting points are called, where several have the same name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from pathlib import PurePath


def start_names(starts: Sequence[tuple[Hashable, str, str]]) -> list[str]:
    """What the starting point of each row is called: as it is named, or by its path.

    Args:
        starts: of each row something equal for rows whose starts must be told apart, the name of
            its start, and the folder that it was read from, empty where that is not known.

    Returns:
        The names; where several have the same one, as much of the end of their paths as is needed.
    """
    alike: dict[tuple[Hashable, str], set[tuple[str, ...]]] = defaultdict(set)
    for group, name, folder in starts:
        if folder:
            alike[group, name].add(_given(name, folder))
    return [
        _end(_given(name, folder), alike[group, name])
        if folder and len(alike[group, name]) > 1
        else name
        for group, name, folder in starts
    ]


def _given(name: str, folder: str) -> tuple[str, ...]:
    """Parts of the path that was named: the folder, or the one above it that has several."""
    parts, named = PurePath(folder).parts, PurePath(name).parts
    above = parts[:-1]
    return above if parts[-len(named) :] != named == above[-len(named) :] else parts


def _end(path: tuple[str, ...], others: set[tuple[str, ...]]) -> str:
    """The shortest end of a path that no other one has."""
    lengths = range(1, len(path))
    alone = (n for n in lengths if sum(other[-n:] == path[-n:] for other in others) == 1)
    return str(PurePath(*path[-next(alone, len(path)) :]))
