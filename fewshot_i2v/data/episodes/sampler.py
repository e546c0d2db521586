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

from collections.abc import Sequence

import numpy as np

from fewshot_i2v.data.episodes.clip_pool import ClipPool, check_class_sizes, published_draws
from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.data.episodes.groups import GroupPartitioner
from fewshot_i2v.data.hash_ranks import argsort_ranks, hash64, hash_ids, splitmix64
from fewshot_i2v.data.int_range import IntOrRange, parse_range, require_int
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.errors import EpisodeError


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
        check_class_sizes(split, subset, self._way_range, self._shot_range, self._query_range)
        self._query_pool = ClipPool(split, subset)
        self._support_pool = ClipPool(split, "train") if subset == "test" else self._query_pool
        self._class_ids = hash_ids([("class", name) for name in self._classes])
        self._draws = published_draws(split, subset, draws, self._shot_range)
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
