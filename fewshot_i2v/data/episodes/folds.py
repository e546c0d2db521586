"""Folds of labelled clips: episodes in which held-out clips are the queries of all others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.data.hash_ranks import hash64
from fewshot_i2v.data.splits.split import Clip


@dataclass(frozen=True)
class FoldPlan:
    """Which clips are held out together.

    Attributes:
        folds: names of the clips of each fold; a clip is in at most one.
        untested: names of the clips that are never held out, because their class has no other
            clip that could stay.
        divided: classes whose clips are all of one group, which was divided.
    """

    folds: tuple[frozenset[str], ...]
    untested: tuple[str, ...]
    divided: tuple[str, ...] = ()


def plan_folds(
    clips: Mapping[str, Sequence[Clip]], *, folds: int | None, seed: int, across_classes: bool
) -> FoldPlan:
    """Divides labelled clips into folds.

    Clips of one group are never in two folds. A class keeps at least one clip in every fold: where
    its clips are of one group alone, that group is divided, and a single clip is never held out.

    Args:
        clips: of each class.
        folds: number of folds; None: one for each group, or clip without a group (leave one out).
        seed: of the order in which groups are dealt.
        across_classes: whether equal groups of two classes are one.
    """
    units: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for name, members in clips.items():
        has_groups = len({clip.group or clip.name for clip in members}) > 1
        for clip in members:
            if len(members) < 2:
                continue
            key: tuple[str, ...] = (name, clip.name)
            if clip.group is not None and has_groups:
                key = (clip.group,) if across_classes else (name, "", clip.group)
            units.setdefault(key, []).append((name, clip.name))
    ordered = sorted(units, key=lambda key: int(hash64(json.dumps([seed, *key]))))
    count = len(ordered) if folds is None else min(folds, len(ordered))
    dealt: list[set[str]] = [set() for _ in range(count)]
    held: list[dict[str, int]] = [{} for _ in range(count)]
    for key in ordered:
        classes = [name for name, _ in units[key]]
        loads = [sum(fold.get(name, 0) for name in classes) for fold in held]
        # to the fold with the fewest clips of these classes: every fold tests all classes alike
        fold = min(range(count), key=lambda f: (loads[f], len(dealt[f])))
        dealt[fold] |= {clip for _, clip in units[key]}
        for name in classes:
            held[fold][name] = held[fold].get(name, 0) + 1
    untested = [clips[name][0].name for name in clips if len(clips[name]) < 2]
    divided = [
        name
        for name, members in clips.items()
        if len(members) > 1 and len({clip.group or clip.name for clip in members}) == 1
    ]
    folds_of_names = tuple(frozenset(fold) for fold in dealt if fold)
    return FoldPlan(folds_of_names, tuple(untested), tuple(divided))


def fold_episodes(clips: Mapping[str, Sequence[Clip]], plan: FoldPlan) -> list[Episode]:
    """Returns the episode of each fold: held-out clips are queries, all others support clips.

    A class whose clips would all be held out keeps them, and has no query in that fold.
    """
    episodes: list[Episode] = []
    for held in plan.folds:
        support: list[tuple[str, ...]] = []
        query: list[tuple[str, ...]] = []
        for members in clips.values():
            names = [clip.name for clip in members]
            stays = [name for name in names if name not in held]
            support.append(tuple(stays or names))
            query.append(tuple(name for name in names if name in held) if stays else ())
        if any(query):
            episodes.append(Episode(len(episodes), tuple(clips), tuple(support), tuple(query)))
    return episodes
