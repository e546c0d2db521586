"""The published splits, read once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache

import pytest
from click.testing import CliRunner, Result

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


class _Published(Mapping[str, Split]):
    """Each is read when a test first needs it, and once."""

    __getitem__ = staticmethod(cache(load_split))

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES)

    def __len__(self) -> int:
        return len(NAMES)


def published() -> Mapping[str, Split]:
    """All of them, by name."""
    return _Published()


def run_on_read_splits(*args: str) -> Result:
    """Runs the command line, which takes the shipped splits as they were read before."""
    from fewshot_i2v.cli._root import cli

    with pytest.MonkeyPatch.context() as patch:
        module = "fewshot_i2v.data.splits.split_file"
        patch.setattr(f"{module}.load_split", lambda name, root: published()[name])
        return CliRunner().invoke(cli, list(args))


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
