"""Divides the clips of an episode so that support and query have no common group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fewshot_i2v.data.splits.split import Clip, Split
from fewshot_i2v.errors import EpisodeError


class GroupPartitioner:
    """Divides the groups of one subset between `query` and `shot` clips of each class.

    Attributes:
        group_keys: what identifies each group, sorted; its rank in an episode comes from this.

    Raises:
        EpisodeError: when clips have no group, or the groups of a class cannot be divided.
    """

    def __init__(self, split: Split, subset: str, query: int, shot: int) -> None:
        self.query, self.shot = query, shot
        self._classes = split.classes(subset)
        key_rows = [
            [_group_key(split, name, clip) for clip in split.clips(subset, name)]
            for name in self._classes
        ]
        self.group_keys = sorted({key for row in key_rows for key in row})
        index_of = {key: i for i, key in enumerate(self.group_keys)}
        self._group_of_clip = [[index_of[key] for key in row] for row in key_rows]
        self._group_sizes = [Counter(row) for row in self._group_of_clip]
        self._check_divisible(split.name, subset)

    def _check_divisible(self, split_name: str, subset: str) -> None:
        indivisible = [
            f"{name} has groups of {sorted(sizes.values(), reverse=True)} clips"
            for name, sizes in zip(self._classes, self._group_sizes, strict=True)
            if not _is_divisible(list(sizes.values()), self.query, self.shot)
        ]
        if indivisible:
            raise EpisodeError(
                f"disjoint_groups: {self.query} query and {self.shot} support clips without a "
                f"common group are needed in every class; in {subset!r} of split {split_name!r} "
                f"{', '.join(indivisible)}. Give a smaller shot or query"
            )

    def partition(
        self,
        index: int,
        class_indices: Sequence[int],
        clip_orders: Sequence[list[int]],
        group_ranks: Sequence[int],
    ) -> list[tuple[list[int], list[int]]]:
        """Return positions of the query clips and of the support clips of each class.

        Args:
            index: the episode's number, for messages.
            class_indices: positions of its classes.
            clip_orders: for each of them, positions of all its clips in the order of their ranks.
            group_ranks: rank of every group.

        Raises:
            EpisodeError: when a class has too few support clips left.
        """
        query_groups = self._query_groups(class_indices, group_ranks)
        divided = []
        for c, clip_order in zip(class_indices, clip_orders, strict=True):
            groups = self._group_of_clip[c]
            query = [i for i in clip_order if groups[i] in query_groups][: self.query]
            support = [i for i in clip_order if groups[i] not in query_groups]
            if len(support) < self.shot:
                raise EpisodeError(
                    f"disjoint_groups: in episode {index} the groups of the query clips leave "
                    f"class {self._classes[c]!r} {len(support)} support clips; "
                    f"{self.shot} are needed. Give a smaller shot or query, or another seed"
                )
            divided.append((query, support[: self.shot]))
        return divided

    def _query_groups(self, class_indices: Sequence[int], group_ranks: Sequence[int]) -> set[int]:
        """Select the groups that query clips may come from; independent of the shot count.

        Groups are visited in the order of their ranks, twice: a group that would also use up clips
        of a class that already has enough is left for the support unless the second pass needs it.
        """
        classes_of_group: dict[int, list[int]] = {}
        for c in class_indices:
            for group in self._group_sizes[c]:
                classes_of_group.setdefault(group, []).append(c)
        group_order = sorted(classes_of_group, key=lambda group: (group_ranks[group], group))
        n_query = dict.fromkeys(class_indices, 0)
        query_groups: set[int] = set()
        for sparing in (True, False):
            for group in group_order:
                n_unserved = sum(n_query[c] < self.query for c in classes_of_group[group])
                if (
                    group in query_groups
                    or not n_unserved
                    or (sparing and n_unserved < len(classes_of_group[group]))
                ):
                    continue
                query_groups.add(group)
                for c in classes_of_group[group]:
                    n_query[c] += self._group_sizes[c][group]
        return query_groups


def _group_key(split: Split, class_name: str, clip: Clip) -> tuple[str, ...]:
    key = split.group_key(class_name, clip)
    if key is None:
        raise EpisodeError(
            f"disjoint_groups: clip {clip.name!r} of split {split.name!r} has no group. Add "
            "`group` to the split file (a regular expression whose first capture group in a clip's "
            "name is its group), `{clip: NAME, group: GROUP}` to the clip, or a group column to "
            "the CSV"
        )
    return ("group", *key)


def _is_divisible(sizes: Sequence[int], query: int, shot: int) -> bool:
    """Whether groups can be divided into `query` clips or more and `shot` or more."""
    sums = 1  # bit n: some of the groups hold n clips together
    for size in sizes:
        sums |= sums << size
    max_query = sum(sizes) - shot
    return any(sums >> n & 1 for n in range(query, max_query + 1))
