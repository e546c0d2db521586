"""The clips that episodes are sampled from, with the ids that their ranks are made of."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from fewshot_i2v.data.hash_ranks import HashRanks, hash_ids, splitmix64
from fewshot_i2v.data.int_range import IntRange
from fewshot_i2v.data.splits.split import Draw, Split
from fewshot_i2v.errors import EpisodeError, UnknownNameError


class ClipPool:
    """The clips of one subset.

    Args:
        split: the split.
        subset: its subset.
    """

    def __init__(self, split: Split, subset: str) -> None:
        classes = split.classes(subset)
        self._clip_names = [
            tuple(clip.name for clip in split.clips(subset, name)) for name in classes
        ]
        self._clip_ids = [
            hash_ids([("clip", name, clip) for clip in row])
            for name, row in zip(classes, self._clip_names, strict=True)
        ]

    @property
    def class_sizes(self) -> list[int]:
        """Number of clips of each class."""
        return [len(row) for row in self._clip_names]

    def clip_ranks(self, class_indices: Sequence[int], key: np.uint64) -> list[HashRanks]:
        """Return the ranks of all clips of some classes; hashed in one go, which is faster."""
        ids = [self._clip_ids[c] for c in class_indices]
        ranks = splitmix64(np.concatenate(ids) ^ key)
        ends = itertools.accumulate(len(row) for row in ids)
        return [ranks[end - len(row) : end] for row, end in zip(ids, ends, strict=True)]

    def clip_names(self, class_index: int, positions: Iterable[int]) -> tuple[str, ...]:
        """Return the names of a class's clips at some positions."""
        names = self._clip_names[class_index]
        return tuple(names[i] for i in positions)


def published_draws(
    split: Split, subset: str, name: str | None, shot: IntRange
) -> tuple[Draw, ...] | None:
    """Return the published draws with `shot` clips per class; None if `name` is None.

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
    matching = tuple(d for d in split.draws[name] if shot.is_single and d.shot == shot.low)
    if not matching:
        shots = sorted({draw.shot for draw in split.draws[name]})
        requested = shot.low if shot.is_single else f"{shot.low}-{shot.high}"
        raise EpisodeError(
            f"draws: {name!r} of split {split.name!r} has {', '.join(map(str, shots))} clips per "
            f"class; got shot {requested}"
        )
    return matching


def check_class_sizes(
    split: Split, subset: str, way: IntRange, shot: IntRange, query: IntRange | None
) -> None:
    """Check that a subset has enough classes, and each class enough clips.

    Raises:
        EpisodeError: naming all that is too small.
    """
    classes = split.classes(subset)
    location = f"{subset!r} of split {split.name!r}"
    larger_subsets = [s for s in split.subsets if s != subset and len(split.classes(s)) >= way.high]
    advice = f", or another subset ({', '.join(larger_subsets)})" if larger_subsets else ""
    if way.high > len(classes):
        available = f"{location} has {len(classes)} classes"
        raise EpisodeError(f"{way.high}-way: {available}; expected at most that many ways{advice}")
    n_query = 1 if query is None else query.high
    if subset == "test":
        _check_clip_counts(split, "train", "shot", shot.high, "")
        _check_clip_counts(split, "test", "query", n_query, "")
    else:
        _check_clip_counts(split, subset, "shot + query", shot.high + n_query, advice)


def _check_clip_counts(
    split: Split, subset: str, quantity: str, min_clips: int, advice: str
) -> None:
    sizes = ((name, len(split.clips(subset, name))) for name in split.classes(subset))
    small = [f"{name} has {n_clips}" for name, n_clips in sizes if n_clips < min_clips]
    if small:
        raise EpisodeError(
            f"{quantity} needs {min_clips} clips in every class; in {subset!r} of split "
            f"{split.name!r} {', '.join(small)}. Give a smaller "
            f"{quantity.replace(' + ', ' or ')}{advice}"
        )
