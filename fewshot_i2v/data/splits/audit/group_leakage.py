"""Clips of one recording on both sides: in episodes, in two subsets, in two classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations, permutations
from math import comb
from statistics import fmean

from fewshot_i2v.data.splits.audit.finding import Finding
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.errors import EpisodeError

SHOTS = (1, 5)
"""Numbers of support clips that chances are given for."""


def same_group_chance(groups: Sequence[str | None], shot: int) -> float:
    """How likely a query clip has the group of one of the support clips of its class.

    Query and `shot` support clips are drawn from the n clips of a class without replacement. A
    query of a group of m clips has none of the others beside it with C(n - m, shot) /
    C(n - 1, shot), and it is of that group with m / n.

    Args:
        groups: of each clip of the class; None is a group of its own.
        shot: support clips, at least 1 and fewer than the clips.

    Returns:
        The probability, from 0 to 1. The figure for a subset is its mean over the classes, since
        episodes draw all classes equally often.

    Raises:
        EpisodeError: when the class does not have a query beside so many support clips.
    """
    n = len(groups)
    if not 1 <= shot < n:
        raise EpisodeError(f"shot: got {shot}; expected 1 to {n - 1} of a class of {n} clips")
    sizes = [m for group, m in Counter(groups).items() if group is not None]
    return sum(m / n * (1 - comb(n - m, shot) / comb(n - 1, shot)) for m in sizes)


def same_groups(split: Split, subset: str) -> Iterator[Finding]:
    """Chances that query and support clips of one class are from one group."""
    classes = {
        name: [clip.group for clip in split.clips(subset, name)] for name in split.classes(subset)
    }
    if subset == "test" or not any(group for row in classes.values() for group in row):
        return
    chances: dict[int, dict[str, float]] = {}
    for shot in SHOTS:
        usable = {name: row for name, row in classes.items() if len(row) > shot}
        if usable:
            chances[shot] = {n: same_group_chance(row, shot) for n, row in usable.items()}
    if not chances or not max(max(of.values()) for of in chances.values()):
        return
    said = [f"{_percent(fmean(of.values()))} ({shot}-shot)" for shot, of in chances.items()]
    worst, chance = max(chances[min(chances)].items(), key=lambda pair: pair[1])
    text = (
        f"{subset}: a query clip is from the same group as a support clip of its class with a "
        f"probability of {' and '.join(said)}, up to {_percent(chance)} in {worst}; "
        "--disjoint-groups prevents it"
    )
    facts = {
        "subset": subset,
        "mean": {shot: fmean(of.values()) for shot, of in chances.items()},
        "worst": {"class": worst, "chance": chance},
    }
    yield Finding("same group", True, text, facts)


def crossing(split: Split) -> Iterator[Finding]:
    """Groups whose name is in two subsets."""
    for one, other in combinations(split.subsets, 2):
        by_class = one == "train" and split.group_scope == "class"
        mine, yours = (_groups(split, subset, by_class=by_class) for subset in (other, one))
        common = mine.keys() & yours.keys()
        if not common or (one != "train" and _names_say_little(split, one, other)):
            continue
        clips = sum(mine[group] for group in common)
        whose = f"{one} clips of their class" if by_class else f"{one} clips"
        text = (
            f"{clips:,} of {mine.total():,} {other} clips are from a group that {whose} are "
            f"from too ({len(common)} of {len(mine)} groups): "
        )
        same = "the same people and places"
        text += same if one == "train" else f"other labels, {same}"
        facts = {"from": one, "to": other, "clips": clips, "of_clips": mine.total(),
                 "groups": len(common), "of_groups": len(mine)}  # fmt: skip
        yield Finding("group crosses", one == "train", text, facts)


def _groups(split: Split, subset: str, *, by_class: bool) -> Counter[tuple[str, str]]:
    """How many clips each group has; with `by_class`, groups of two classes are two."""
    return Counter(
        (name if by_class else "", clip.group)
        for name in split.classes(subset)
        for clip in split.clips(subset, name)
        if clip.group
    )


def _names_say_little(split: Split, one: str, other: str) -> bool:
    """Whether classes number their groups alike (g01, g02, ...): equal names then say nothing."""
    if split.group_scope == "global":
        return False
    rows = [
        frozenset(clip.group for clip in split.clips(subset, name))
        for subset in (one, other)
        for name in split.classes(subset)
    ]
    return len(set(rows)) < len(rows) / 2


def scenes(split: Split, subset: str) -> Iterator[Finding]:
    """Clips of other classes from one group, where groups reach across classes."""
    if split.group_scope != "global":
        return
    counts = [
        Counter(clip.group for clip in split.clips(subset, name) if clip.group)
        for name in split.classes(subset)
    ]
    alike = sum(_pairs(a, b) for a, b in combinations(counts, 2))
    if not alike:
        return
    chance = fmean(
        _pairs(a, b) / (a.total() * b.total()) for a, b in permutations(counts, 2) if a and b
    )
    text = (
        f"{subset}: {alike:,} pairs of clips of different classes are from the same group. A query "
        f"clip shares its group with a clip of a given other class with a probability of "
        f"{_percent(chance)}: what looks most alike is then another class"
    )
    yield Finding("same scene", False, text, {"subset": subset, "pairs": alike, "chance": chance})


def _pairs(a: Counter[str], b: Counter[str]) -> int:
    """Pairs of a clip of one class and a clip of another that have one group."""
    return sum(a[group] * b[group] for group in a.keys() & b.keys())


def _percent(chance: float) -> str:
    return f"{100 * chance:.1f} %"
