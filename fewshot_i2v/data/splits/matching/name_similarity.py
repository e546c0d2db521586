"""Ranks how similar a clip's name and a file's name are.

Two names that can never match have different keys. Among names with one key, the rank is a tuple
that is smaller the less the two differ.
"""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from fewshot_i2v.data.splits.matching.file_tree import VideoFile, split_extension
from fewshot_i2v.data.splits.problems import compose_accents

MatchRank = tuple[int, ...]

_YOUTUBE_NAME = re.compile(r"([A-Za-z0-9_-]{11})(?:_(\d+(?:\.\d+)?)_(\d+(?:\.\d+)?))?")
SAME_PATH, SAME_PATH_END, SAME_CLASS_FOLDER, SIMILAR_CLASS_FOLDER, OTHER_CLASS_FOLDER = range(5)
"""How the folders above a file fit a clip's name."""


class ClipName(NamedTuple):
    """The name of a clip, split into its components.

    Attributes:
        name: as in the list.
        folders: the folders in it.
        stem: its last component, without a video's extension.
        extension: that extension, or "".
        folder: the most likely class folder; "" if the name has no folders.
    """

    name: str
    folders: tuple[str, ...]
    stem: str
    extension: str
    folder: str = ""


def parse_clip_names(names: Iterable[str]) -> list[ClipName]:
    """Parse the clip names of a list and find each one's most likely class folder.

    That is the folder at the position in the path with the most different names; on a tie the last.
    """
    parsed = []
    for name in dict.fromkeys(names):
        *folders, file_name = name.split("/")
        parsed.append(ClipName(name, tuple(folders), *split_extension(file_name)))
    paths = {clip.folders for clip in parsed}
    folders_at: dict[tuple[int, int], set[str]] = defaultdict(set)
    for path in paths:
        for i, folder in enumerate(path):
            folders_at[len(path), i].add(folder)
    class_folder_of = {(): ""} | {
        path: path[max(range(len(path)), key=lambda i: (len(folders_at[len(path), i]), i))]
        for path in paths
        if path
    }
    return [clip._replace(folder=class_folder_of[clip.folders]) for clip in parsed]


@functools.lru_cache(maxsize=1 << 16)
def normalized_folder(folder: str) -> str:
    """Normalize a folder name: equal keys may be one class; only letters and digits count."""
    normalized = "".join(c for c in compose_accents(folder).casefold() if c.isalnum())
    return normalized or folder


def _spaces_to_underscores(text: str) -> str:
    return compose_accents(text).replace(" ", "_")


def normalized_name(stem: str) -> str:
    """Normalize a name: case, spaces or underscores and accent spelling do not count."""
    return compose_accents(_spaces_to_underscores(stem).casefold())


_NORMALIZATIONS: tuple[Callable[[str], str], ...] = (str, compose_accents, _spaces_to_underscores)


def _folder_rank(clip: ClipName, file: VideoFile) -> int:
    if clip.folders == file.folders:
        return SAME_PATH
    if not clip.folders:
        return OTHER_CLASS_FOLDER
    if clip.folders == file.folders[-len(clip.folders) :]:
        return SAME_PATH_END
    if clip.folder in file.folders:
        return SAME_CLASS_FOLDER
    class_key = normalized_folder(clip.folder)
    return (
        SIMILAR_CLASS_FOLDER
        if class_key in map(normalized_folder, file.folders)
        else OTHER_CLASS_FOLDER
    )


def _extension_rank(clip: ClipName, file: VideoFile) -> int:
    """Rank the extension; a folder of frames, which mostly are those of a video file, is last."""
    return 2 if file.is_frame_folder else int(clip.extension not in ("", file.extension))


def rank_by_name(clip: ClipName, file: VideoFile) -> MatchRank:
    """Rank names of one key: class folder, spelling, further folders, extension."""
    folder_rank = _folder_rank(clip, file)
    equal_levels: Sequence[int] = [
        i
        for i, normalize in enumerate(_NORMALIZATIONS)
        if normalize(clip.stem) == normalize(file.stem)
    ]
    spelling_rank = equal_levels[0] if equal_levels else len(_NORMALIZATIONS)
    class_rank = max(SAME_CLASS_FOLDER, folder_rank) if clip.folder else 0
    return (class_rank, spelling_rank, folder_rank, _extension_rank(clip, file))


def youtube_id(stem: str) -> str:
    """Return the YouTube id in lower case; "" if the stem is not an id, with or without times."""
    match = _YOUTUBE_NAME.fullmatch(stem)
    return match[1].lower() if match else ""


def rank_by_youtube_id(clip: ClipName, file: VideoFile) -> MatchRank | None:
    """Rank ids of one key: case, times, folders, extension; None if both have different times.

    Files whose names have whole seconds for times with a fraction rank after equal times.
    """
    clip_match, file_match = _YOUTUBE_NAME.fullmatch(clip.stem), _YOUTUBE_NAME.fullmatch(file.stem)
    if clip_match is None or file_match is None:
        return None
    (clip_id, *clip_times), (file_id, *file_times) = clip_match.groups(), file_match.groups()
    times_rank = _times_rank(clip_times, file_times)
    if times_rank is None:
        return None
    return (
        int(clip_id != file_id),
        times_rank,
        _folder_rank(clip, file),
        _extension_rank(clip, file),
    )


def _times_rank(clip_times: Sequence[str | None], file_times: Sequence[str | None]) -> int | None:
    """0: equal times; 1: equal in whole seconds; 2: only one has times; None: different."""
    if not (clip_times[0] and file_times[0]):
        return 2 * int(bool(clip_times[0]) != bool(file_times[0]))
    seconds = [[float(x or 0) for x in times] for times in (clip_times, file_times)]
    if seconds[0] == seconds[1]:
        return 0
    whole_seconds = [[float(int(x)) for x in times] for times in seconds]
    return (
        1
        if whole_seconds[0] == whole_seconds[1] and any(map(list.__eq__, seconds, whole_seconds))
        else None
    )
