"""Options of `evaluate` that fit a split."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fewshot_i2v.data.splits.split import Split

_DEFAULT_QUERY, _DEFAULT_WAY = 5, 5  # defaults of an evaluation, with one shot
_ALL_WAY_SHOTS = (1, 2, 4, 8, 16)


def evaluate_options(split: Split) -> tuple[list[str] | None, str | None]:
    """Options to evaluate the split as it is, or why it cannot be evaluated."""
    if {"train", "test"} <= split.subsets.keys():
        support = min(len(split.clips("train", name)) for name in split.classes("train"))
        shot = str(max(allowed_shot for allowed_shot in _ALL_WAY_SHOTS if allowed_shot <= support))
        ways = ["--subset", "test", "--way", "all", "--query", "all"]
        return [*ways, "--shot", shot, "--episodes", "5"], None
    subset = next(
        name for name in ("novel", "val", "base", *split.subsets) if name in split.subsets
    )
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
