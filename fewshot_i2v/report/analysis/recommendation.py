"""Which row of a table to use: by what is decided, then by what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from fewshot_i2v.report.analysis.decisions import GainVerdict, ShotDecision, decide_table
from fewshot_i2v.report.comparison.pair_test import RowTables, mean_queries
from fewshot_i2v.runs.row_summary import RowSummary
from fewshot_i2v.statistics.difference_spread import DifferenceSpread
from fewshot_i2v.statistics.intervals import MIN_EPISODES

NOTABLE_DIFFERENCE = 0.02
"""Difference of two rows that matters, as a share: that of `plan`, 2 points."""
USUAL_EPISODES = 50
"""To run next where so few are there that nothing tells how many it takes."""
NAMED_RIVALS = 2
"""Of the rows that may be as good, so many are named."""
_POWER = 0.8


@dataclass(frozen=True, eq=False)
class Recommendation:
    """The row to use at one number of shots.

    Attributes:
        decision: what the rows of that number of shots decide.
        row: position of the recommended row.
        gain: its verdict against the best row without training; None where it is that row, or
            there is none.
        rivals: positions of the rows that may be as good, the highest first.
        spreads: of the difference to each rival.
        told: position of the first of the `NAMED_RIVALS` that differs in enough episodes to say how
            many it takes; None where there is none.
        episodes: about how many would show `NOTABLE_DIFFERENCE` to that rival, as `plan` says, all
            comparisons judged together; None where there is none.
        next_episodes: how many to run next, where more of them may change the recommendation; None
            where they would not.
        level: of the verdicts.
    """

    decision: ShotDecision
    row: int
    gain: GainVerdict | None
    rivals: tuple[int, ...]
    spreads: tuple[DifferenceSpread, ...]
    told: int | None
    episodes: int | None
    next_episodes: int | None
    level: float = 0.95

    @property
    def untold(self) -> dict[int, DifferenceSpread]:
        """Named rivals that differ in too few episodes to say how many it takes, by position.

        Where there are fewer than `MIN_EPISODES`, that is said instead: none.
        """
        named = zip(self.rivals[:NAMED_RIVALS], self.spreads, strict=False)
        return {
            i: spread
            for i, spread in named
            if spread.episodes >= MIN_EPISODES and not spread.tells(self.level)
        }


def recommend_rows(
    rows: Sequence[RowSummary], level: float, tables: Sequence[RowTables] = ()
) -> list[Recommendation]:
    """Recommend a row for each number of shots.

    An adapter is recommended where it beats the best row of the frozen encoder, and else that row,
    which takes no training. Of rows that cannot be told apart, and whose accuracies are at most
    `NOTABLE_DIFFERENCE` apart, the one with the fewest trained parameters is taken.
    """
    return [
        _recommend(rows, tables, decision, level) for decision in decide_table(rows, level, tables)
    ]


def _recommend(
    rows: Sequence[RowSummary],
    tables: Sequence[RowTables],
    decision: ShotDecision,
    level: float,
) -> Recommendation:
    gains = {gain.row: gain for gain in decision.winners}
    equal = decision.equals_of_best()
    means = {i: fmean(rows[i].accuracies.values()) for i in [*equal, *gains]}
    if decision.baseline is not None and not gains:
        row = decision.baseline
        # without a verdict any row may be as good as the one that takes no training
        compared = [gain.row for gain in decision.gains if gain.verdict == "open"]
        compared = compared if decision.gains else equal
    else:
        candidates = [i for i in equal if not gains or i in gains] or [*gains]
        highest = max(means[i] for i in candidates)
        near = [i for i in candidates if highest - means[i] <= NOTABLE_DIFFERENCE]
        row, compared = min(near, key=lambda i: _cost(rows[i])), equal
    rivals = sorted(
        (i for i in compared if i != row), key=lambda i: -fmean(rows[i].accuracies.values())
    )
    spreads = tuple(_difference_spread(rows, tables, row, rival) for rival in rivals)
    told, episodes = _episodes_to_tell(decision, row, rivals, spreads, level)
    recommendation = Recommendation(
        decision,
        row,
        gains.get(row),
        tuple(rivals),
        spreads,
        told,
        episodes,
        next_episodes=None,
        level=level,
    )
    return replace(recommendation, next_episodes=_next_episodes(recommendation, rows[row].episodes))


def _next_episodes(recommendation: Recommendation, n_run: int) -> int | None:
    """Episodes to run next where more of them may tell something; None elsewhere."""
    usual = USUAL_EPISODES if n_run < USUAL_EPISODES else None
    decision, gain = recommendation.decision, recommendation.gain
    if recommendation.rivals:
        n_needed = recommendation.episodes
        too_few = bool(decision.gains) and all(verdict.too_few for verdict in decision.gains)
        if n_needed is None or too_few:
            return usual
        if n_needed > n_run:
            return n_needed
        return usual if recommendation.untold else None
    # so few episodes may not tell what other clips would show
    other_clips = None if gain is None else gain.other_clips
    return usual if other_clips is not None and other_clips.low is None else None


def _cost(row: RowSummary) -> tuple[int, float]:
    """Parameters trained in an episode, then its seconds."""
    return row.tuned_parameters, row.seconds_per_episode or 0.0


def _episodes_to_tell(
    decision: ShotDecision,
    row: int,
    rivals: Sequence[int],
    spreads: Sequence[DifferenceSpread],
    level: float,
) -> tuple[int | None, int | None]:
    """First named rival whose difference tells, and the episodes that `plan` says for it.

    They are for as many comparisons as the verdicts are adjusted for.
    """
    of_gains = {gain.row: gain.n_comparisons for gain in decision.gains}
    for rival, spread in zip(rivals[:NAMED_RIVALS], spreads, strict=False):
        is_gain = row == decision.baseline and rival in of_gains
        n_comparisons = of_gains[rival] if is_gain else max(1, decision.best.n_pairs)
        n_needed = spread.episodes_needed(
            NOTABLE_DIFFERENCE, power=_POWER, level=level, comparisons=n_comparisons
        )
        if n_needed is not None:
            return rival, n_needed
    return None, None


def _difference_spread(
    rows: Sequence[RowSummary], tables: Sequence[RowTables], i: int, j: int
) -> DifferenceSpread:
    """Spread of the difference of two rows over the episodes that both have."""
    a, b = rows[i].accuracies, rows[j].accuracies
    common = sorted(a.keys() & b.keys())
    if not common:
        return DifferenceSpread(0.0, 1.0, 0, 0)
    selected = [table.select_episodes(common) for table in tables[i]] if tables else []
    queries = mean_queries(selected) if selected else _queries_of(rows[i])
    return DifferenceSpread.from_values([a[k] - b[k] for k in common], queries)


def _queries_of(row: RowSummary) -> int:
    """Query clips of an episode; 1 where their number is not constant."""
    if not row.header:
        return 1
    way, query = row.config.get("way"), row.config.get("query")
    return way * query if isinstance(way, int) and isinstance(query, int) else 1
