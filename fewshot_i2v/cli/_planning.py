"""The figures of `fewshot-i2v plan`: from the rows of a pilot run, or from assumed values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fewshot_i2v.statistics import planning
from fewshot_i2v.statistics.planning import Apart, Components

_MOST_QUERIES = 100
EQUAL = 1e-9
"""Accuracies that differ by less are the same."""
FEW = 5
"""With fewer episodes in which two rows differ, their spread is no guide."""
Range = tuple[int, int]


@dataclass(frozen=True)
class Aims:
    """What is asked for, as shares: 0.01 for one point.

    Attributes:
        half_width: of every row's mean.
        difference: between two rows, to be found.
        power: in what share of runs.
        level: of intervals and tests.
    """

    half_width: float
    difference: float
    power: float
    level: float


@dataclass(frozen=True)
class RowPlan:
    """Episodes that one row needs.

    Attributes:
        name: what it is called.
        shot: support clips per class.
        found: how its episodes spread.
        deviation: standard deviation over episodes with the number of queries planned for.
        query_share: share of their variance that is chance of the queries.
        now: half-width with the episodes of the pilot, or None.
        episodes: for the half-width asked for, as `--until` will draw them.
        between: what `episodes` may be, for all that the pilot can tell; or None.
    """

    name: str
    shot: int | str
    found: Components
    deviation: float
    query_share: float
    now: float | None
    episodes: int
    between: Range | None


@dataclass(frozen=True)
class PairPlan:
    """Episodes that one comparison needs.

    Attributes:
        name: the row.
        against: the row it is compared with.
        shot: of both.
        gain: mean difference in the pilot, or None.
        differ: episodes of the pilot in which the two differ, or None.
        common: episodes of the pilot that both have.
        found: how the difference spreads; None where too few episodes of the pilot differ.
        deviation: standard deviation of the difference over episodes; None as `found`.
        visible: smallest difference that the pilot mostly finds, or None.
        episodes: for the difference and power asked for, or None as `found`.
        between: as in `RowPlan`.
        together: the same where all comparisons are judged together (Bonferroni).
    """

    name: str
    against: str
    shot: int | str
    gain: float | None
    differ: int | None
    common: int
    found: Components | None = None
    deviation: float | None = None
    visible: float | None = None
    episodes: int | None = None
    between: Range | None = None
    together: int | None = None


@dataclass(frozen=True)
class ClipPlan:
    """What the clips of a split allow, for episodes that share none.

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


def row_plan(name: str, shot: int | str, found: Components, queries: float, aims: Aims) -> RowPlan:
    """Plans one row.

    Args:
        name: what it is called.
        shot: support clips per class.
        found: how its episodes spread.
        queries: of an episode, to plan for.
        aims: what is asked for.
    """
    deviation, away = found.deviation(queries), max(found.mean, 1 - found.mean)

    def _count(spread: float) -> int:
        return planning.episodes_for_half_width(spread, aims.half_width, aims.level, away=away)

    known = found.episodes > 1
    now = planning.half_width(found.deviation(), found.episodes, aims.level) if known else None
    share = found.within / queries / deviation**2 if deviation else 0.0
    between = None
    if known:
        low, high = planning.deviation_range(deviation, found.episodes, aims.level)
        between = _count(low), _count(high)
    return RowPlan(name, shot, found, deviation, share, now, _count(deviation), between)


def pair_plan(
    names: tuple[str, str],
    shot: int | str,
    found: Components,
    queries: float,
    aims: Aims,
    *,
    comparisons: int = 1,
    differ: int | None = None,
) -> PairPlan:
    """Plans one comparison.

    Args:
        names: of the row and of the one it is compared with.
        shot: of both.
        found: how their difference spreads.
        queries: of an episode, to plan for.
        aims: what is asked for.
        comparisons: how many are judged together.
        differ: episodes of a pilot in which the two differ.
    """
    known = found.episodes > 1
    gain = found.mean if known else None
    if differ is not None and differ < FEW:
        return PairPlan(*names, shot, gain, differ, found.episodes)
    deviation = found.deviation(queries)

    def _count(spread: float, level: float = aims.level) -> int:
        return planning.episodes_for_difference(
            spread, aims.difference, power=aims.power, level=level
        )

    visible, between = None, None
    if known:
        low, high = planning.deviation_range(deviation, found.episodes, aims.level)
        between = _count(low), _count(high)
        visible = planning.visible_difference(
            found.deviation(), found.episodes, power=aims.power, level=aims.level
        )
    return PairPlan(
        *names,
        shot,
        gain,
        differ,
        found.episodes,
        found=found,
        deviation=deviation,
        visible=visible,
        episodes=_count(deviation),
        between=between,
        together=_count(deviation, 1 - (1 - aims.level) / comparisons),
    )


def clip_plan(
    sizes: Sequence[int],
    way: int,
    query: int,
    rows: Sequence[RowPlan],
    pairs: Sequence[PairPlan],
    aims: Aims,
) -> ClipPlan:
    """Plans episodes that share no clip, for the rows of one shot.

    Args:
        sizes: clips of each class.
        way: classes of an episode, no more than there are.
        query: query clips per class, to plan for.
        rows: of one shot, at least one.
        pairs: of the same shot.
        aims: what is asked for.
    """
    from fewshot_i2v.episodes.disjoint import disjoint_count

    widest = max(rows, key=lambda row: row.deviation)
    shot, found = int(widest.shot), widest.found
    most = min(max(sizes) - shot, _MOST_QUERIES)
    counts = {q: disjoint_count(sizes, way, shot, q) for q in range(1, most + 1)}
    asked = {query: counts.get(query, disjoint_count(sizes, way, shot, query))}
    best = planning.best_apart(found, way, counts, aims.level)
    needed, use = planning.fewest_clips(
        found, aims.half_width, classes=len(sizes), way=way, shot=shot, level=aims.level
    )
    pair, visible = _hardest(pairs, way, best, aims)
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
    )


def _hardest(
    pairs: Sequence[PairPlan], way: int, apart: Apart | None, aims: Aims
) -> tuple[tuple[str, str] | None, float | None]:
    """The pair whose difference spreads most, and the smallest one that is mostly found."""
    spread = [(p, p.found, p.deviation) for p in pairs if p.found and p.deviation is not None]
    if apart is None or not spread:
        return None, None
    pair, found, _ = max(spread, key=lambda each: each[2])
    deviation = found.deviation(way * apart.query)
    visible = planning.visible_difference(
        deviation, apart.episodes, power=aims.power, level=aims.level
    )
    return (pair.name, pair.against), visible
