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
    retained = {
        subset: {
            c: [x for x in clips if x.name not in check.problem_by_clip]
            for c, clips in classes.items()
        }
        for subset, classes in split.subsets.items()
    }
    emptied = _emptied_classes(split, retained)
    if emptied and not drop_classes:
        raise _no_clip_error(split, sorted(emptied))
    subsets = {
        subset: {name: tuple(clips) for name, clips in classes.items() if name not in emptied}
        for subset, classes in retained.items()
    }
    for subset, remaining in subsets.items():
        if not remaining:
            raise SplitError(f"split {split.name!r}: no class would be left of {subset!r}")
    reasons = _removal_reasons(check, subsets)
    complete_draws = {
        name: all(clip in subsets["train"].get(c, ()) for c, clip in _drawn_clips(split, name))
        for name in split.draws
    }
    reduced = dataclasses.replace(
        split,
        name=f"{split.name}-minus-{len(reasons)}",
        version=1,
        subsets=subsets,
        description=_describe_removal(split, reasons, sorted(emptied), complete_draws),
        class_ids={c: i for c, i in split.class_ids.items() if c not in emptied},
        draws={name: value for name, value in split.draws.items() if complete_draws[name]},
        path=None,
    )
    removed_draws = tuple(name for name, complete in complete_draws.items() if not complete)
    return ReducedSplit(reduced, reasons, tuple(sorted(emptied)), removed_draws)


def _no_clip_error(split: Split, names: Sequence[str]) -> SplitError:
    more_note = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    name_list = ", ".join(map(repr, names[:_MAX_NAMED])) + more_note
    return SplitError(
        f"split {split.name!r}: no clip would be left of {name_list}; "
        "get their clips, or leave the classes out with --drop-classes"
    )


def write_reduced_split(reduced: ReducedSplit, original: Split, path: Path) -> None:
    """Write a reduced split, with the names of the removed clips as comments at its top.

    Raises:
        SplitError: when the file exists, or cannot be written.
    """
    lines = [f"Left out of {original.name} (digest {original.digest}), and why:"]
    lines += [f"  {clip}: {reason}" for clip, reason in reduced.removed_clips.items()]
    text = "\n".join(line.replace("\n", " ") for line in lines)
    write_split(reduced.split, path, comments=[f"{text}\n"], with_digest=True)


def check_output_path(path: Path) -> None:
    """Check the output path of a reduced split, before the clips are checked.

    Raises:
        SplitError: when the file exists, or its name is not that of a split file.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise SplitError(f"{path}: expected a name that ends in .yaml or .yml")
    if path.exists():
        raise SplitError(f"{path}: is already there; give another name")


def _emptied_classes(
    split: Split, retained: Mapping[str, Mapping[str, Collection[Clip]]]
) -> set[str]:
    """Return classes without a clip in some subset; of train and test, both are then removed."""
    return {name for classes in retained.values() for name, clips in classes.items() if not clips}


def _removal_reasons(
    check: ClipCheck, subsets: Mapping[str, Mapping[str, Collection[Clip]]]
) -> dict[str, str]:
    remaining = {clip.name for classes in subsets.values() for c in classes.values() for clip in c}
    reasons: dict[str, str] = {}
    for name in check.split.clip_names():
        if name not in remaining:
            problem = check.problem_by_clip.get(name)
            reasons[name] = problem.kind if problem else "its class is left out"
    return reasons


def _drawn_clips(split: Split, name: str) -> set[tuple[str, Clip]]:
    """Return the classes and clips of a set of draws."""
    clip_of_name = {clip.name: clip for clips in split.subsets["train"].values() for clip in clips}
    return {
        (c, clip_of_name[clip])
        for draw in split.draws[name]
        for c, clips in draw.clips.items()
        for clip in clips
    }


def _describe_removal(
    split: Split,
    reasons: Mapping[str, str],
    emptied: Collection[str],
    complete_draws: Mapping[str, bool],
) -> str:
    counts = []
    for subset, classes in split.subsets.items():
        for name, clips in classes.items():
            n_removed = sum(clip.name in reasons for clip in clips)
            if n_removed:
                counts.append(f"{name} {n_removed} of {len(clips)} ({subset})")
    total = len(split.clip_names())
    description = (
        f"{split.name} without {len(reasons)} of its {total} clips, which had problems: results "
        f"cannot be compared with those on all of it. Made from digest {split.digest}; left out "
        f"(names and reasons are at the top of the file): {'; '.join(counts)}."
    )
    if emptied:
        description += f" Classes left out: {', '.join(emptied)}."
    removed_draws = [name for name, complete in complete_draws.items() if not complete]
    if removed_draws:
        description += f" Draws left out, since they had such clips: {', '.join(removed_draws)}."
    return f"{description} {split.description}".strip()
