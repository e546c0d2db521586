"""What a split holds, and what episodes it can give: counts, without looking at any video."""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median_high
from typing import Any

from fewshot_i2v.data.int_range import check_number
from fewshot_i2v.data.splits.split import Split

_COLUMNS = {"base": "base / train", "val": "val", "novel": "novel / test"}
_HOME = {"base": "base", "train": "base", "val": "val", "novel": "novel", "test": "novel"}


@dataclass(frozen=True)
class SubsetCounts:
    """What one subset holds.

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
        each = f"{self.least} each" if self.least == self.most else spread
        return f"{self.classes} / {self.clips:,} ({each})"


@dataclass(frozen=True)
class SplitCounts:
    """What one split holds.

    Attributes:
        name: of the split.
        generated: whether its clips are made and not listed.
        subsets: by name.
        draws: by the name of published draws, how many there are for each number of clips.
    """

    name: str
    generated: bool
    subsets: Mapping[str, SubsetCounts]
    draws: Mapping[str, Mapping[int, int]]

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)


def counts(split: Split) -> SplitCounts:
    """Counts classes and clips."""
    subsets = {}
    for subset, classes in split.subsets.items():
        sizes = [len(clips) for clips in classes.values()]
        subsets[subset] = SubsetCounts(
            len(sizes), sum(sizes), min(sizes), median_high(sizes), max(sizes)
        )
    draws: dict[str, dict[int, int]] = {}
    for name, chosen in split.draws.items():
        for draw in chosen:
            of_name = draws.setdefault(name, {})
            of_name[draw.shot] = of_name.get(draw.shot, 0) + 1
    return SplitCounts(split.name, split.generator is not None, subsets, draws)


def counts_table(rows: Iterable[SplitCounts]) -> str:
    """The counts as a Markdown table.

    A cell is "classes / clips (smallest-median-largest class)". Published draws stand behind the
    clips that they are taken from.
    """
    head = ["split", *_COLUMNS.values()]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in rows:
        cells = {_HOME[subset]: str(found) for subset, found in row.subsets.items()}
        if row.draws:
            cells["base"] += "; " + ", ".join(_draws(name, of) for name, of in row.draws.items())
        name = f"{row.name} (generated)" if row.generated else row.name
        lines.append(_line([name, *(cells.get(key, "-") for key in _COLUMNS)]))
    return "\n".join(lines)


def _draws(name: str, shots: Mapping[int, int]) -> str:
    """As in "vificlip: K = 2, 4, 8, 16" or "a5: 10 x K = 5"."""
    parts = [f"{n} x K = {shot}" if n > 1 else str(shot) for shot, n in sorted(shots.items())]
    return (
        f"{name}: {', '.join(parts)}"
        if max(shots.values()) > 1
        else (f"{name}: K = {', '.join(parts)}")
    )


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def disjoint_count(sizes: Sequence[int], way: int, shot: int, query: int) -> int:
    """The largest number of episodes that share no clip.

    A class of n clips can be in m = floor(n / (shot + query)) episodes, and in each at most once,
    so T episodes are possible exactly where sum(min(m, T)) >= way * T (Gale, Ryser, 1957).

    Args:
        sizes: clips of each class.
        way: classes of an episode, at least 1.
        shot: support clips of each class, at least 1.
        query: query clips of each class, at least 1.
    """
    slots = [size // (shot + query) for size in sizes]
    low, high = 0, sum(slots) // way
    while low < high:
        middle = (low + high + 1) // 2
        enough = sum(min(m, middle) for m in slots) >= way * middle
        low, high = (middle, high) if enough else (low, middle - 1)
    return low


SETTINGS = ((1, 1), (1, 5), (5, 1), (5, 5), (5, 15))
"""Shot and query counts that papers use."""


@dataclass(frozen=True)
class Possible:
    """What a subset can give for one setting.

    Attributes:
        way: classes of an episode.
        shot: support clips of each class.
        query: query clips of each class.
        disjoint: most episodes that share no clip; None for "test", which has no such episodes.
        classes: classes that have enough clips.
        too_small: the others, with their clips (of a train and test pair: of the side that lacks).
    """

    way: int
    shot: int
    query: int
    disjoint: int | None
    classes: int
    too_small: tuple[tuple[str, int], ...]

    @property
    def drawn(self) -> bool:
        """Whether episodes can be drawn: every class has enough clips, and there are `way`."""
        return not self.too_small and self.classes >= self.way


def possible(split: Split, subset: str, way: int, shot: int, query: int) -> Possible:
    """What a subset can give for one setting.

    In a split with train and test, episodes of "test" have support clips of train and query clips
    of test.

    Raises:
        UnknownNameError: for a subset that the split does not have.
        EpisodeError: when a number is below 1.
    """
    for key, value in (("way", way), ("shot", shot), ("query", query)):
        check_number(key, value, 1)
    sizes = class_sizes(split, subset)
    if subset != "test":
        disjoint = disjoint_count(list(sizes.values()), way, shot, query)
        small = [(name, size) for name, size in sizes.items() if size < shot + query]
    else:
        disjoint, support = None, class_sizes(split, "train")
        lacks = {name: support[name] for name in sizes if support[name] < shot}
        lacks |= {name: size for name, size in sizes.items() if size < query and name not in lacks}
        small = [(name, lacks[name]) for name in sizes if name in lacks]
    return Possible(way, shot, query, disjoint, len(sizes) - len(small), tuple(small))


def class_sizes(split: Split, subset: str) -> dict[str, int]:
    """Clips of each class of a subset.

    Raises:
        UnknownNameError: for a subset that the split does not have.
    """
    return {name: len(split.clips(subset, name)) for name in split.classes(subset)}


def summary(split: Split, settings: Iterable[tuple[int, int, int]] = ()) -> dict[str, Any]:
    """All that can be said of a split without its videos, as plain data.

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
        "subsets": {name: _subset(split, name, settings) for name in split.subsets},
        "draws": {name: [draw.shot for draw in draws] for name, draws in split.draws.items()},
    }


def _subset(split: Split, subset: str, settings: Sequence[tuple[int, int, int]]) -> dict[str, Any]:
    sizes = class_sizes(split, subset)
    counts = list(sizes.values())
    return {
        "classes": len(counts),
        "clips": sum(counts),
        "clips_per_class": spread(counts),
        "groups": _groups(split, subset),
        "class_sizes": [
            {"name": name, "id": split.class_ids.get(name), "clips": size}
            for name, size in sizes.items()
        ],
        "episodes": [_plain(possible(split, subset, *setting)) for setting in settings],
    }


def _plain(setting: Possible) -> dict[str, Any]:
    small = [{"name": name, "clips": clips} for name, clips in setting.too_small]
    return {**dataclasses.asdict(setting), "too_small": small, "drawn": setting.drawn}


def spread(counts: Sequence[int]) -> dict[str, float]:
    """Smallest, median and largest of some numbers."""
    return {"min": min(counts), "median": statistics.median(counts), "max": max(counts)}


def _groups(split: Split, subset: str) -> dict[str, Any] | None:
    """Counts of groups; equal names in two classes are two groups, unless the scope is global."""
    groups: Counter[tuple[str, ...]] = Counter()
    without = 0
    for name in split.classes(subset):
        for clip in split.clips(subset, name):
            if clip.group is None:
                without += 1
            else:
                groups[(clip.group,) if split.group_scope == "global" else (name, clip.group)] += 1
    if not groups:
        return None
    return {
        "count": len(groups),
        "clips_per_group": spread(list(groups.values())),
        "clips_without": without,
    }
