"""Disjoint episodes: no clip is used twice, so the spread over episodes is that over clips.

Episodes that share clips say how well the sampler's mean over these clips is known; episodes that
share none say what to expect of other clips of the same kind (Lafargue et al., "Oops, I Sampled it
Again", TMLR 2024, https://arxiv.org/abs/2409.02850). Their number is bounded: a class of n clips
serves floor(n / (shot + query)) episodes.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from fewshot_i2v.data.episodes.clip_pool import Pool, check_sizes
from fewshot_i2v.data.episodes.episode import EpisodeSpec
from fewshot_i2v.data.hash_ranks import ids_of, key_of, lowest, mix
from fewshot_i2v.data.int_range import Number, check_number, span_of
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.data.splits.summary import disjoint_count
from fewshot_i2v.errors import EpisodeError


class DisjointSampler:
    """As many episodes without a common clip as the clips of a subset allow.

    They come in partitions of the clips: `sampler[i]` for i from 0 up to the number of episodes of
    one partition share no clip, the next as many are another partition, and so on. Within one, all
    classes are in equally many episodes, as far as they have the clips.

    Args:
        split: the split.
        seed: 0 or more; other seeds give unrelated episodes.
        way: classes of an episode, or "all".
        shot: support clips of each class.
        query: query clips of each class.
        subset: "base", "val", "novel" or "train".
        partitions: how many, at least 1.

    Attributes:
        per_partition: episodes of one partition.
        count: how many episodes there are.
        largest: classes, support clips and query clips of an episode.

    Raises:
        EpisodeError: as `EpisodeSampler`.
        UnknownNameError: for a subset that the split does not have.
    """

    def __init__(
        self,
        split: Split,
        *,
        seed: int,
        way: Number,
        shot: Number,
        query: Number,
        subset: str = "novel",
        partitions: int = 1,
    ) -> None:
        check_number("seed", seed, 0)
        check_number("partitions", partitions, 1)
        self.way, self.shot, self.query = way, shot, query
        self._classes = split.classes(subset)
        if query == "all":
            raise EpisodeError("query: disjoint episodes are all alike; expected one number")
        spans = {
            "way": span_of("way", way, most=len(self._classes)),
            "shot": span_of("shot", shot),
            "query": span_of("query", query),
        }
        for name, span in spans.items():
            if not span.fixed:
                raise EpisodeError(f"{name}: disjoint episodes are all alike; expected one number")
        if subset == "test":
            raise EpisodeError("disjoint: expected one subset for support and query; got 'test'")
        check_sizes(split, subset, spans["way"], spans["shot"], spans["query"])
        self._way, self._shot, self._query = (spans[n].low for n in ("way", "shot", "query"))
        self._pool = Pool(split, subset)
        self._class_ids = ids_of([("class", name) for name in self._classes])
        sizes = [len(split.clips(subset, name)) for name in self._classes]
        self.per_partition = disjoint_count(sizes, self._way, self._shot, self._query)
        self.count = self.per_partition * partitions
        self._slots = [size // (self._shot + self._query) for size in sizes]
        self.largest = (self._way, self._way * self._shot, self._way * self._query)
        self._prefix = f"{split.digest}/{subset}/{seed}/disjoint/{way}/{shot}/{query}/"
        self._partition = cache(self._draw_partition)

    def __getitem__(self, index: int) -> EpisodeSpec:
        """Episode `index`.

        Raises:
            EpisodeError: when `index` is below 0, or there are no more episodes.
        """
        check_number("index", index, 0)
        if index >= self.count:
            raise EpisodeError(
                f"episode {index}: there are {self.count} disjoint ones, from 0; a smaller shot or "
                "query, or more partitions, give more"
            )
        episodes, orders = self._partition(index // self.per_partition)
        taken = episodes[index % self.per_partition]
        clips = [
            orders[c][use * (self._shot + self._query) :][: self._shot + self._query]
            for c, use in taken
        ]
        return EpisodeSpec(
            index=index,
            classes=tuple(self._classes[c] for c, _ in taken),
            support=tuple(row[self._query :] for row in clips),
            query=tuple(row[: self._query] for row in clips),
        )

    def _draw_partition(
        self, number: int
    ) -> tuple[list[list[tuple[int, int]]], list[tuple[str, ...]]]:
        """Classes of every episode, each with how often it was used before; clips in their order.

        Each open place of a class has a rank in every episode, and the classes with the lowest are
        taken: a class is the likelier the more places it has left. One that must be in all that is
        left of the partition is taken first.
        """
        key = key_of(f"{self._prefix}{number}")
        everything = range(len(self._classes))
        orders = [
            self._pool.pick(c, lowest(row))
            for c, row in zip(everything, self._pool.ranks(everything, key), strict=True)
        ]
        left = np.array(self._uses(key))
        used = [0] * len(self._classes)
        episodes = []
        for i in range(self.per_partition):
            owner = np.repeat(np.arange(len(left)), left)
            place = np.arange(len(owner), dtype=np.uint64)
            ranks = mix(mix(place ^ key_of(f"{self._prefix}{number}/{i}")) ^ key)
            forced = np.flatnonzero(left == self.per_partition - i).tolist()
            order = dict.fromkeys([*forced, *owner[ranks.argsort(kind="stable")].tolist()])
            taken = list(order)[: self._way]
            episodes.append([(c, used[c]) for c in taken])
            for c in taken:
                left[c] -= 1
                used[c] += 1
        return episodes, orders

    def _uses(self, key: np.uint64) -> list[int]:
        """In how many episodes of a partition each class is: as equal as its clips allow."""
        need = self._way * self.per_partition
        level = next(
            n for n in range(self.per_partition + 1) if sum(min(m, n) for m in self._slots) >= need
        )
        uses = [min(m, level) for m in self._slots]
        for c in lowest(mix(self._class_ids ^ key)):
            if uses[c] == level and sum(uses) > need:
                uses[c] -= 1
        return uses
