"""A smaller split: one without the clips that a check found problems with."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewshot_i2v.data.splits.check.check import ClipCheck
from fewshot_i2v.data.splits.split import Clip, Split
from fewshot_i2v.data.splits.split_writer import write_split
from fewshot_i2v.errors import SplitError

_NAMED = 6


@dataclass(frozen=True)
class Removal:
    """A smaller split and what it lacks.

    Attributes:
        split: the smaller split.
        clips: clips left out, also those of classes left out -> why.
        classes: classes left out.
        draws: sets of draws left out, since one of their clips is.
    """

    split: Split
    clips: Mapping[str, str]
    classes: tuple[str, ...]
    draws: tuple[str, ...]


def without_problems(check: ClipCheck, *, drop_classes: bool = False) -> Removal:
    """The split of a check without the clips that have a problem.

    Args:
        check: with problems.
        drop_classes: whether a class may be left out, where all of its clips in a subset would be.

    Returns:
        A split with a name, a description and a digest of its own.

    Raises:
        SplitError: when a class would have no clip left and may not be left out, or a subset no
            class.
    """
    split = check.split
    kept = {
        subset: {c: [x for x in clips if x.name not in check.bad] for c, clips in classes.items()}
        for subset, classes in split.subsets.items()
    }
    emptied = _emptied(split, kept)
    if emptied and not drop_classes:
        raise _no_clip_left(split, sorted(emptied))
    subsets = {
        subset: {name: tuple(clips) for name, clips in classes.items() if name not in emptied}
        for subset, classes in kept.items()
    }
    for subset, left in subsets.items():
        if not left:
            raise SplitError(f"split {split.name!r}: no class would be left of {subset!r}")
    reasons = _reasons(check, subsets)
    draws = {
        name: all(clip in subsets["train"].get(c, ()) for c, clip in _drawn(split, name))
        for name in split.draws
    }
    smaller = dataclasses.replace(
        split,
        name=f"{split.name}-minus-{len(reasons)}",
        version=1,
        subsets=subsets,
        description=_description(split, reasons, sorted(emptied), draws),
        class_ids={c: i for c, i in split.class_ids.items() if c not in emptied},
        draws={name: value for name, value in split.draws.items() if draws[name]},
        path=None,
    )
    lost = tuple(name for name, whole in draws.items() if not whole)
    return Removal(smaller, reasons, tuple(sorted(emptied)), lost)


def _no_clip_left(split: Split, names: Sequence[str]) -> SplitError:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    shown = ", ".join(map(repr, names[:_NAMED])) + more
    return SplitError(
        f"split {split.name!r}: no clip would be left of {shown}; "
        "get their clips, or leave the classes out with --drop-classes"
    )


def write_smaller(removal: Removal, origin: Split, path: Path) -> None:
    """Write a smaller split, with the names of the clips left out as comments at its top.

    Raises:
        SplitError: when the file is there, or cannot be written.
    """
    lines = [f"Left out of {origin.name} (digest {origin.digest}), and why:"]
    lines += [f"  {clip}: {reason}" for clip, reason in removal.clips.items()]
    text = "\n".join(line.replace("\n", " ") for line in lines)
    write_split(removal.split, path, comments=[f"{text}\n"], with_digest=True)


def check_target(path: Path) -> None:
    """Refuse a name that the smaller split cannot have, before anything is checked.

    Raises:
        SplitError: when the file is there, or its name is not that of a split file.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise SplitError(f"{path}: expected a name that ends in .yaml or .yml")
    if path.exists():
        raise SplitError(f"{path}: is already there; give another name")


def _emptied(split: Split, kept: Mapping[str, Mapping[str, Collection[Clip]]]) -> set[str]:
    """Classes without a clip in some subset; of train and test, both are then left out."""
    return {name for classes in kept.values() for name, clips in classes.items() if not clips}


def _reasons(
    check: ClipCheck, subsets: Mapping[str, Mapping[str, Collection[Clip]]]
) -> dict[str, str]:
    left = {clip.name for classes in subsets.values() for c in classes.values() for clip in c}
    reasons: dict[str, str] = {}
    for name in check.split.names():
        if name not in left:
            problem = check.bad.get(name)
            reasons[name] = problem.kind if problem else "its class is left out"
    return reasons


def _drawn(split: Split, name: str) -> set[tuple[str, Clip]]:
    """Classes and clips of a set of draws."""
    known = {clip.name: clip for clips in split.subsets["train"].values() for clip in clips}
    return {
        (c, known[clip])
        for draw in split.draws[name]
        for c, clips in draw.clips.items()
        for clip in clips
    }


def _description(
    split: Split, reasons: Mapping[str, str], emptied: Collection[str], draws: Mapping[str, bool]
) -> str:
    counts = []
    for subset, classes in split.subsets.items():
        for name, clips in classes.items():
            out = sum(clip.name in reasons for clip in clips)
            if out:
                counts.append(f"{name} {out} of {len(clips)} ({subset})")
    total = len(split.names())
    made = (
        f"{split.name} without {len(reasons)} of its {total} clips, which had problems: results "
        f"cannot be compared with those on all of it. Made from digest {split.digest}; left out "
        f"(names and reasons are at the top of the file): {'; '.join(counts)}."
    )
    if emptied:
        made += f" Classes left out: {', '.join(emptied)}."
    lost = [name for name, whole in draws.items() if not whole]
    if lost:
        made += f" Draws left out, since they had such clips: {', '.join(lost)}."
    return f"{made} {split.description}".strip()
