"""Which row of a table to use: by what is decided, then by what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from fewshot_i2v.report.analysis.decisions import GainVerdict, ShotDecision, decide_table
from fewshot_i2v.report.comparison.pair_test import RowTables
from fewshot_i2v.runs.row_summary import RowSummary
from fewshot_i2v.statistics.intervals import MIN_EPISODES
from fewshot_i2v.statistics.sample_size import episodes_for_difference, min_difference_sd
from fewshot_i2v.statistics.verdicts import per_comparison_level

NOTABLE_DIFFERENCE = 0.02
"""Difference of two rows that matters, as a share: that of `plan`, 2 points."""
USUAL_EPISODES = 50
"""To run next where so few are there that nothing tells how many it takes."""
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
        episodes: about how many would show `NOTABLE_DIFFERENCE` to the first rival, where there is
            one and the two differ; None elsewhere.
        next_episodes: how many to run next, where more of them may change the recommendation; None
            where they would not.
    """

    decision: ShotDecision
    row: int
    gain: GainVerdict | None
    rivals: tuple[int, ...]
    episodes: int | None
    next_episodes: int | None


def recommend_rows(
    rows: Sequence[RowSummary], level: float, tables: Sequence[RowTables] = ()
) -> list[Recommendation]:
    """Recommend a row for each number of shots.

    An adapter is recommended where it beats the best row of the frozen encoder, and else that row,
    which takes no training. Of rows that cannot be told apart, and whose accuracies are at most
    `NOTABLE_DIFFERENCE` apart, the one with the fewest trained parameters is taken.
    """
    return [_recommend(rows, decision, level) for decision in decide_table(rows, level, tables)]


def _recommend(rows: Sequence[RowSummary], decision: ShotDecision, level: float) -> Recommendation:
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
    episodes = _episodes_to_tell(rows, row, rivals[0], decision, level) if rivals else None
    return Recommendation(
        decision,
        row,
        gains.get(row),
        tuple(rivals),
        episodes,
        _next_episodes(
            rows[row].episodes, decision, episodes, gain=gains.get(row), tied=bool(rivals)
        ),
    )


def _next_episodes(
    n_run: int,
    decision: ShotDecision,
    n_needed: int | None,
    *,
    gain: GainVerdict | None,
    tied: bool,
) -> int | None:
    """Episodes to run next where more of them may tell something; None elsewhere."""
    usual = USUAL_EPISODES if n_run < USUAL_EPISODES else None
    too_few = bool(decision.gains) and all(verdict.too_few for verdict in decision.gains)
    if tied and not too_few and n_needed is not None:
        return n_needed if n_needed > n_run else None
    if tied:
        return usual
    # so few episodes may not tell what other clips would show
    other_clips = None if gain is None else gain.other_clips
    return usual if other_clips is not None and other_clips.low is None else None


def _cost(row: RowSummary) -> tuple[int, float]:
    """Parameters trained in an episode, then its seconds."""
    return row.tuned_parameters, row.seconds_per_episode or 0.0


def _episodes_to_tell(
    rows: Sequence[RowSummary], i: int, j: int, decision: ShotDecision, level: float
) -> int | None:
    """Episodes with which two rows that differ by `NOTABLE_DIFFERENCE` are mostly told apart.

    As `plan` computes it for all comparisons together, from the spread of their difference; None
    where there are too few episodes to know that.
    """
    a, b = rows[i].accuracies, rows[j].accuracies
    differences = [a[k] - b[k] for k in a.keys() & b.keys()]
    if len(differences) < MIN_EPISODES:
        return None
    n_pairs = max(decision.best.n_pairs, len(decision.gains) * decision.n_baselines, 1)
    queries = _queries_of(rows[i])
    deviation = max(stdev(differences), min_difference_sd(NOTABLE_DIFFERENCE, queries))
    return episodes_for_difference(
        deviation, NOTABLE_DIFFERENCE, power=_POWER, level=per_comparison_level(level, n_pairs)
    )


def _queries_of(row: RowSummary) -> int:
    """Query clips of an episode; 1 where their number is not constant."""
    if not row.header:
        return 1
    way, query = row.config.get("way"), row.config.get("query")
    return way * query if isinstance(way, int) and isinstance(query, int) else 1
