"""The clips of `fewshot-i2v plan`: how many take part decides what is known of other clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from statistics import harmonic_mean

from fewshot_i2v.cli._planning import Aims, PairPlan, Range, RowPlan
from fewshot_i2v.statistics import planning
from fewshot_i2v.statistics.planning import Apart, ClipSpread, Components
from fewshot_i2v.statistics.verdicts import each_level

_MOST_QUERIES = 100
# what a half-width leaves to the episodes where the clips have their share of the variance
_REST = sqrt(1 - planning.CLIP_SHARE)
Key = tuple[str, str | None, int | str]
Spreads = Mapping[Key, ClipSpread]
"""By name of the row, of the one it is compared with (or None), and shot."""


@dataclass(frozen=True)
class ClipNeed:
    """Clips that a question about other clips needs, where episodes may share clips.

    Attributes:
        name: the row.
        against: the row it is compared with; None where its accuracy is asked for.
        shot: of both.
        left: what the clips there are leave, however many the episodes: the half-width, or the
            smallest true difference that is mostly found, all comparisons judged together.
        clips: of each class, for the half-width or difference asked for.
        episodes: on that many clips.
        between: what `clips` may be, for all that the pilot can tell; None where `most`.
        most: whether `left` and `clips` are the most that the spread of episodes allows, since
            the pilot is too short to tell, or there is none.
    """

    name: str
    against: str | None
    shot: int | str
    left: float
    clips: int
    episodes: int
    between: Range | None
    most: bool


@dataclass(frozen=True)
class ClipPlan:
    """What the clips of a split allow; all but `needs` is of episodes that share no clip.

    Attributes:
        shot: support clips per class.
        row: the row with the largest spread, which is planned for.
        classes: of the subset.
        sizes: clips of the smallest and of the largest class.
        star: the best number of query clips per class, if clips could be divided at will.
        asked: with the number of query clips planned for; None where there are no two episodes.
        best: with the number that says most; None as `asked`.
        pair: names of the two rows whose difference spreads most, or None.
        visible: smallest difference of theirs that the episodes of `best` mostly find, or None.
        needed: clips that each class needs for the half-width asked for.
        use: the episodes that they are for.
        needs: clips that each row and each comparison needs where episodes may share clips.
    """

    shot: int
    row: str
    classes: int
    sizes: Range
    star: float
    asked: Apart | None
    best: Apart | None
    pair: tuple[str, str] | None
    visible: float | None
    needed: int
    use: Apart
    needs: tuple[ClipNeed, ...] = ()


def clip_plan(
    sizes: Sequence[int],
    way: int,
    query: int,
    rows: Sequence[RowPlan],
    pairs: Sequence[PairPlan],
    aims: Aims,
    spreads: Spreads,
    *,
    pool: float | None = None,
) -> ClipPlan:
    """Plans the clips of the rows of one shot, shared among episodes or not.

    Args:
        sizes: clips of each class.
        way: classes of an episode, no more than there are.
        query: query clips per class, to plan for.
        rows: of one shot, at least one.
        pairs: of the same shot.
        aims: what is asked for.
        spreads: over clips, of those rows and pairs of which a pilot tells.
        pool: clips of each class from which the episodes of the pilot were drawn again and again;
            None where there is no pilot, or its episodes share no clip.
    """
    from fewshot_i2v.episodes.disjoint import disjoint_count

    widest = max(rows, key=lambda row: row.deviation)
    shot, drawn = int(widest.shot), _Drawn(sizes, way, spreads, pool)
    found = drawn.apart((widest.name, None, shot), widest.found)
    most = min(max(sizes) - shot, _MOST_QUERIES)
    counts = {q: disjoint_count(sizes, way, shot, q) for q in range(1, most + 1)}
    asked = {query: counts.get(query, disjoint_count(sizes, way, shot, query))}
    best = planning.best_apart(found, way, counts, aims.level)
    needed, use = planning.fewest_clips(
        found, aims.half_width, classes=len(sizes), way=way, shot=shot, level=aims.level
    )
    pair, visible = _hardest(pairs, drawn, best, aims)
    needs = [_row_need(row, drawn, aims) for row in rows]
    needs += [need for need in (_pair_need(pair, drawn, aims) for pair in pairs) if need]
    return ClipPlan(
        shot=shot,
        row=widest.name,
        classes=len(sizes),
        sizes=(min(sizes), max(sizes)),
        star=planning.best_query_count(found, way, shot),
        asked=planning.best_apart(found, way, asked, aims.level),
        best=best,
        pair=pair,
        visible=visible,
        needed=needed,
        use=use,
        needs=tuple(needs),
    )


@dataclass(frozen=True)
class _Drawn:
    """The clips of each class, and how a pilot was drawn; as for `clip_plan`."""

    sizes: Sequence[int]
    way: int
    spreads: Spreads
    pool: float | None

    @property
    def clips(self) -> float:
        """Clips of a class: with so many of each, means are as uncertain as they are."""
        return harmonic_mean(self.sizes)

    def spread(self, key: Key, found: Components) -> ClipSpread:
        """Over clips: what the pilot tells, or the most that it can be."""
        return self.spreads.get(key) or planning.most_clip_spread(
            found, self.way, int(key[2]), len(self.sizes), clips=self.pool
        )

    def apart(self, key: Key, found: Components) -> Components:
        """Of episodes that share no clip."""
        if self.pool is None:
            return found
        return planning.over_other_clips(found, self.spread(key, found), self.pool)


def _row_need(row: RowPlan, drawn: _Drawn, aims: Aims) -> ClipNeed:
    shot = int(row.shot)
    spread = drawn.spread((row.name, None, shot), row.found)

    def _count(spread: ClipSpread) -> int:
        return planning.clips_for_half_width(spread, aims.half_width, aims.level)

    episodes = planning.episodes_for_half_width(
        row.deviation,
        aims.half_width * _REST,
        aims.level,
        away=max(row.found.mean, 1 - row.found.mean),
    )
    return ClipNeed(
        row.name,
        None,
        shot,
        left=planning.half_width_over_clips(spread, drawn.clips, aims.level),
        clips=max(_count(spread), shot + 1),
        episodes=episodes,
        between=_between(spread, aims, _count),
        most=spread.dof is None,
    )


def _pair_need(pair: PairPlan, drawn: _Drawn, aims: Aims) -> ClipNeed | None:
    """None where too few episodes of the pilot differ."""
    if pair.found is None or pair.deviation is None:
        return None
    shot, found = int(pair.shot), pair.found
    if pair.alike:
        least = aims.difference * (1 - aims.difference)
        most = replace(found, between=0.0, within=least, short=0.0)
        spread = planning.most_clip_spread(most, drawn.way, shot, len(drawn.sizes))
    else:
        spread = drawn.spread((pair.name, pair.against, shot), found)
    # as `compare` decides on other clips: all comparisons judged together
    risk = {"power": aims.power, "level": each_level(aims.level, pair.comparisons)}

    def _count(spread: ClipSpread) -> int:
        return planning.clips_for_difference(spread, aims.difference, **risk)

    return ClipNeed(
        pair.name,
        pair.against,
        shot,
        left=planning.visible_over_clips(spread, drawn.clips, **risk),
        clips=max(_count(spread), shot + 1),
        episodes=planning.episodes_for_difference(pair.deviation, aims.difference * _REST, **risk),
        between=_between(spread, aims, _count),
        most=spread.dof is None,
    )


def _between(spread: ClipSpread, aims: Aims, count: Callable[[ClipSpread], int]) -> Range | None:
    if spread.dof is None:
        return None
    low, high = planning.deviation_range(sqrt(spread.unit), spread.dof + 1, aims.level)
    return count(ClipSpread(low**2)), count(ClipSpread(high**2))


def _hardest(
    pairs: Sequence[PairPlan], drawn: _Drawn, apart: Apart | None, aims: Aims
) -> tuple[tuple[str, str] | None, float | None]:
    """The pair whose difference spreads most, and the smallest one that is mostly found."""
    spread = [(p, p.found, p.deviation) for p in pairs if p.found and p.deviation is not None]
    if apart is None or not spread:
        return None, None
    pair, found, _ = max(spread, key=lambda each: each[2])
    found = drawn.apart((pair.name, pair.against, pair.shot), found)
    deviation = found.deviation(drawn.way * apart.query)
    visible = planning.visible_difference(
        deviation, apart.episodes, power=aims.power, level=aims.level
    )
    return (pair.name, pair.against), visible
