"""The figures of `fewshot-i2v plan`: from the rows of a pilot run, or from assumed values."""

from __future__ import annotations

from dataclasses import dataclass

from fewshot_i2v.statistics import planning
from fewshot_i2v.statistics.planning import Components
from fewshot_i2v.statistics.verdicts import each_level

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
        now: half-width with the episodes of the pilot, the longer half where it is lopsided; or
            None.
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

    @property
    def even(self) -> bool:
        """Whether the pilot shows no spread at all, as where every answer was right."""
        return not self.deviation


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
        comparisons: how many these are.
        alike: whether the two differ so little in the pilot that the least spread of two methods
            with the difference asked for was taken.
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
    alike: bool = False
    comparisons: int = 1


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
    now = None
    share = found.within / queries / deviation**2 if deviation else 0.0
    between = None
    if known:
        low, high = planning.deviation_range(deviation, found.episodes, aims.level)
        now = planning.half_width(found.deviation(), found.episodes, aims.level)
        if not deviation:
            high = planning.equal_deviation(found.mean, found.episodes, aims.level)
            now = planning.equal_half_width(found.mean, found.episodes, aims.level)
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
    least = planning.least_deviation(aims.difference, queries)
    alike = found.deviation(queries) < least
    deviation = max(found.deviation(queries), least)

    def _count(spread: float, level: float = aims.level) -> int:
        return planning.episodes_for_difference(
            spread, aims.difference, power=aims.power, level=level
        )

    visible, between = None, None
    if known:
        low, high, seen = _told(found, queries, least, aims)
        between = _count(max(low, least)), _count(max(high, least))
        visible = planning.visible_difference(
            seen, found.episodes, power=aims.power, level=aims.level
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
        together=_count(deviation, each_level(aims.level, comparisons)),
        alike=alike,
        comparisons=comparisons,
    )


def _told(
    found: Components, queries: float, least: float, aims: Aims
) -> tuple[float, float, float]:
    """What a pilot tells of the spread: low, high, and what there is in its own episodes."""
    low, high = planning.deviation_range(found.deviation(queries), found.episodes, aims.level)
    seen = found.deviation()
    if seen:
        return low, high, seen
    # no spread was seen, which is no certainty that there is none
    share = (1 + found.mean) / 2
    return low, 2 * planning.equal_deviation(share, found.episodes, aims.level), least
