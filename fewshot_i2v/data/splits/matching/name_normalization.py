"""When two names mean the same class or clip, whatever their spelling."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import NamedTuple

from fewshot_i2v.data.splits.matching.file_tree import stem_of
from fewshot_i2v.data.splits.matching.name_similarity import folder_key, name_key, youtube_key
from fewshot_i2v.data.splits.split import Split

_TIMED = re.compile(r"([\w-]{11})_((?:\d{6}|\d+\.\d+)_(?:\d{6}|\d+\.\d+))", re.ASCII)
_KEPT = frozenset("LNMS")  # letters, digits, marks that belong to letters, and signs such as +
_ARTICLES = frozenset(("a", "an", "the"))


class Listed(NamedTuple):
    """A clip of a list, as names tell of it.

    Attributes:
        subset: where it is.
        of: its class.
        label: key of its class.
        name: as the list has it.
        place: keys of the folders above it, without those that all clips of the list are in.
        video: whether its key is the id of a YouTube video.
        times: start and end in the name of such a video, or "".
    """

    subset: str
    of: str
    label: str
    name: str
    place: tuple[str, ...]
    video: bool
    times: str


def class_key(name: str) -> str:
    """A class name without case, spaces, brackets and other punctuation, accents spelled alike."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(c for c in folded if unicodedata.category(c)[0] in _KEPT) or folded


def word_key(name: str) -> str:
    """A class name without articles and endings of words: "clap" and "clapping" have one key.

    It is right for many names in English and made for no other language.
    """
    words = re.findall(r"\w+", name.replace("_", " ").casefold())
    plain = "".join(_without_ending(word) for word in words if word not in _ARTICLES)
    return re.sub(r"(.)\1", r"\1", plain)  # "clapp", and "pullup" as in "pull ups"


def _without_ending(word: str) -> str:
    for ending, shortest in (("ing", 3), ("s", 2), ("e", 3)):
        if len(word) >= shortest + len(ending):
            word = word.removesuffix(ending)
    return word


def listing(split: Split, *, youtube: bool) -> Mapping[str, Sequence[Listed]]:
    """The clips of a split by a key that is the same whatever the spelling of the last part.

    Args:
        split: the split.
        youtube: whether a name of 11 characters is a YouTube id. With times behind, as in
            `-kYzxMKp514_000086_000096`, it always is.
    """
    found: dict[str, list[Listed]] = defaultdict(list)
    above = _above(split)
    places: dict[str, tuple[str, ...]] = {}
    for subset, classes in split.subsets.items():
        for of, clips in classes.items():
            label = class_key(of)
            for clip in clips:
                folder, _, last = clip.name.rpartition("/")
                if folder not in places:
                    places[folder] = tuple(map(folder_key, _parts(folder)[above:]))
                key, video, times = _key(stem_of(last)[0], youtube=youtube)
                place = places[folder]
                found[key].append(Listed(subset, of, label, clip.name, place, video, times))
    return found


def _parts(folder: str) -> list[str]:
    return folder.split("/") if folder else []


def _above(split: Split) -> int:
    """How many folders, from the root down, clips of all classes are in: those say nothing."""
    if len({name for classes in split.subsets.values() for name in classes}) < 2:
        return 0
    folders = {name.rpartition("/")[0] for name in split.names()}
    columns = zip(*map(_parts, folders), strict=False)
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))


def _key(stem: str, *, youtube: bool) -> tuple[str, bool, str]:
    timed = _TIMED.fullmatch(stem)
    if timed is not None:
        return timed.group(1).lower(), True, timed.group(2)
    video = youtube_key(stem) if youtube else ""
    return (video, True, stem[len(video) + 1 :]) if video else (name_key(stem), False, "")


def same_place(one: Listed, other: Listed) -> bool:
    """Whether the folders above two clips agree, as far as both names have them."""
    shared = min(len(one.place), len(other.place))
    if shared == 0:
        return one.place == other.place
    return one.place[-shared:] == other.place[-shared:]


def same_clip(one: Listed, other: Listed, *, alone: bool) -> bool:
    """Whether clips of two lists that have one key are the same clip.

    A YouTube id says so by itself. Else the folders must agree, since names such as `001` are
    numbers in a folder. Where each list has the key once, a folder that only one of them has, or
    the same class, is enough.

    Args:
        one: a clip.
        other: a clip of the other list.
        alone: whether both lists have the key only once.
    """
    if (one.video and other.video) or same_place(one, other):
        return True
    return alone and (not one.place or not other.place or one.label == other.label)


def by_folder(rows: Sequence[Listed]) -> Mapping[tuple[str, ...], Sequence[Listed]]:
    """Clips by the last folder above them: those of different ones are not in the same place."""
    found: dict[tuple[str, ...], list[Listed]] = defaultdict(list)
    for row in rows:
        found[row.place[-1:]].append(row)
    return found
