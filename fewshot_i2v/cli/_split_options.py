"""Options of `evaluate` that fit a split."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fewshot_i2v.data.splits.split import Split

_DEFAULT_QUERY, _DEFAULT_WAY = 5, 5  # defaults of an evaluation, with one shot
_ALL_WAY_SHOTS = (1, 2, 4, 8, 16)


def root_options(split: Split, root: Path | None) -> list[str]:
    """Options that say where the clips are: none where the split says it, or generates them."""
    if root is not None:
        return ["--root", str(root)]
    return [] if split.generator or split.root is not None else ["--root", "CLIPS"]


def evaluate_options(
    split: Split, *, without: Collection[str | None] = ()
) -> tuple[list[str] | None, str | None]:
    """Options to evaluate the split as it is, or why it cannot be evaluated.

    Subsets in `without` are not evaluated.
    """
    names = [name for name in split.subsets if name not in without]
    if {"train", "test"} <= set(names):
        support = min(len(split.clips("train", name)) for name in split.classes("train"))
        shot = str(max(allowed_shot for allowed_shot in _ALL_WAY_SHOTS if allowed_shot <= support))
        ways = ["--subset", "test", "--way", "all", "--query", "all"]
        return [*ways, "--shot", shot, "--episodes", "5"], None
    if not names:
        return None, f"split {split.name!r} has no other classes, to evaluate on"
    subset = next(name for name in ("novel", "val", "base", *names) if name in names)
    sizes = {name: len(split.clips(subset, name)) for name in split.classes(subset)}
    smallest = min(sizes, key=lambda name: sizes[name])
    if len(sizes) < 2:
        return None, f"{subset} has one class; episodes need two or more"
    if sizes[smallest] < 2:
        return (
            None,
            f"class {smallest!r} has one clip; episodes need one for support, one for query",
        )
    options = [] if subset == "novel" else ["--subset", subset]
    options += ["--way", str(len(sizes))] if len(sizes) < _DEFAULT_WAY else []
    options += ["--query", str(sizes[smallest] - 1)] if sizes[smallest] <= _DEFAULT_QUERY else []
    return options, None
