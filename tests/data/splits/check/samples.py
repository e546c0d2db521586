"""Splits and clips that checks are tried on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fewshot_i2v.data.splits.check.check import ClipCheck
from fewshot_i2v.data.splits.check.check import check as check_clips
from fewshot_i2v.data.splits.split import Clip, FindMode, Split

Classes = Mapping[str, Sequence[str]]


def listed(root: Path | None, find: FindMode = "name", **subsets: Classes) -> Split:
    return Split(
        name="sample",
        description="Three movements.",
        subsets={
            subset: {name: tuple(Clip(f"{name}/{c}") for c in clips) for name, clips in v.items()}
            for subset, v in subsets.items()
        },
        find=find,
        root=root,
    )


def check(split: Split, cache: Path, *, quick: bool = False, frames: int = 8) -> ClipCheck:
    return check_clips(split, quick=quick, frames=frames, cache=cache, workers=0)


def kinds(found: ClipCheck) -> dict[str, list[str]]:
    result: dict[str, list[str]] = {}
    for problem in found.problems:
        result.setdefault(problem.clip, []).append(problem.kind)
    return result
