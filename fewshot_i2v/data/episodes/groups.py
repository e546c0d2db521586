"""Divides the clips of an episode so that support and query share no group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.errors import EpisodeError


class GroupTable:
    """The groups of one subset.

    Args:
        split: the split.
        subset: its subset.
        query: query clips of each class.
        shot: support clips of each class.

    Attributes:
        keys: what names each group, sorted; its rank in an episode comes from this.

    Raises:
        EpisodeError: when clips have no group, or the groups of a class cannot be divided.
    """

    def __init__(self, split: Split, subset: str, query: int, shot: int) -> None:
        self.query, self.shot = query, shot
        self._classes = split.classes(subset)
        own = split.group_scope == "class"
        rows = [
            [
                _group_key(split, name, clip.name, clip.group, own)
                for clip in split.clips(subset, name)
            ]
            for name in self._classes
        ]
        self.keys = sorted({key for row in rows for key in row})
        number = {key: i for i, key in enumerate(self.keys)}
        self._of_clip = [[number[key] for key in row] for row in rows]
        self._sizes = [Counter(row) for row in self._of_clip]
        self._check(split.name, subset)

    def _check(self, split: str, subset: str) -> None:
        bad = [
            f"{name} has groups of {sorted(sizes.values(), reverse=True)} clips"
            for name, sizes in zip(self._classes, self._sizes, strict=True)
            if not _divisible(list(sizes.values()), self.query, self.shot)
        ]
        if bad:
            raise EpisodeError(
                f"disjoint_groups: {self.query} query and {self.shot} support clips without a "
                f"common group are needed in every class; in {subset!r} of split {split!r} "
                f"{', '.join(bad)}. Give a smaller shot or query"
            )

    def divide(
        self, index: int, chosen: Sequence[int], orders: Sequence[list[int]], ranks: Sequence[int]
    ) -> list[tuple[list[int], list[int]]]:
        """Query and support clips of each class of an episode.

        Args:
            index: the episode's number, for messages.
            chosen: positions of its classes.
            orders: for each of them, positions of all its clips in the order of their ranks.
            ranks: rank of every group.

        Returns:
            For each class, positions of its query clips and of its support clips.

        Raises:
            EpisodeError: when a class is left with too few support clips.
        """
        taken = self._query_side(chosen, ranks)
        parts = []
        for c, order in zip(chosen, orders, strict=True):
            groups = self._of_clip[c]
            query = [i for i in order if groups[i] in taken][: self.query]
            support = [i for i in order if groups[i] not in taken]
            if len(support) < self.shot:
                raise EpisodeError(
                    f"disjoint_groups: in episode {index} the groups of the query clips leave "
                    f"class {self._classes[c]!r} {len(support)} support clips; "
                    f"{self.shot} are needed. Give a smaller shot or query, or another seed"
                )
            parts.append((query, support[: self.shot]))
        return parts

    def _query_side(self, chosen: Sequence[int], ranks: Sequence[int]) -> set[int]:
        """Groups that query clips may come from; the shot count plays no part.

        Groups are walked in the order of their ranks, twice: a group that would also use up clips
        of a class already served is kept for the support unless the second walk needs it.
        """
        members: dict[int, list[int]] = {}
        for c in chosen:
            for group in self._sizes[c]:
                members.setdefault(group, []).append(c)
        order = sorted(members, key=lambda group: (ranks[group], group))
        have = dict.fromkeys(chosen, 0)
        taken: set[int] = set()
        for sparing in (True, False):
            for group in order:
                needy = sum(have[c] < self.query for c in members[group])
                if group in taken or not needy or (sparing and needy < len(members[group])):
                    continue
                taken.add(group)
                for c in members[group]:
                    have[c] += self._sizes[c][group]
        return taken


def _group_key(split: Split, name: str, clip: str, group: str | None, own: bool) -> tuple[str, ...]:
    if group is None:
        raise EpisodeError(
            f"disjoint_groups: clip {clip!r} of split {split.name!r} has no group. Add `group` to "
            "the split file (a regular expression whose first capture group in a clip's name is "
            "its group), `{clip: NAME, group: GROUP}` to the clip, or a group column to the CSV"
        )
    return ("group", name, group) if own else ("group", group)


def _divisible(sizes: Sequence[int], query: int, shot: int) -> bool:
    """Whether some of the groups hold `query` clips or more, and the others `shot` or more."""
    sums = 1  # bit n: some of the groups hold n clips together
    for size in sizes:
        sums |= sums << size
    last = sum(sizes) - shot
    return any(sums >> n & 1 for n in range(query, last + 1))
