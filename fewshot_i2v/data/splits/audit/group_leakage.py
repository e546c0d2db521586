"""Finds groups that are shared: within episodes, across subsets and across classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations, permutations
from math import comb
from statistics import fmean

from fewshot_i2v.data.splits.audit import AuditFinding
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.errors import EpisodeError

_SHOTS = (1, 5)  # numbers of support clips that chances are stated for


def same_group_probability(groups: Sequence[str | None], shot: int) -> float:
    """Probability that a query clip and a support clip of its class have the same group.

    Query and `shot` support clips are drawn from the n clips of a class without replacement. A
    query clip is of a group of m clips with probability m / n, and then no support clip is of that
    group with probability C(n - m, shot) / C(n - 1, shot).

    Args:
        groups: the group of each clip of the class; None is a group of its own.
        shot: support clips, at least 1 and fewer than the clips.

    Returns:
        The probability, from 0 to 1. The value for a subset is its mean over the classes, since
        episodes sample all classes equally often.

    Raises:
        EpisodeError: when the class has no query clip beside `shot` support clips.
    """
    n_clips = len(groups)
    if not 1 <= shot < n_clips:
        raise EpisodeError(
            f"shot: got {shot}; expected 1 to {n_clips - 1} of a class of {n_clips} clips"
        )
    group_sizes = [size for group, size in Counter(groups).items() if group is not None]
    return sum(
        size / n_clips * (1 - comb(n_clips - size, shot) / comb(n_clips - 1, shot))
        for size in group_sizes
    )


def groups_within_episodes(split: Split, subset: str) -> Iterator[AuditFinding]:
    """Report how likely query and support clips of one class have the same group."""
    classes = {
        name: [clip.group for clip in clips] for name, clips in split.subsets[subset].items()
    }
    if subset == "test" or not any(map(any, classes.values())):
        return
    chances_by_shot = {
        shot: {
            name: same_group_probability(groups, shot)
            for name, groups in classes.items()
            if len(groups) > shot
        }
        for shot in _SHOTS
    }
    chances_by_shot = {shot: chances for shot, chances in chances_by_shot.items() if chances}
    if not any(any(chances.values()) for chances in chances_by_shot.values()):
        return
    means = {shot: fmean(chances.values()) for shot, chances in chances_by_shot.items()}
    mean_notes = [f"{_format_percent(mean)} ({shot}-shot)" for shot, mean in means.items()]
    worst_class, chance = max(
        chances_by_shot[min(chances_by_shot)].items(), key=lambda pair: pair[1]
    )
    text = (
        f"{subset}: a query clip is from the same group as a support clip of its class with a "
        f"probability of {' and '.join(mean_notes)}, up to {_format_percent(chance)} in "
        f"{worst_class}; --disjoint-groups prevents it"
    )
    worst = {"class": worst_class, "chance": chance}
    facts = {"subset": subset, "mean": means, "worst": worst}
    yield AuditFinding("same group", True, text, facts)


def groups_across_subsets(split: Split) -> Iterator[AuditFinding]:
    """Report groups whose name is in two subsets."""
    for first_subset, second_subset in combinations(split.subsets, 2):
        per_class = first_subset == "train" and split.group_scope == "class"
        second_groups, first_groups = (
            _count_groups(split, subset, per_class=per_class)
            for subset in (second_subset, first_subset)
        )
        common_groups = second_groups.keys() & first_groups.keys()
        if not common_groups or (
            first_subset != "train" and _has_generic_group_names(split, first_subset, second_subset)
        ):
            continue
        n_clips = sum(second_groups[group] for group in common_groups)
        source_clips = (
            f"{first_subset} clips of their class" if per_class else f"{first_subset} clips"
        )
        text = (
            f"{n_clips:,} of {second_groups.total():,} {second_subset} clips are from a group that "
            f"{source_clips} are from too ({len(common_groups)} of {len(second_groups)} groups): "
        )
        consequence = "the same people and places"
        text += consequence if first_subset == "train" else f"other labels, {consequence}"
        facts = {"from": first_subset, "to": second_subset, "clips": n_clips,
                 "of_clips": second_groups.total(), "groups": len(common_groups),
                 "of_groups": len(second_groups)}  # fmt: skip
        yield AuditFinding("group crosses", first_subset == "train", text, facts)


def _count_groups(split: Split, subset: str, *, per_class: bool) -> Counter[tuple[str, str]]:
    """Count the clips of each group; with `per_class`, equal names in two classes are two."""
    return Counter(
        (name if per_class else "", clip.group)
        for name, clips in split.subsets[subset].items()
        for clip in clips
        if clip.group
    )


def _has_generic_group_names(split: Split, first_subset: str, second_subset: str) -> bool:
    """Whether classes reuse group names (g01, g02, ...), so equal names mean nothing."""
    if split.group_scope == "global":
        return False
    group_sets = [
        frozenset(clip.group for clip in clips)
        for subset in (first_subset, second_subset)
        for clips in split.subsets[subset].values()
    ]
    return len(set(group_sets)) < len(group_sets) / 2


def groups_across_classes(split: Split, subset: str) -> Iterator[AuditFinding]:
    """Report clips of different classes with one group, where the group scope is global."""
    if split.group_scope != "global":
        return
    counts = [
        Counter(clip.group for clip in clips if clip.group)
        for clips in split.subsets[subset].values()
    ]
    n_pairs = sum(_same_group_pairs(a, b) for a, b in combinations(counts, 2))
    if not n_pairs:
        return
    chance = fmean(
        _same_group_pairs(a, b) / (a.total() * b.total())
        for a, b in permutations(counts, 2)
        if a and b
    )
    text = (
        f"{subset}: {n_pairs:,} pairs of clips of different classes are from the same group. A "
        "query clip shares its group with a clip of a given other class with a probability of "
        f"{_format_percent(chance)}: what looks most alike is then another class"
    )
    yield AuditFinding(
        "same scene", False, text, {"subset": subset, "pairs": n_pairs, "chance": chance}
    )


def _same_group_pairs(a: Counter[str], b: Counter[str]) -> int:
    """Count pairs of clips, one of each class, with the same group."""
    return sum(a[group] * b[group] for group in a.keys() & b.keys())


def _format_percent(chance: float) -> str:
    return f"{100 * chance:.1f} %"
