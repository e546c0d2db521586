"""Summarizes a split and the episodes it can give: counts, without reading any video."""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median_high
from typing import Any

from fewshot_i2v.data.int_range import require_int
from fewshot_i2v.data.splits.split import Split

_COLUMN_TITLES = {"base": "base / train", "val": "val", "novel": "novel / test"}
_COLUMN_OF_SUBSET = {
    "base": "base",
    "train": "base",
    "val": "val",
    "novel": "novel",
    "test": "novel",
}


@dataclass(frozen=True)
class SubsetCounts:
    """Counts of one subset.

    Attributes:
        classes: number of classes.
        clips: number of clips.
        least: clips of the smallest class.
        median: of the middle class; the larger of two middle ones.
        most: of the largest class.
    """

    classes: int
    clips: int
    least: int
    median: int
    most: int

    def __str__(self) -> str:
        """As in "31 / 4,280 (102-116-548)": classes / clips (smallest-median-largest class)."""
        spread = f"{self.least}-{self.median}-{self.most}"
        size_note = f"{self.least} each" if self.least == self.most else spread
        return f"{self.classes} / {self.clips:,} ({size_note})"


@dataclass(frozen=True)
class SplitCounts:
    """Counts of one split.

    Attributes:
        name: of the split.
        generated: whether its clips are generated and not listed.
        subsets: by name.
        draws: name of published draws -> clips per class -> number of draws.
    """

    name: str
    generated: bool
    subsets: Mapping[str, SubsetCounts]
    draws: Mapping[str, Mapping[int, int]]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain types, for JSON."""
        return asdict(self)


def count_clips(split: Split) -> SplitCounts:
    """Count the classes and clips of a split."""
    subsets = {}
    for subset, classes in split.subsets.items():
        sizes = [len(clips) for clips in classes.values()]
        subsets[subset] = SubsetCounts(
            len(sizes), sum(sizes), min(sizes), median_high(sizes), max(sizes)
        )
    draws: dict[str, dict[int, int]] = {}
    for name, published in split.draws.items():
        for draw in published:
            counts_by_shot = draws.setdefault(name, {})
            counts_by_shot[draw.shot] = counts_by_shot.get(draw.shot, 0) + 1
    return SplitCounts(split.name, split.generator is not None, subsets, draws)


def counts_table(rows: Iterable[SplitCounts]) -> str:
    """Format the counts as a Markdown table.

    A cell is "classes / clips (smallest-median-largest class)". Published draws come after the
    clips that they are taken from.
    """
    header = ["split", *_COLUMN_TITLES.values()]
    lines = [_table_line(header), _table_line(["---"] * len(header))]
    for row in rows:
        cells = {
            _COLUMN_OF_SUBSET[subset]: str(subset_counts)
            for subset, subset_counts in row.subsets.items()
        }
        if row.draws:
            cells["base"] += "; " + ", ".join(
                _format_draws(name, shot_counts) for name, shot_counts in row.draws.items()
            )
        name = f"{row.name} (generated)" if row.generated else row.name
        lines.append(_table_line([name, *(cells.get(key, "-") for key in _COLUMN_TITLES)]))
    return "\n".join(lines)


def _format_draws(name: str, shots: Mapping[int, int]) -> str:
    """Format as "vificlip: K = 2, 4, 8, 16" or "a5: 10 x K = 5"."""
    terms = [f"{n} x K = {shot}" if n > 1 else str(shot) for shot, n in sorted(shots.items())]
    return (
        f"{name}: {', '.join(terms)}"
        if max(shots.values()) > 1
        else (f"{name}: K = {', '.join(terms)}")
    )


def _table_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def max_disjoint_episodes(sizes: Sequence[int], way: int, shot: int, query: int) -> int:
    """Compute the largest number of episodes that share no clip.

    A class of n clips can be in m = floor(n / (shot + query)) episodes, and in each at most once,
    so T episodes are possible exactly if sum(min(m, T)) >= way * T (Gale, Ryser, 1957).

    Args:
        sizes: clips of each class.
        way: classes of an episode, at least 1.
        shot: support clips of each class, at least 1.
        query: query clips of each class, at least 1.
    """
    max_uses = [size // (shot + query) for size in sizes]
    low, high = 0, sum(max_uses) // way
    while low < high:
        candidate = (low + high + 1) // 2
        is_feasible = sum(min(limit, candidate) for limit in max_uses) >= way * candidate
        low, high = (candidate, high) if is_feasible else (low, candidate - 1)
    return low


COMMON_SETTINGS = ((1, 1), (1, 5), (5, 1), (5, 5), (5, 15))
"""Shot and query counts that papers use."""


@dataclass(frozen=True)
class EpisodeCapacity:
    """The episodes that a subset can give for one setting.

    Attributes:
        way: classes of an episode.
        shot: support clips of each class.
        query: query clips of each class.
        disjoint: most episodes that share no clip; None for "test", which has no such episodes.
        classes: number of classes that have enough clips.
        too_small: classes with too few clips, and their clips (of train and test: of the side
            that lacks them).
    """

    way: int
    shot: int
    query: int
    disjoint: int | None
    classes: int
    too_small: tuple[tuple[str, int], ...]

    @property
    def is_feasible(self) -> bool:
        """Whether episodes can be sampled: `way` classes or more, all with enough clips."""
        return not self.too_small and self.classes >= self.way


def episode_capacity(split: Split, subset: str, way: int, shot: int, query: int) -> EpisodeCapacity:
    """Compute what episodes a subset can give for one setting.

    In a split with train and test, episodes of "test" have support clips of train and query clips
    of test.

    Raises:
        UnknownNameError: for a subset that the split does not have.
        EpisodeError: when a number is below 1.
    """
    for key, value in (("way", way), ("shot", shot), ("query", query)):
        require_int(key, value, 1)
    sizes = class_sizes(split, subset)
    if subset != "test":
        disjoint = max_disjoint_episodes(list(sizes.values()), way, shot, query)
        too_small = [(name, size) for name, size in sizes.items() if size < shot + query]
    else:
        disjoint, support = None, class_sizes(split, "train")
        lacking = {name: support[name] for name in sizes if support[name] < shot}
        lacking |= {
            name: size for name, size in sizes.items() if size < query and name not in lacking
        }
        too_small = [(name, lacking[name]) for name in sizes if name in lacking]
    return EpisodeCapacity(
        way, shot, query, disjoint, len(sizes) - len(too_small), tuple(too_small)
    )


def class_sizes(split: Split, subset: str) -> dict[str, int]:
    """Return the number of clips of each class of a subset.

    Raises:
        UnknownNameError: for a subset that the split does not have.
    """
    return {name: len(split.clips(subset, name)) for name in split.classes(subset)}


def summarize_split(split: Split, settings: Iterable[tuple[int, int, int]] = ()) -> dict[str, Any]:
    """Summarize a split as plain data, without its videos.

    Args:
        split: the split.
        settings: way, shot and query of episodes to count.

    Raises:
        EpisodeError: when one of the settings has a number below 1.
    """
    settings = list(settings)
    generator = None if split.generator is None else dataclasses.asdict(split.generator)
    return {
        "name": split.name,
        "version": split.version,
        "description": split.description,
        "source": split.source,
        "licence": split.licence,
        "defects": list(split.defects),
        "digest": split.digest,
        "find": split.find,
        "group": split.group_pattern,
        "group_scope": split.group_scope,
        "generator": generator,
        "subsets": {name: _summarize_subset(split, name, settings) for name in split.subsets},
        "draws": {name: [draw.shot for draw in draws] for name, draws in split.draws.items()},
    }


def _summarize_subset(
    split: Split, subset: str, settings: Sequence[tuple[int, int, int]]
) -> dict[str, Any]:
    sizes = class_sizes(split, subset)
    counts = list(sizes.values())
    return {
        "classes": len(counts),
        "clips": sum(counts),
        "clips_per_class": min_median_max(counts),
        "groups": _summarize_groups(split, subset),
        "class_sizes": [
            {"name": name, "id": split.class_ids.get(name), "clips": size}
            for name, size in sizes.items()
        ],
        "episodes": [
            _capacity_dict(episode_capacity(split, subset, *setting)) for setting in settings
        ],
    }


def _capacity_dict(capacity: EpisodeCapacity) -> dict[str, Any]:
    too_small = [{"name": name, "clips": clips} for name, clips in capacity.too_small]
    return {**dataclasses.asdict(capacity), "too_small": too_small, "drawn": capacity.is_feasible}


def min_median_max(counts: Sequence[int]) -> dict[str, float]:
    """Return the smallest, median and largest of some numbers."""
    return {"min": min(counts), "median": statistics.median(counts), "max": max(counts)}


def _summarize_groups(split: Split, subset: str) -> dict[str, Any] | None:
    """Count groups; equal names in two classes are two groups, unless the scope is global."""
    groups: Counter[tuple[str, ...]] = Counter()
    n_without = 0
    for name in split.classes(subset):
        for clip in split.clips(subset, name):
            if clip.group is None:
                n_without += 1
            else:
                groups[(clip.group,) if split.group_scope == "global" else (name, clip.group)] += 1
    if not groups:
        return None
    return {
        "count": len(groups),
        "clips_per_group": min_median_max(list(groups.values())),
        "clips_without": n_without,
    }
