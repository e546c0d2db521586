"""Reduces a split: removes the clips that a check found problems with."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewshot_i2v.data.splits.check.check import ClipCheck
from fewshot_i2v.data.splits.split import Clip, Split
from fewshot_i2v.data.splits.split_writer import write_split
from fewshot_i2v.errors import SplitError
from fewshot_i2v.utils.text_table import join_names

_MAX_NAMED = 6


@dataclass(frozen=True)
class ReducedSplit:
    """A reduced split and what was removed.

    Attributes:
        split: the reduced split.
        removed_clips: removed clips, also those of removed classes -> why.
        removed_classes: removed classes.
        removed_draws: sets of draws that were removed, since one of their clips was.
    """

    split: Split
    removed_clips: Mapping[str, str]
    removed_classes: tuple[str, ...]
    removed_draws: tuple[str, ...]


def remove_problem_clips(check: ClipCheck, *, drop_classes: bool = False) -> ReducedSplit:
    """Remove the clips with problems from the split of a check.

    Args:
        check: with problems.
        drop_classes: whether a class may be removed, if all of its clips in a subset would be.

    Returns:
        A split with a name, a description and a digest of its own.

    Raises:
        SplitError: when a class would have no clip left and may not be removed, or a subset no
            class.
    """
    split = check.split
    subsets, emptied = _retained_clips(check, drop_classes=drop_classes)
    remaining = {clip.name for classes in subsets.values() for c in classes.values() for clip in c}
    removed_clips: dict[str, str] = {
        name: check.problem_by_clip[name].kind
        if name in check.problem_by_clip
        else "its class is left out"
        for name in split.clip_names()
        if name not in remaining
    }
    train_names = {clip.name for clips in subsets.get("train", {}).values() for clip in clips}
    removed_draws = [
        name
        for name, draws in split.draws.items()
        if any(not train_names.issuperset(c) for draw in draws for c in draw.clips.values())
    ]
    reduced = dataclasses.replace(
        split,
        name=f"{split.name}-minus-{len(removed_clips)}",
        version=1,
        subsets=subsets,
        description=_describe_removal(split, removed_clips, emptied, removed_draws),
        class_ids={name: i for name, i in split.class_ids.items() if name not in emptied},
        draws={name: draws for name, draws in split.draws.items() if name not in removed_draws},
        path=None,
    )
    return ReducedSplit(reduced, removed_clips, tuple(emptied), tuple(removed_draws))


def _retained_clips(
    check: ClipCheck, *, drop_classes: bool
) -> tuple[dict[str, dict[str, tuple[Clip, ...]]], list[str]]:
    """Return the clips without a problem, as in `Split.subsets`, and the removed classes."""
    split = check.split
    retained = {
        subset: {
            name: tuple(clip for clip in clips if clip.name not in check.problem_by_clip)
            for name, clips in classes.items()
        }
        for subset, classes in split.subsets.items()
    }
    # a class without a clip in train is removed from test as well, and the other way round
    emptied = sorted(
        {name for classes in retained.values() for name, clips in classes.items() if not clips}
    )
    if emptied and not drop_classes:
        raise SplitError(
            f"split {split.name!r}: no clip would be left of "
            f"{join_names(list(map(repr, emptied)), _MAX_NAMED)}; "
            "get their clips, or leave the classes out with --drop-classes"
        )
    subsets = {
        subset: {name: clips for name, clips in classes.items() if name not in emptied}
        for subset, classes in retained.items()
    }
    for subset, classes in subsets.items():
        if not classes:
            raise SplitError(f"split {split.name!r}: no class would be left of {subset!r}")
    return subsets, emptied


def write_reduced_split(
    check: ClipCheck, path: Path, *, drop_classes: bool = False
) -> ReducedSplit:
    """Write the split of a check without the clips that have problems; see `remove_problem_clips`.

    The names of the removed clips are comments at the top of the file.

    Raises:
        SplitError: also when the file exists, or cannot be written.
    """
    reduced = remove_problem_clips(check, drop_classes=drop_classes)
    lines = [f"Left out of {check.split.name} (digest {check.split.digest}), and why:"]
    lines += [f"  {clip}: {reason}" for clip, reason in reduced.removed_clips.items()]
    text = "\n".join(line.replace("\n", " ") for line in lines)
    write_split(reduced.split, path, comments=[f"{text}\n"], with_digest=True)
    return reduced


def check_output_path(path: Path) -> None:
    """Check the output path of a reduced split, before the clips are checked.

    Raises:
        SplitError: when the file exists, or its name is not that of a split file.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise SplitError(f"{path}: expected a name that ends in .yaml or .yml")
    if path.exists():
        raise SplitError(f"{path}: is already there; give another name")


def _describe_removal(
    split: Split,
    removed_clips: Collection[str],
    emptied: Sequence[str],
    removed_draws: Sequence[str],
) -> str:
    counts = []
    for subset, classes in split.subsets.items():
        for name, clips in classes.items():
            n_removed = sum(clip.name in removed_clips for clip in clips)
            if n_removed:
                counts.append(f"{name} {n_removed} of {len(clips)} ({subset})")
    total = len(split.clip_names())
    description = (
        f"{split.name} without {len(removed_clips)} of its {total} clips, which had problems: "
        f"results cannot be compared with those on all of it. Made from digest {split.digest}; "
        f"left out (names and reasons are at the top of the file): {'; '.join(counts)}."
    )
    if emptied:
        description += f" Classes left out: {', '.join(emptied)}."
    if removed_draws:
        description += f" Draws left out, since they had such clips: {', '.join(removed_draws)}."
    return f"{description} {split.description}".strip()
