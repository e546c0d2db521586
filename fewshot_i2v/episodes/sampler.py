"""Episodes: which classes and clips make up episode number i of a split.

An episode is a pure function of the split's digest, the subset, a seed, its number, way, shot and
query. Nothing is drawn from a generator with a state: every class and clip has a 64-bit rank in
every episode, and the lowest ranks are taken. So

- episode 7 is the same whether or not episodes 0 to 6 were asked for, in any process and on any
  machine;
- the queries are the same for every shot count, and the support clips of K shots are the first of
  those of K + 1 shots: a curve over shots differs by its shots alone;
- the order of classes and clips in the split file does not matter.

Ranks are `mix(id XOR key)`. An id is BLAKE2b (8 bytes) of a class, of a class with a clip's name,
or of a group; the key is BLAKE2b of split digest, subset, seed and episode number; `mix` is the
finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
OOPSLA 2014), a bijection of 64-bit integers. Equal ranks are ordered by name.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.episodes._groups import GroupTable
from fewshot_i2v.episodes.split import Split
from fewshot_i2v.errors import EpisodeError

Ranks = NDArray[np.uint64]

_SHIFT_1, _SHIFT_2, _SHIFT_3 = np.uint64(30), np.uint64(27), np.uint64(31)
_FACTOR_1, _FACTOR_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True, slots=True)
class EpisodeSpec:
    """One episode, by names.

    Attributes:
        index: its number, from 0.
        classes: the episode's classes; label c is `classes[c]`.
        support: clip names, `shot` of each class, in the order of `classes`.
        query: clip names, `query` of each class, in the order of `classes`.
    """

    index: int
    classes: tuple[str, ...]
    support: tuple[tuple[str, ...], ...]
    query: tuple[tuple[str, ...], ...]

    def clips(self) -> tuple[str, ...]:
        """All distinct clip names: support class by class, then query class by class."""
        names = (name for part in (self.support, self.query) for row in part for name in row)
        return tuple(dict.fromkeys(names))

    def to_dict(self) -> dict[str, object]:
        """The attributes as plain data."""
        return {
            "index": self.index,
            "classes": list(self.classes),
            "support": [list(names) for names in self.support],
            "query": [list(names) for names in self.query],
        }

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of `to_dict` as canonical JSON."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class EpisodeSampler:
    """The episodes of a split: `sampler[i]` is episode i, for any i from 0.

    Checks once whether the subset can give such episodes.

    Args:
        split: the split.
        seed: 0 or more; other seeds give unrelated episodes.
        way: classes of an episode.
        shot: support clips of each class.
        query: query clips of each class.
        subset: "base", "val" or "novel".
        disjoint_groups: no support clip shares a group with a query clip of the episode. Groups in
            the order of their ranks go to the query side until every class has enough query clips
            there; the support comes from the other groups.

    Raises:
        EpisodeError: when a number is below 1 (seed: 0), or the subset has too few classes, clips
            or groups; naming every class that is too small.
        UnknownNameError: for a subset that the split does not have.
    """

    def __init__(
        self,
        split: Split,
        *,
        seed: int,
        way: int,
        shot: int,
        query: int,
        subset: str = "novel",
        disjoint_groups: bool = False,
    ) -> None:
        for name, value, least in (
            ("seed", seed, 0),
            ("way", way, 1),
            ("shot", shot, 1),
            ("query", query, 1),
        ):
            _check_number(name, value, least)
        self.way, self.shot, self.query = way, shot, query
        self._classes = split.classes(subset)
        clips = [split.clips(subset, name) for name in self._classes]
        _check_sizes(split, subset, way, shot + query)
        self._names = [tuple(clip.name for clip in row) for row in clips]
        self._class_ids = _ids([("class", name) for name in self._classes])
        self._clip_ids = [
            _ids([("clip", name, clip) for clip in row])
            for name, row in zip(self._classes, self._names, strict=True)
        ]
        self._groups = GroupTable(split, subset, query, shot) if disjoint_groups else None
        self._group_ids = _ids(self._groups.keys) if self._groups else _ids([])
        self._prefix = f"{split.digest}/{subset}/{seed}/"

    def __getitem__(self, index: int) -> EpisodeSpec:
        """Episode `index`.

        Raises:
            EpisodeError: when `index` is below 0, or with `disjoint_groups` when the groups leave
                a class of this episode too few support clips.
        """
        _check_number("index", index, 0)
        key = _key(f"{self._prefix}{index}")
        chosen = _lowest(mix(self._class_ids ^ key), self.way)
        ranks = self._clip_ranks(chosen, key)
        if self._groups is None:
            rows = [_lowest(row, self.query + self.shot) for row in ranks]
            parts = [(row[: self.query], row[self.query :]) for row in rows]
        else:
            order = mix(self._group_ids ^ key).tolist()
            orders = [_lowest(row, len(row)) for row in ranks]
            parts = self._groups.divide(index, chosen, orders, order)
        names = [self._names[c] for c in chosen]
        return EpisodeSpec(
            index=index,
            classes=tuple(self._classes[c] for c in chosen),
            support=tuple(_pick(n, part[1]) for n, part in zip(names, parts, strict=True)),
            query=tuple(_pick(n, part[0]) for n, part in zip(names, parts, strict=True)),
        )

    def _clip_ranks(self, chosen: Sequence[int], key: np.uint64) -> list[Ranks]:
        """Ranks of all clips of each chosen class; mixed in one go, which is faster."""
        ids = [self._clip_ids[c] for c in chosen]
        ranks = mix(np.concatenate(ids) ^ key)
        ends = itertools.accumulate(len(row) for row in ids)
        return [ranks[end - len(row) : end] for row, end in zip(ids, ends, strict=True)]


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


def mix(values: Ranks) -> Ranks:
    """The finaliser of SplitMix64.

    Args:
        values: 64-bit unsigned integers, any shape; overwritten.

    Returns:
        `values`, each mixed.
    """
    values ^= values >> _SHIFT_1
    values *= _FACTOR_1
    values ^= values >> _SHIFT_2
    values *= _FACTOR_2
    values ^= values >> _SHIFT_3
    return values


def _lowest(ranks: Ranks, count: int) -> list[int]:
    """Positions of the `count` lowest ranks, lowest first; equal ranks by position."""
    order: list[int] = ranks.argsort(kind="stable")[:count].tolist()
    return order


def _pick(names: Sequence[str], positions: Sequence[int]) -> tuple[str, ...]:
    return tuple(names[i] for i in positions)


def _ids(parts: Sequence[Sequence[str]]) -> Ranks:
    """One 64-bit id per row of texts; no two different rows are the same bytes before hashing."""
    return np.array([_key(json.dumps(list(row))) for row in parts], dtype=np.uint64)


def _key(text: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big"))


def _check_number(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise EpisodeError(f"{name}: got {value!r}; expected a whole number from {least}")


def _check_sizes(split: Split, subset: str, way: int, need: int) -> None:
    """Whether a subset has enough classes, and each class enough clips."""
    classes = split.classes(subset)
    where = f"{subset!r} of split {split.name!r}"
    others = [s for s in split.subsets if s != subset and len(split.classes(s)) >= way]
    other = f", or another subset ({', '.join(others)})" if others else ""
    if way > len(classes):
        have = f"{where} has {len(classes)} classes"
        raise EpisodeError(f"{way}-way: {have}; expected at most that many ways{other}")
    small = [(name, len(split.clips(subset, name))) for name in classes]
    small = [(name, have) for name, have in small if have < need]
    if small:
        listed = ", ".join(f"{name} has {have}" for name, have in small)
        what = f"shot + query needs {need} clips in every class; in {where} {listed}"
        raise EpisodeError(f"{what}. Give a smaller shot or query{other}")
