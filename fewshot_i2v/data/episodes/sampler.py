"""Episodes: which classes and clips make up episode number i of a split.

An episode is a pure function of the split's digest, the subset, a seed, its number, way, shot and
query. Nothing is drawn from a generator with a state: every class and clip has a 64-bit rank in
every episode (see `_ranks`), and the lowest ranks are taken; equal ones are ordered by name. So

- episode 7 is the same whether or not episodes 0 to 6 were asked for, in any process and on any
  machine;
- the queries are the same for every shot count (but where all others are asked), and the support
  clips of K shots are the first of those of K + 1 shots: a curve over shots differs by its shots
  alone;
- the order of classes and clips in the split file does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fewshot_i2v.data.episodes.clip_pool import Pool, check_sizes, published
from fewshot_i2v.data.episodes.episode import EpisodeSpec
from fewshot_i2v.data.episodes.groups import GroupTable
from fewshot_i2v.data.hash_ranks import ids_of, key_of, lowest, mix
from fewshot_i2v.data.int_range import Number, check_number, span_of
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.errors import EpisodeError

__all__ = ["EpisodeSampler", "EpisodeSpec", "episode"]


class EpisodeSampler:
    """The episodes of a split: `sampler[i]` is episode i, for any i from 0.

    Checks once whether the subset can give such episodes. In a split with the subsets train and
    test, episodes of "test" have support clips of train and query clips of test.

    Args:
        split: the split.
        seed: 0 or more; other seeds give unrelated episodes.
        way: classes of an episode; a text such as "5-10": each episode has its own number; "all".
        shot: support clips of each class; a text such as "1-5": each episode has its own number.
        query: query clips of each class; "all": all that are not support clips.
        subset: "base", "val", "novel", "train" or "test".
        disjoint_groups: no support clip shares a group with a query clip of the episode. Groups in
            the order of their ranks go to the query side until every class has enough query clips
            there; the support comes from the other groups.
        uneven_shots: where `shot` is a range, each class of an episode has its own number.
        draws: name of published draws of the split: episode i has the support clips of draw i
            among those of `shot` clips per class.

    Attributes:
        count: how many episodes there are; None: without end.

    Raises:
        EpisodeError: when a number is below 1 (seed: 0), or the subset has too few classes, clips
            or groups, naming every class that is too small; or when what is asked for does not go
            together.
        UnknownNameError: for a subset or draws that the split does not have.
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
        disjoint_groups: bool = False,
        uneven_shots: bool = False,
        draws: str | None = None,
    ) -> None:
        check_number("seed", seed, 0)
        self.way, self.shot, self.query = way, shot, query
        self._classes = split.classes(subset)
        self._way = span_of("way", way, most=len(self._classes))
        self._shot = span_of("shot", shot)
        self._query = None if query == "all" else span_of("query", query)
        if self._query is not None and not self._query.fixed:
            raise EpisodeError(f"query: got {query!r}; expected a whole number from 1, or all")
        self._uneven = uneven_shots
        check_sizes(split, subset, self._way, self._shot, self._query)
        self._asked = Pool(split, subset)
        self._given = Pool(split, "train") if subset == "test" else self._asked
        self._class_ids = ids_of([("class", name) for name in self._classes])
        self._draws = published(split, subset, draws, self._shot)
        self.count = None if self._draws is None else len(self._draws)
        self._groups = None
        if disjoint_groups:
            self._groups = self._group_table(split, subset)
        self._group_ids = ids_of(self._groups.keys) if self._groups else ids_of([])
        self._prefix = f"{split.digest}/{subset}/{seed}/"

    @property
    def largest(self) -> tuple[int, int, int]:
        """Most classes, support clips and query clips of an episode."""
        way = self._way.high
        if self._query is not None:
            query = way * self._query.low
        else:
            # the largest classes; where support clips are of the same, at least one is not asked
            spare = 0 if self._given is not self._asked else self._shot.low
            query = sum(sorted(self._asked.sizes, reverse=True)[:way]) - way * spare
        return way, way * self._shot.high, query

    def _group_table(self, split: Split, subset: str) -> GroupTable:
        if self._query is None or not self._shot.fixed or self._given is not self._asked:
            raise EpisodeError(
                "disjoint_groups: expected fixed numbers of support and query clips from one "
                f"subset; got shot {self.shot!r}, query {self.query!r}, subset {subset!r}"
            )
        return GroupTable(split, subset, self._query.low, self._shot.low)

    def __getitem__(self, index: int) -> EpisodeSpec:
        """Episode `index`.

        Raises:
            EpisodeError: when `index` is below 0 or there are no more episodes, or with
                `disjoint_groups` when the groups leave a class of this episode too few support
                clips.
        """
        check_number("index", index, 0)
        if self.count is not None and index >= self.count:
            raise EpisodeError(f"episode {index}: there are {self.count}, from 0")
        key = key_of(f"{self._prefix}{index}")
        chosen = lowest(mix(self._class_ids ^ key), self._way.at(key, "way"))
        if self._groups is None:
            names = self._parts(index, chosen, key)
        else:
            order = mix(self._group_ids ^ key).tolist()
            orders = [lowest(row) for row in self._asked.ranks(chosen, key)]
            parts = self._groups.divide(index, chosen, orders, order)
            names = [
                (self._asked.pick(c, support), self._asked.pick(c, query))
                for c, (query, support) in zip(chosen, parts, strict=True)
            ]
        return EpisodeSpec(
            index=index,
            classes=tuple(self._classes[c] for c in chosen),
            support=tuple(support for support, _ in names),
            query=tuple(query for _, query in names),
        )

    def _parts(
        self, index: int, chosen: Sequence[int], key: np.uint64
    ) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        """Support and query clips of the chosen classes."""
        shots = self._shots(chosen, key)
        most = None if self._query is None else self._query.low
        rows = self._asked.ranks(chosen, key)
        if self._given is not self._asked:
            query = [
                self._asked.pick(c, lowest(r, most)) for c, r in zip(chosen, rows, strict=True)
            ]
            return list(zip(self._support(index, chosen, shots, key), query, strict=True))
        parts = []
        for c, row, shot in zip(chosen, rows, shots, strict=True):
            order = lowest(row, None if most is None else most + shot)
            # where all the others are asked, none of them comes before the support
            start = 0 if most is None else most
            support, query_part = order[start : start + shot], order[:start] + order[start + shot :]
            parts.append((self._asked.pick(c, support), self._asked.pick(c, query_part)))
        return parts

    def _support(
        self, index: int, chosen: Sequence[int], shots: Sequence[int], key: np.uint64
    ) -> list[tuple[str, ...]]:
        """Support clips from a subset of their own."""
        if self._draws is not None:
            return [tuple(sorted(self._draws[index].clips[self._classes[c]])) for c in chosen]
        rows = self._given.ranks(chosen, key)
        return [
            self._given.pick(c, lowest(row, shot))
            for c, row, shot in zip(chosen, rows, shots, strict=True)
        ]

    def _shots(self, chosen: Sequence[int], key: np.uint64) -> list[int]:
        if self._uneven:
            return [self._shot.at(key, f"shot/{self._classes[c]}") for c in chosen]
        return [self._shot.at(key, "shot")] * len(chosen)


def episode(
    split: Split,
    *,
    seed: int,
    index: int,
    way: int,
    shot: int,
    query: int,
    subset: str = "novel",
    disjoint_groups: bool = False,
) -> EpisodeSpec:
    """Episode `index` of a split; see `EpisodeSampler`, which is faster for many.

    Raises:
        EpisodeError: see `EpisodeSampler`.
        UnknownNameError: for a subset that the split does not have.
    """
    sampler = EpisodeSampler(
        split,
        seed=seed,
        way=way,
        shot=shot,
        query=query,
        subset=subset,
        disjoint_groups=disjoint_groups,
    )
    return sampler[index]
