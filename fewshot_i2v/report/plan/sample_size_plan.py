"""The figures of `fewshot-i2v plan`: from the rows of a pilot run, or from assumed values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from statistics import harmonic_mean

from fewshot_i2v.statistics import sample_size
from fewshot_i2v.statistics.clip_variance import ClipSpread
from fewshot_i2v.statistics.sample_size import Apart
from fewshot_i2v.statistics.variance_components import Components
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
        return sample_size.episodes_for_half_width(spread, aims.half_width, aims.level, away=away)

    known = found.episodes > 1
    now = None
    share = found.within / queries / deviation**2 if deviation else 0.0
    between = None
    if known:
        low, high = sample_size.deviation_range(deviation, found.episodes, aims.level)
        now = sample_size.half_width(found.deviation(), found.episodes, aims.level)
        if not deviation:
            high = sample_size.equal_deviation(found.mean, found.episodes, aims.level)
            now = sample_size.equal_half_width(found.mean, found.episodes, aims.level)
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
    least = sample_size.least_deviation(aims.difference, queries)
    alike = found.deviation(queries) < least
    deviation = max(found.deviation(queries), least)

    def _count(spread: float, level: float = aims.level) -> int:
        return sample_size.episodes_for_difference(
            spread, aims.difference, power=aims.power, level=level
        )

    visible, between = None, None
    if known:
        low, high, seen = _told(found, queries, least, aims)
        between = _count(max(low, least)), _count(max(high, least))
        visible = sample_size.visible_difference(
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
    low, high = sample_size.deviation_range(found.deviation(queries), found.episodes, aims.level)
    seen = found.deviation()
    if seen:
        return low, high, seen
    # no spread was seen, which is no certainty that there is none
    share = (1 + found.mean) / 2
    return low, 2 * sample_size.equal_deviation(share, found.episodes, aims.level), least


_MOST_QUERIES = 100
# what a half-width leaves to the episodes where the clips have their share of the variance
_REST = sqrt(1 - sample_size.CLIP_SHARE)
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
    from fewshot_i2v.data.splits.summary import disjoint_count

    widest = max(rows, key=lambda row: row.deviation)
    shot, drawn = int(widest.shot), _Drawn(sizes, way, spreads, pool)
    found = drawn.apart((widest.name, None, shot), widest.found)
    most = min(max(sizes) - shot, _MOST_QUERIES)
    counts = {q: disjoint_count(sizes, way, shot, q) for q in range(1, most + 1)}
    asked = {query: counts.get(query, disjoint_count(sizes, way, shot, query))}
    best = sample_size.best_apart(found, way, counts, aims.level)
    needed, use = sample_size.fewest_clips(
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
        star=sample_size.best_query_count(found, way, shot),
        asked=sample_size.best_apart(found, way, asked, aims.level),
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
        return self.spreads.get(key) or sample_size.most_clip_spread(
            found, self.way, int(key[2]), len(self.sizes), clips=self.pool
        )

    def apart(self, key: Key, found: Components) -> Components:
        """Of episodes that share no clip."""
        if self.pool is None:
            return found
        return sample_size.over_other_clips(found, self.spread(key, found), self.pool)


def _row_need(row: RowPlan, drawn: _Drawn, aims: Aims) -> ClipNeed:
    shot = int(row.shot)
    spread = drawn.spread((row.name, None, shot), row.found)

    def _count(spread: ClipSpread) -> int:
        return sample_size.clips_for_half_width(spread, aims.half_width, aims.level)

    episodes = sample_size.episodes_for_half_width(
        row.deviation,
        aims.half_width * _REST,
        aims.level,
        away=max(row.found.mean, 1 - row.found.mean),
    )
    return ClipNeed(
        row.name,
        None,
        shot,
        left=sample_size.half_width_over_clips(spread, drawn.clips, aims.level),
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
        spread = sample_size.most_clip_spread(most, drawn.way, shot, len(drawn.sizes))
    else:
        spread = drawn.spread((pair.name, pair.against, shot), found)
    # as `compare` decides on other clips: all comparisons judged together
    risk = {"power": aims.power, "level": each_level(aims.level, pair.comparisons)}

    def _count(spread: ClipSpread) -> int:
        return sample_size.clips_for_difference(spread, aims.difference, **risk)

    return ClipNeed(
        pair.name,
        pair.against,
        shot,
        left=sample_size.visible_over_clips(spread, drawn.clips, **risk),
        clips=max(_count(spread), shot + 1),
        episodes=sample_size.episodes_for_difference(
            pair.deviation, aims.difference * _REST, **risk
        ),
        between=_between(spread, aims, _count),
        most=spread.dof is None,
    )


def _between(spread: ClipSpread, aims: Aims, count: Callable[[ClipSpread], int]) -> Range | None:
    if spread.dof is None:
        return None
    low, high = sample_size.deviation_range(sqrt(spread.unit), spread.dof + 1, aims.level)
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
    visible = sample_size.visible_difference(
        deviation, apart.episodes, power=aims.power, level=aims.level
    )
    return (pair.name, pair.against), visible
