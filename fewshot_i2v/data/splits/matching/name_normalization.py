"""Normalizes class and clip names, so that spellings of the same name compare equal."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fewshot_i2v.data.splits.matching.file_tree import split_extension
from fewshot_i2v.data.splits.matching.name_similarity import (
    normalized_folder,
    normalized_name,
    youtube_id,
)
from fewshot_i2v.data.splits.split import Split

_TIMED_YOUTUBE_NAME = re.compile(r"([\w-]{11})_((?:\d{6}|\d+\.\d+)_(?:\d{6}|\d+\.\d+))", re.ASCII)
# letters, digits, marks that belong to letters, and signs such as +
_RETAINED_CATEGORIES = frozenset("LNMS")
_ARTICLES = frozenset(("a", "an", "the"))


class NamedClip(NamedTuple):
    """A clip of a split, with the normalized components of its name.

    Attributes:
        subset: its subset.
        class_name: its class.
        class_key: normalized name of its class.
        name: as in the list.
        folder_keys: normalized folders above it, without those common to all clips of the list.
        is_youtube: whether its key is the id of a YouTube video.
        times: start and end in the name of such a video, or "".
    """

    subset: str
    class_name: str
    class_key: str
    name: str
    folder_keys: tuple[str, ...]
    is_youtube: bool
    times: str


def normalized_class(name: str) -> str:
    """Normalize a class name: no case, spaces, brackets or punctuation, one accent spelling."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return (
        "".join(c for c in folded if unicodedata.category(c)[0] in _RETAINED_CATEGORIES) or folded
    )


def stem_key(name: str) -> str:
    """Stem a class name: "clap" and "clapping" get one key, articles are removed.

    It works for many names in English; it is not made for other languages.
    """
    words = re.findall(r"\w+", name.replace("_", " ").casefold())
    stemmed = "".join(_strip_endings(word) for word in words if word not in _ARTICLES)
    return re.sub(r"(.)\1", r"\1", stemmed)  # "clapp", and "pullup" as in "pull ups"


def _strip_endings(word: str) -> str:
    for ending, min_length in (("ing", 3), ("s", 2), ("e", 3)):
        if len(word) >= min_length + len(ending):
            word = word.removesuffix(ending)
    return word


def index_by_name(split: Split, *, youtube: bool) -> Mapping[str, Sequence[NamedClip]]:
    """Index the clips of a split by a key that ignores the spelling of the last component.

    Args:
        split: the split.
        youtube: whether a name of 11 characters is a YouTube id. With times behind, as in
            `-kYzxMKp514_000086_000096`, it always is.
    """
    folders = {name.rpartition("/")[0] for name in split.clip_names()}
    names_of_folder = {folder: folder.split("/") if folder else [] for folder in folders}
    n_classes = len({name for classes in split.subsets.values() for name in classes})
    # top folders that are above the clips of all classes distinguish no clips
    common = os.path.commonprefix(list(names_of_folder.values()))  # noqa: RUF071 - name by name
    n_common = len(common) if n_classes > 1 else 0
    keys_of_folder = {
        folder: tuple(map(normalized_folder, names[n_common:]))
        for folder, names in names_of_folder.items()
    }
    index: dict[str, list[NamedClip]] = defaultdict(list)
    for subset, classes in split.subsets.items():
        for class_name, clips in classes.items():
            class_key = normalized_class(class_name)
            for clip in clips:
                folder, _, file_name = clip.name.rpartition("/")
                folder_keys = keys_of_folder[folder]
                key, is_youtube, times = _clip_key(split_extension(file_name)[0], youtube=youtube)
                index[key].append(
                    NamedClip(
                        subset, class_name, class_key, clip.name, folder_keys, is_youtube, times
                    )
                )
    return index


def _clip_key(stem: str, *, youtube: bool) -> tuple[str, bool, str]:
    match = _TIMED_YOUTUBE_NAME.fullmatch(stem)
    if match is not None:
        return match.group(1).lower(), True, match.group(2)
    video_id = youtube_id(stem) if youtube else ""
    if video_id:
        return video_id, True, stem[len(video_id) + 1 :]
    return normalized_name(stem), False, ""


def have_same_folders(clip_a: NamedClip, clip_b: NamedClip) -> bool:
    """Whether the folders above two clips agree, as far as both names have them."""
    n_compared = min(len(clip_a.folder_keys), len(clip_b.folder_keys))
    if n_compared == 0:
        return clip_a.folder_keys == clip_b.folder_keys
    return clip_a.folder_keys[-n_compared:] == clip_b.folder_keys[-n_compared:]


def is_same_clip(clip_a: NamedClip, clip_b: NamedClip, *, unique: bool) -> bool:
    """Whether clips of two lists with one key are the same clip; `unique`: both have it only once.

    A YouTube id is enough by itself. Otherwise the folders must agree, since names such as `001`
    are numbers in a folder. If the key is unique, it is enough that only one of them has a
    folder, or that the class is the same.
    """
    if (clip_a.is_youtube and clip_b.is_youtube) or have_same_folders(clip_a, clip_b):
        return True
    return unique and (
        not clip_a.folder_keys or not clip_b.folder_keys or clip_a.class_key == clip_b.class_key
    )


def group_by_folder(clips: Sequence[NamedClip]) -> Mapping[tuple[str, ...], Sequence[NamedClip]]:
    """Group clips by the last folder above them: `have_same_folders` needs it to be equal."""
    groups: dict[tuple[str, ...], list[NamedClip]] = defaultdict(list)
    for clip in clips:
        groups[clip.folder_keys[-1:]].append(clip)
    return groups
