"""The clips that episodes are drawn from, with what their ranks are made of."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from fewshot_i2v.data.hash_ranks import Ranks, ids_of, mix
from fewshot_i2v.data.int_range import Span
from fewshot_i2v.data.splits.split import Draw, Split
from fewshot_i2v.errors import EpisodeError, UnknownNameError


class Pool:
    """The clips of one subset.

    Args:
        split: the split.
        subset: its subset.
    """

    def __init__(self, split: Split, subset: str) -> None:
        classes = split.classes(subset)
        self._names = [tuple(clip.name for clip in split.clips(subset, name)) for name in classes]
        self._ids = [
            ids_of([("clip", name, clip) for clip in row])
            for name, row in zip(classes, self._names, strict=True)
        ]

    @property
    def sizes(self) -> list[int]:
        """Clips of each class."""
        return [len(row) for row in self._names]

    def ranks(self, chosen: Sequence[int], key: np.uint64) -> list[Ranks]:
        """Ranks of all clips of each chosen class; mixed in one go, which is faster."""
        ids = [self._ids[c] for c in chosen]
        ranks = mix(np.concatenate(ids) ^ key)
        ends = itertools.accumulate(len(row) for row in ids)
        return [ranks[end - len(row) : end] for row, end in zip(ids, ends, strict=True)]

    def pick(self, position: int, places: Iterable[int]) -> tuple[str, ...]:
        """Names of the clips of a class at some places."""
        names = self._names[position]
        return tuple(names[i] for i in places)


def published(split: Split, subset: str, name: str | None, shot: Span) -> tuple[Draw, ...] | None:
    """The published draws of that many clips of each class; None where none are asked for.

    Raises:
        UnknownNameError: when the split has no draws of that name.
        EpisodeError: when none of them has as many clips, or the subset takes no draws.
    """
    if name is None:
        return None
    if name not in split.draws:
        raise UnknownNameError("draws", name, split.draws, f"In split {split.name!r}.")
    if subset != "test":
        raise EpisodeError(f"draws: they are clips of train; got subset {subset!r}, expected test")
    found = tuple(d for d in split.draws[name] if shot.fixed and d.shot == shot.low)
    if not found:
        shots = sorted({draw.shot for draw in split.draws[name]})
        asked = shot.low if shot.fixed else f"{shot.low}-{shot.high}"
        raise EpisodeError(
            f"draws: {name!r} of split {split.name!r} has {', '.join(map(str, shots))} clips per "
            f"class; got shot {asked}"
        )
    return found


def check_sizes(split: Split, subset: str, way: Span, shot: Span, query: Span | None) -> None:
    """Whether a subset has enough classes, and each class enough clips.

    Raises:
        EpisodeError: naming all that is too small.
    """
    classes = split.classes(subset)
    where = f"{subset!r} of split {split.name!r}"
    others = [s for s in split.subsets if s != subset and len(split.classes(s)) >= way.high]
    other = f", or another subset ({', '.join(others)})" if others else ""
    if way.high > len(classes):
        have = f"{where} has {len(classes)} classes"
        raise EpisodeError(f"{way.high}-way: {have}; expected at most that many ways{other}")
    asked = 1 if query is None else query.high
    if subset == "test":
        _check_clips(split, "train", "shot", shot.high, "")
        _check_clips(split, "test", "query", asked, "")
    else:
        _check_clips(split, subset, "shot + query", shot.high + asked, other)


def _check_clips(split: Split, subset: str, what: str, need: int, other: str) -> None:
    sizes = ((name, len(split.clips(subset, name))) for name in split.classes(subset))
    small = [f"{name} has {have}" for name, have in sizes if have < need]
    if small:
        raise EpisodeError(
            f"{what} needs {need} clips in every class; in {subset!r} of split {split.name!r} "
            f"{', '.join(small)}. Give a smaller {what.replace(' + ', ' or ')}{other}"
        )
