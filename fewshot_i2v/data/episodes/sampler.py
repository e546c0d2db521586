"""Samples episodes: the classes and clips of episode number i of a split.

An episode is a pure function of the split's digest, the subset, a seed, its number, way, shot and
query. There is no random generator with a state: every class and clip has a 64-bit rank in every
episode (see `splitmix64`), and the lowest ranks are taken; equal ones are ordered by name. So

- episode 7 is the same with or without episodes 0 to 6, in any process and on any machine;
- the queries are the same for every shot count (unless `query` is "all"), and the support clips
  of K shots are the first of those of K + 1 shots: a curve over shots differs by its shots only;
- the order of classes and clips in the split file does not matter.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.data.episodes.groups import GroupPartitioner
from fewshot_i2v.data.hash_ranks import HashRanks, argsort_ranks, hash64, hash_ids, splitmix64
from fewshot_i2v.data.int_range import IntOrRange, IntRange, parse_range, require_int
from fewshot_i2v.data.splits.split import Draw, Split
from fewshot_i2v.errors import EpisodeError, UnknownNameError
from fewshot_i2v.utils.text_table import count_text


class _ClipPool:
    """The clips of one subset, with the ids that their ranks are made of."""

    def __init__(self, split: Split, subset: str) -> None:
        classes = split.subsets[subset]
        self._clip_names = [tuple(clip.name for clip in clips) for clips in classes.values()]
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


@dataclass(frozen=True)
class SettingNames:
    """What errors call the settings of episodes.

    Attributes:
        section: of the configuration that they are keys of, such as "validation"; empty: none.
        classes: what the classes are called; empty: the subset of the split.
    """

    section: str = ""
    classes: str = ""

    def key(self, name: str) -> str:
        """Return the full key of a setting, such as "validation.way"."""
        return f"{self.section}.{name}" if self.section else name

    def flag(self, name: str) -> str:
        """Return what stands before its number on the command line."""
        return f"--set {self.key(name)}=" if self.section else f"--{name} "

    def classes_of(self, split: Split, subset: str) -> str:
        """Return what the classes of a subset are called."""
        return f"{self.classes or repr(subset)} of split {split.name!r}"


class EpisodeSampler:
    """Samples the episodes of a split: `sampler[i]` is episode i, for any i from 0.

    Checks once whether the subset can give such episodes. In a split with the subsets train and
    test, episodes of "test" have support clips of train and query clips of test.

    Args:
        split: the split.
        seed: 0 or more; different seeds give unrelated episodes.
        way: classes of an episode; a text such as "5-10": each episode has its own number; "all".
        shot: support clips of each class; a text such as "1-5": each episode has its own number.
        query: query clips of each class; "all": all that are not support clips.
        subset: "base", "val", "novel", "train" or "test".
        disjoint_groups: no support clip has the group of a query clip of the episode. Groups in
            the order of their ranks go to the query side until every class has enough query clips
            there; the support comes from the remaining groups.
        uneven_shots: if `shot` is a range, each class of an episode has its own number.
        draws: name of published draws of the split: episode i has the support clips of draw i
            among those of `shot` clips per class.
        messages: what errors call the settings and the classes; None: way, shot, query, `subset`.

    Attributes:
        count: number of episodes; None: unlimited.

    Raises:
        EpisodeError: when a number is below 1 (seed: 0), or the subset has too few classes, clips
            or groups, naming every class that is too small; or when options exclude each other.
        UnknownNameError: for a subset or draws that the split does not have.
    """

    def __init__(
        self,
        split: Split,
        *,
        seed: int,
        way: IntOrRange,
        shot: IntOrRange,
        query: IntOrRange,
        subset: str = "novel",
        disjoint_groups: bool = False,
        uneven_shots: bool = False,
        draws: str | None = None,
        messages: SettingNames | None = None,
    ) -> None:
        require_int("seed", seed, 0)
        self.way, self.shot, self.query = way, shot, query
        self._classes = split.classes(subset)
        self._way_range = parse_range("way", way, all_value=len(self._classes))
        self._shot_range = parse_range("shot", shot)
        self._query_range = None if query == "all" else parse_range("query", query)
        if self._query_range is not None and not self._query_range.is_single:
            raise EpisodeError(f"query: got {query!r}; expected a whole number from 1, or all")
        self._uneven_shots = uneven_shots
        ranges = self._way_range, self._shot_range, self._query_range
        _check_class_sizes(split, subset, *ranges, messages or SettingNames())
        self._query_pool = _ClipPool(split, subset)
        self._support_pool = _ClipPool(split, "train") if subset == "test" else self._query_pool
        self._class_ids = hash_ids([("class", name) for name in self._classes])
        self._draws = _published_draws(split, subset, draws, self._shot_range)
        self.count = None if self._draws is None else len(self._draws)
        self._group_partitioner = None
        if disjoint_groups:
            self._group_partitioner = self._make_group_partitioner(split, subset)
            self._group_ids = hash_ids(self._group_partitioner.group_keys)
        self._key_prefix = f"{split.digest}/{subset}/{seed}/"

    @property
    def max_shape(self) -> tuple[int, int, int]:
        """Largest number of classes, support clips and query clips of an episode."""
        way = self._way_range.high
        if self._query_range is not None:
            query = way * self._query_range.low
        else:
            # the largest classes; where support clips are of the same, at least one is not asked
            n_reserved = 0 if self._support_pool is not self._query_pool else self._shot_range.low
            query = sum(sorted(self._query_pool.class_sizes, reverse=True)[:way]) - way * n_reserved
        return way, way * self._shot_range.high, query

    def _make_group_partitioner(self, split: Split, subset: str) -> GroupPartitioner:
        if (
            self._query_range is None
            or not self._shot_range.is_single
            or self._support_pool is not self._query_pool
        ):
            raise EpisodeError(
                "disjoint_groups: expected fixed numbers of support and query clips from one "
                f"subset; got shot {self.shot!r}, query {self.query!r}, subset {subset!r}"
            )
        return GroupPartitioner(split, subset, self._query_range.low, self._shot_range.low)

    def __getitem__(self, index: int) -> Episode:
        """Return episode `index`.

        Raises:
            EpisodeError: when `index` is below 0 or there are no more episodes, or with
                `disjoint_groups` when the groups leave a class of this episode too few support
                clips.
        """
        require_int("index", index, 0)
        if self.count is not None and index >= self.count:
            raise EpisodeError(f"episode {index}: there are {self.count}, from 0")
        key = hash64(f"{self._key_prefix}{index}")
        class_indices = argsort_ranks(
            splitmix64(self._class_ids ^ key), self._way_range.value_for(key, "way")
        )
        if self._group_partitioner is None:
            clip_names = self._sample_clips(index, class_indices, key)
        else:
            clip_names = self._divide_groups(self._group_partitioner, index, class_indices, key)
        return Episode(
            index=index,
            classes=tuple(self._classes[c] for c in class_indices),
            support=tuple(support for support, _ in clip_names),
            query=tuple(query for _, query in clip_names),
        )

    def _divide_groups(
        self,
        partitioner: GroupPartitioner,
        index: int,
        class_indices: Sequence[int],
        key: np.uint64,
    ) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        """Return support and query clips of the chosen classes, without a common group."""
        pool = self._query_pool
        group_ranks = splitmix64(self._group_ids ^ key).tolist()
        clip_orders = [argsort_ranks(row) for row in pool.clip_ranks(class_indices, key)]
        divided = partitioner.partition(index, class_indices, clip_orders, group_ranks)
        return [
            (pool.clip_names(c, support), pool.clip_names(c, query))
            for c, (query, support) in zip(class_indices, divided, strict=True)
        ]

    def _sample_clips(
        self, index: int, class_indices: Sequence[int], key: np.uint64
    ) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        """Return the support and query clips of the chosen classes."""
        shots = self._class_shots(class_indices, key)
        n_query = None if self._query_range is None else self._query_range.low
        rank_rows = self._query_pool.clip_ranks(class_indices, key)
        if self._support_pool is not self._query_pool:
            query_clips = [
                self._query_pool.clip_names(c, argsort_ranks(r, n_query))
                for c, r in zip(class_indices, rank_rows, strict=True)
            ]
            support_clips = self._support_clips(index, class_indices, shots, key)
            return list(zip(support_clips, query_clips, strict=True))
        clips = []
        for c, row, shot in zip(class_indices, rank_rows, shots, strict=True):
            order = argsort_ranks(row, None if n_query is None else n_query + shot)
            # with query "all", the support comes first and all others are queries
            start = 0 if n_query is None else n_query
            support = self._query_pool.clip_names(c, order[start : start + shot])
            query = self._query_pool.clip_names(c, order[:start] + order[start + shot :])
            clips.append((support, query))
        return clips

    def _support_clips(
        self, index: int, class_indices: Sequence[int], shots: Sequence[int], key: np.uint64
    ) -> list[tuple[str, ...]]:
        """Return support clips from the train subset, or from published draws."""
        if self._draws is not None:
            return [
                tuple(sorted(self._draws[index].clips[self._classes[c]])) for c in class_indices
            ]
        rank_rows = self._support_pool.clip_ranks(class_indices, key)
        return [
            self._support_pool.clip_names(c, argsort_ranks(row, shot))
            for c, row, shot in zip(class_indices, rank_rows, shots, strict=True)
        ]

    def _class_shots(self, class_indices: Sequence[int], key: np.uint64) -> list[int]:
        if self._uneven_shots:
            return [
                self._shot_range.value_for(key, f"shot/{self._classes[c]}") for c in class_indices
            ]
        return [self._shot_range.value_for(key, "shot")] * len(class_indices)


def _published_draws(
    split: Split, subset: str, name: str | None, shot: IntRange
) -> tuple[Draw, ...] | None:
    """Return the published draws with `shot` clips per class; None if `name` is None."""
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


def _check_class_sizes(
    split: Split,
    subset: str,
    way: IntRange,
    shot: IntRange,
    query: IntRange | None,
    messages: SettingNames,
) -> None:
    """Check that a subset has enough classes, and each class enough clips; EpisodeError."""
    available = len(split.classes(subset))
    larger_subsets = [s for s in split.subsets if s != subset and len(split.classes(s)) >= way.high]
    advice = f", or another subset ({', '.join(larger_subsets)})" if larger_subsets else ""
    if way.high > available:
        flag = f" ({messages.flag('way')}{available})" if available > 1 else ""
        raise EpisodeError(
            f"{messages.key('way')}: got {way.high}; expected at most {available}, the number of "
            f"classes of {messages.classes_of(split, subset)}{flag}{advice}"
        )
    n_query = 1 if query is None else query.high
    shots, queries = f"{messages.key('shot')} {shot.high}", f"{messages.key('query')} {n_query}"
    if subset == "test":
        _check_clip_counts(split, "train", shot.high, f"{shots} needs", "shot", messages)
        _check_clip_counts(split, "test", n_query, f"{queries} needs", "query", messages)
        return
    both, smaller = f"{shots} and {queries} need", f"shot or query{advice}"
    _check_clip_counts(split, subset, shot.high + n_query, both, smaller, messages)


def _check_clip_counts(
    split: Split, subset: str, min_clips: int, need: str, smaller: str, messages: SettingNames
) -> None:
    sizes = split.class_sizes(subset)
    small = [f"{name} has {size}" for name, size in sizes.items() if size < min_clips]
    if small:
        raise EpisodeError(
            f"{need} {count_text(min_clips, 'clip')} in every class; in "
            f"{messages.classes_of(split, subset)} {', '.join(small)}. Give a smaller {smaller}"
        )
