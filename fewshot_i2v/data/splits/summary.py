"""Summarizes a split and the episodes it can give: counts, without reading any video."""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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


def count_clips(split: Split) -> dict[str, Any]:
    """Count the classes and clips of a split, as plain data.

    Returns:
        `name`; `generated`: whether its clips are generated and not listed; `subsets` by name, with
        the numbers of classes and clips, and the clips of the smallest class (`least`), the middle
        one (`median`, the larger of two) and the largest (`most`); `draws`: name of published
        draws -> clips per class -> number of draws.
    """
    subsets = {}
    for subset in split.subsets:
        sizes = list(split.class_sizes(subset).values())
        subsets[subset] = {
            "classes": len(sizes),
            "clips": sum(sizes),
            "least": min(sizes),
            "median": statistics.median_high(sizes),
            "most": max(sizes),
        }
    draws = {
        name: dict(Counter(draw.shot for draw in published))
        for name, published in split.draws.items()
    }
    generated = split.generator is not None
    return {"name": split.name, "generated": generated, "subsets": subsets, "draws": draws}


def counts_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Format what `count_clips` counts as a Markdown table.

    A cell is "classes / clips (smallest-median-largest class)". Published draws come after the
    clips that they are taken from.
    """
    header = ["split", *_COLUMN_TITLES.values()]
    lines = [_table_line(header), _table_line(["---"] * len(header))]
    for row in rows:
        cells = {
            _COLUMN_OF_SUBSET[subset]: _format_counts(counts)
            for subset, counts in row["subsets"].items()
        }
        if row["draws"]:
            draws = (_format_draws(name, shots) for name, shots in row["draws"].items())
            cells["base"] += f"; {', '.join(draws)}"
        name = f"{row['name']} (generated)" if row["generated"] else row["name"]
        lines.append(_table_line([name, *(cells.get(key, "-") for key in _COLUMN_TITLES)]))
    return "\n".join(lines)


def _format_counts(counts: Mapping[str, int]) -> str:
    """Format as "31 / 4,280 (102-116-548)": classes / clips (smallest-median-largest class)."""
    least, median, most = (counts[key] for key in ("least", "median", "most"))
    sizes = f"{least} each" if least == most else f"{least}-{median}-{most}"
    return f"{counts['classes']} / {counts['clips']:,} ({sizes})"


def _format_draws(name: str, shots: Mapping[int, int]) -> str:
    """Format as "vificlip: K = 2, 4, 8, 16" or "a5: 10 x K = 5"."""
    terms = [f"{n} x K = {shot}" if n > 1 else str(shot) for shot, n in sorted(shots.items())]
    prefix = "" if max(shots.values()) > 1 else "K = "
    return f"{name}: {prefix}{', '.join(terms)}"


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


def episode_capacity(split: Split, subset: str, way: int, shot: int, query: int) -> dict[str, Any]:
    """Compute what episodes a subset can give for one setting, as plain data.

    In a split with train and test, episodes of "test" have support clips of train and query clips
    of test.

    Returns:
        `way`, `shot` and `query`; `disjoint`: most episodes that share no clip, None for "test",
        which has no such episodes; `classes`: the number of classes that have enough clips;
        `too_small`: name and clips of the others (of train and test: of the side that lacks them);
        `drawn`: whether episodes can be sampled: `way` classes or more, all with enough clips.

    Raises:
        UnknownNameError: for a subset that the split does not have.
        EpisodeError: when a number is below 1.
    """
    for key, value in (("way", way), ("shot", shot), ("query", query)):
        require_int(key, value, 1)
    sizes = split.class_sizes(subset)
    if subset != "test":
        disjoint = max_disjoint_episodes(list(sizes.values()), way, shot, query)
        too_small = {name: size for name, size in sizes.items() if size < shot + query}
    else:
        disjoint, support = None, split.class_sizes("train")
        too_small = {
            name: support[name] if support[name] < shot else size
            for name, size in sizes.items()
            if support[name] < shot or size < query
        }
    return {
        "way": way,
        "shot": shot,
        "query": query,
        "disjoint": disjoint,
        "classes": len(sizes) - len(too_small),
        "too_small": [{"name": name, "clips": clips} for name, clips in too_small.items()],
        "drawn": not too_small and len(sizes) >= way,
    }


def summarize_split(split: Split, settings: Iterable[tuple[int, int, int]] = ()) -> dict[str, Any]:
    """Summarize a split as plain data, without its videos.

    Each of `settings` is way, shot and query of episodes to count.

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
    sizes = split.class_sizes(subset)
    counts = list(sizes.values())
    return {
        "classes": len(counts),
        "clips": sum(counts),
        "clips_per_class": _min_median_max(counts),
        "groups": _summarize_groups(split, subset),
        "class_sizes": [
            {"name": name, "id": split.class_ids.get(name), "clips": size}
            for name, size in sizes.items()
        ],
        "episodes": [episode_capacity(split, subset, *setting) for setting in settings],
    }


def _min_median_max(counts: Sequence[int]) -> dict[str, float]:
    """Return the smallest, median and largest of some numbers."""
    return {"min": min(counts), "median": statistics.median(counts), "max": max(counts)}


def _summarize_groups(split: Split, subset: str) -> dict[str, Any] | None:
    groups = Counter(
        split.group_key(name, clip)
        for name, clips in split.subsets[subset].items()
        for clip in clips
    )
    n_without = groups.pop(None, 0)
    if not groups:
        return None
    return {
        "count": len(groups),
        "clips_per_group": _min_median_max(list(groups.values())),
        "clips_without": n_without,
    }
