"""Disjoint episodes: no clip is used twice, so the spread over episodes is that over clips.

Episodes that share clips measure how well the sampler's mean over these clips is known; disjoint
episodes measure what to expect of new clips of the same kind (Lafargue et al., "Oops, I Sampled
it Again", TMLR 2024, https://arxiv.org/abs/2409.02850). Their number is bounded: a class of n
clips serves floor(n / (shot + query)) episodes.
"""

from __future__ import annotations

from functools import cache
from typing import ClassVar

import numpy as np

from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.data.episodes.sampler import EpisodeSampler
from fewshot_i2v.data.hash_ranks import argsort_ranks, hash64, splitmix64
from fewshot_i2v.data.int_range import IntOrRange, parse_range, require_int
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.data.splits.summary import max_disjoint_episodes
from fewshot_i2v.errors import EpisodeError


class DisjointSampler(EpisodeSampler):
    """Samples as many episodes without a common clip as the clips of a subset allow.

    They come in partitions of the clips: `sampler[i]` for i from 0 up to the number of episodes of
    one partition share no clip, the next as many are another partition, and so on. Within one, all
    classes are in equally many episodes, as far as they have the clips. Arguments are those of
    `EpisodeSampler`, with one number each and any subset but test; `partitions` is at least 1.

    Attributes:
        episodes_per_partition: episodes of one partition.
        count: number of episodes.

    Raises:
        EpisodeError: as `EpisodeSampler`.
        UnknownNameError: for a subset that the split does not have.
    """

    citation: ClassVar[str] = r"""
    @article{lafargue2024oops,
      author = {Lafargue, Raphael and Smith, Luke A. and Vermet, Franck and L{\"o}we, Matthias and
        Reid, Ian and Valmadre, Jack and Gripon, Vincent},
      title = {Oops, I Sampled it Again: Reinterpreting Confidence Intervals in Few-Shot Learning},
      journal = {Transactions on Machine Learning Research},
      year = {2024},
      url = {https://arxiv.org/abs/2409.02850},
    }
    """
    """BibTeX entry of the publication that samples like this."""

    count: int

    def __init__(
        self,
        split: Split,
        *,
        seed: int,
        way: IntOrRange,
        shot: IntOrRange,
        query: IntOrRange,
        subset: str = "novel",
        partitions: int = 1,
    ) -> None:
        require_int("seed", seed, 0)
        require_int("partitions", partitions, 1)
        n_classes = len(split.classes(subset))
        if query == "all":
            raise EpisodeError("query: disjoint episodes are all alike; expected one number")
        int_ranges = {
            "way": parse_range("way", way, all_value=n_classes),
            "shot": parse_range("shot", shot),
            "query": parse_range("query", query),
        }
        for name, int_range in int_ranges.items():
            if not int_range.is_single:
                raise EpisodeError(f"{name}: disjoint episodes are all alike; expected one number")
        if subset == "test":
            raise EpisodeError("disjoint: expected one subset for support and query; got 'test'")
        super().__init__(split, seed=seed, way=way, shot=shot, query=query, subset=subset)
        self._way, self._shot, self._query = (r.low for r in int_ranges.values())
        sizes = self._query_pool.class_sizes
        self.episodes_per_partition = max_disjoint_episodes(
            sizes, self._way, self._shot, self._query
        )
        self.count = self.episodes_per_partition * partitions
        self._max_uses = [size // (self._shot + self._query) for size in sizes]
        self._key_prefix += f"disjoint/{way}/{shot}/{query}/"
        self._cached_partition = cache(self._sample_partition)

    def __getitem__(self, index: int) -> Episode:
        """Return episode `index`.

        Raises:
            EpisodeError: when `index` is below 0, or there are no more episodes.
        """
        require_int("index", index, 0)
        if index >= self.count:
            raise EpisodeError(
                f"episode {index}: there are {self.count} disjoint ones, from 0; a smaller shot or "
                "query, or more partitions, give more"
            )
        episodes, orders = self._cached_partition(index // self.episodes_per_partition)
        class_uses = episodes[index % self.episodes_per_partition]
        clips = [
            orders[c][use_index * (self._shot + self._query) :][: self._shot + self._query]
            for c, use_index in class_uses
        ]
        return Episode(
            index=index,
            classes=tuple(self._classes[c] for c, _ in class_uses),
            support=tuple(row[self._query :] for row in clips),
            query=tuple(row[: self._query] for row in clips),
        )

    def _sample_partition(
        self, partition_index: int
    ) -> tuple[list[list[tuple[int, int]]], list[tuple[str, ...]]]:
        """Return per episode its classes with their earlier uses; and per class its ordered clips.

        Each remaining use of a class has a rank in every episode, and the classes with the lowest
        ranks are taken: the more uses a class has left, the likelier it is taken. A class that must
        be in all remaining episodes of the partition is taken before the others.
        """
        key = hash64(f"{self._key_prefix}{partition_index}")
        all_classes = range(len(self._classes))
        rank_rows = self._query_pool.clip_ranks(all_classes, key)
        orders = [
            self._query_pool.clip_names(c, argsort_ranks(row))
            for c, row in zip(all_classes, rank_rows, strict=True)
        ]
        uses_left = np.array(self._class_uses(key))
        n_used = [0] * len(self._classes)
        episodes = []
        for i in range(self.episodes_per_partition):
            slot_classes = np.repeat(np.arange(len(uses_left)), uses_left)
            slot_ids = np.arange(len(slot_classes), dtype=np.uint64)
            ranks = splitmix64(
                splitmix64(slot_ids ^ hash64(f"{self._key_prefix}{partition_index}/{i}")) ^ key
            )
            forced = np.flatnonzero(uses_left == self.episodes_per_partition - i).tolist()
            order = dict.fromkeys([*forced, *slot_classes[ranks.argsort(kind="stable")].tolist()])
            class_indices = list(order)[: self._way]
            episodes.append([(c, n_used[c]) for c in class_indices])
            for c in class_indices:
                uses_left[c] -= 1
                n_used[c] += 1
        return episodes, orders

    def _class_uses(self, key: np.uint64) -> list[int]:
        """Return how many episodes of a partition each class is in: as equal as clips allow."""
        n_needed = self._way * self.episodes_per_partition
        max_use = next(
            n
            for n in range(self.episodes_per_partition + 1)
            if sum(min(limit, n) for limit in self._max_uses) >= n_needed
        )
        uses = [min(limit, max_use) for limit in self._max_uses]
        for c in argsort_ranks(splitmix64(self._class_ids ^ key)):
            if uses[c] == max_use and sum(uses) > n_needed:
                uses[c] -= 1
        return uses
