"""The published splits, read once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.data.splits.split_file import load_split

NAMES = (
    "hmdb51-arn",
    "ucf101-arn",
    "kinetics100-cmn",
    "kinetics100-clip-fsar",
    "ssv2-small-cmn",
    "ssv2-full-otam",
    "ssv2-full-otam-77k",
    "hmdb51-kshot",
    "ucf101-kshot",
    "ssv2-kshot",
)


@cache
def published() -> Mapping[str, Split]:
    """All of them, by name."""
    return {name: load_split(name) for name in NAMES}


def names(split: Split, *subsets: str) -> set[str]:
    """Clip names of some subsets, or of all."""
    chosen = subsets or tuple(split.subsets)
    return {clip.name for s in chosen for c in split.classes(s) for clip in split.clips(s, c)}


def labels(split: Split, *subsets: str) -> dict[str, str]:
    """The class of each clip."""
    chosen = subsets or tuple(split.subsets)
    return {clip.name: c for s in chosen for c in split.classes(s) for clip in split.clips(s, c)}


def youtube(clips: Iterable[str]) -> set[str]:
    """The YouTube ids of clips."""
    return {clip.rpartition("/")[2][:11] for clip in clips}
