"""How much a clip's name and a file's are alike.

Two names that are never the same have different keys; how alike those with one key are is a rank, a
tuple that is smaller the less the two differ.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from fewshot_i2v.data.splits.matching.file_tree import Found, stem_of

Rank = tuple[int, ...]

_YOUTUBE = re.compile(r"([A-Za-z0-9_-]{11})(?:_(\d+(?:\.\d+)?)_(\d+(?:\.\d+)?))?")
SAME_PLACE, SAME_FOLDERS, SAME_FOLDER, LIKE_FOLDER, OTHER_FOLDER = range(5)
"""How the folders above a file fit a clip's name."""


class Wanted(NamedTuple):
    """A clip, by its name.

    Attributes:
        name: as the list has it.
        folders: the folders in it.
        stem: its last part, without a video's extension.
        extension: that extension, or "".
        folder: that of the class, as far as names tell; "" where it has none.
    """

    name: str
    folders: tuple[str, ...]
    stem: str
    extension: str
    folder: str = ""


def wanted(names: Iterable[str]) -> list[Wanted]:
    """The names of a list, each with the folder that is most likely its class's.

    That is the one at the place in the path where most different names stand; the last of several.
    """
    clips = []
    for name in dict.fromkeys(names):
        *folders, last = name.split("/")
        clips.append(Wanted(name, tuple(folders), *stem_of(last)))
    paths = {clip.folders for clip in clips}
    columns: dict[tuple[int, int], set[str]] = defaultdict(set)
    for path in paths:
        for i, folder in enumerate(path):
            columns[len(path), i].add(folder)
    best = {(): ""} | {
        path: path[max(range(len(path)), key=lambda i: (len(columns[len(path), i]), i))]
        for path in paths
        if path
    }
    return [clip._replace(folder=best[clip.folders]) for clip in clips]


@functools.lru_cache(maxsize=1 << 16)
def folder_key(folder: str) -> str:
    """Equal for folders that may be the same class: letters and digits count, their case not."""
    plain = "".join(c for c in unicodedata.normalize("NFC", folder).casefold() if c.isalnum())
    return plain or folder


def _composed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _spaced(text: str) -> str:
    return _composed(text).replace(" ", "_")


def name_key(stem: str) -> str:
    """Equal for names that differ by case, spaces for underscores, or the spelling of accents."""
    return _composed(_spaced(stem).casefold())


_STEPS: tuple[Callable[[str], str], ...] = (str, _composed, _spaced)


def _folder_rank(clip: Wanted, file: Found) -> int:
    if clip.folders == file.folders:
        return SAME_PLACE
    if not clip.folders:
        return OTHER_FOLDER
    if clip.folders == file.folders[-len(clip.folders) :]:
        return SAME_FOLDERS
    if clip.folder in file.folders:
        return SAME_FOLDER
    like = folder_key(clip.folder)
    return LIKE_FOLDER if like in map(folder_key, file.folders) else OTHER_FOLDER


def _extension_rank(clip: Wanted, file: Found) -> int:
    """A folder of frames is second to any video file, whose frames it mostly holds."""
    return 2 if file.frames else int(clip.extension not in ("", file.extension))


def name_rank(clip: Wanted, file: Found) -> Rank:
    """For names of one key: the class's folder, spelling, the other folders, the extension."""
    place = _folder_rank(clip, file)
    steps: Sequence[int] = [i for i, s in enumerate(_STEPS) if s(clip.stem) == s(file.stem)]
    spelling = steps[0] if steps else len(_STEPS)
    far = max(SAME_FOLDER, place) if clip.folder else 0
    return (far, spelling, place, _extension_rank(clip, file))


def youtube_key(stem: str) -> str:
    """The id, in lower case; "" where the stem is not an id, with or without times."""
    match = _YOUTUBE.fullmatch(stem)
    return match[1].lower() if match else ""


def youtube_rank(clip: Wanted, file: Found) -> Rank | None:
    """For ids of one key: case, times, folders, extension; None where both have other times.

    Files whose names tell whole seconds of times that have a fraction are second to equal times.
    """
    theirs, ours = _YOUTUBE.fullmatch(clip.stem), _YOUTUBE.fullmatch(file.stem)
    if theirs is None or ours is None:
        return None
    (one, *start), (other, *times) = theirs.groups(), ours.groups()
    how = _times_rank(start, times)
    if how is None:
        return None
    return (int(one != other), how, _folder_rank(clip, file), _extension_rank(clip, file))


def _times_rank(one: Sequence[str | None], other: Sequence[str | None]) -> int | None:
    """0: equal times; 1: whole seconds of each other; 2: only one has times; None: others."""
    if not (one[0] and other[0]):
        return 2 * int(bool(one[0]) != bool(other[0]))
    pair = [[float(x or 0) for x in times] for times in (one, other)]
    if pair[0] == pair[1]:
        return 0
    whole = [[float(int(x)) for x in times] for times in pair]
    return 1 if whole[0] == whole[1] and any(map(list.__eq__, pair, whole)) else None
