"""What the rows of a table decide: which of them beat the best row without training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fewshot_i2v.report.analysis.significance import (
    BestRow,
    GainVerdict,
    best_rows,
    highest_mean,
    judge_pairs,
    pair_test_of,
    rankable_rows,
)
from fewshot_i2v.report.comparison.pair_test import RowTables
from fewshot_i2v.runs.row_summary import FRESH, RowSummary


@dataclass(frozen=True, eq=False)
class ShotDecision:
    """What the rows of one number of shots decide.

    Attributes:
        shot: the number of shots.
        best: the row with the highest accuracy, and the others against it.
        baseline: position of the best row of the frozen encoder, whatever its head; None without.
        n_baselines: how many such rows there are.
        gains: verdicts on the other rows against it.
    """

    shot: int | str
    best: BestRow
    baseline: int | None
    n_baselines: int
    gains: tuple[GainVerdict, ...]

    @property
    def winners(self) -> list[GainVerdict]:
        """Verdicts on the rows that beat the baseline, the largest gain first."""
        winners = [gain for gain in self.gains if gain.verdict == "better"]
        return sorted(winners, key=lambda gain: -gain.difference.mean)

    def equals_of_best(self) -> list[int]:
        """Positions of the rows that cannot be told apart from the best one, that one first."""
        open_rows = [verdict.row for verdict in self.best.verdicts if verdict.verdict == "open"]
        return [self.best.row, *open_rows]


def decide_table(
    rows: Sequence[RowSummary], level: float, tables: Sequence[RowTables] = ()
) -> list[ShotDecision]:
    """Decide for each number of shots which rows beat the best one without training.

    That baseline is the row of the frozen encoder with the highest accuracy: a row that only beats
    a weaker readout of the same encoder gains nothing. Rows that saw what they are evaluated on, or
    read class names where others did not, take no part. The verdicts are adjusted for all of a
    table: by Holm where each number of shots has one such baseline; where it was selected among
    several, for every pair that could have been compared (Bonferroni).
    """
    best = best_rows(rows, level, tables)
    frozen = {shot: _frozen_rows(rows, shot) for shot in best}
    baselines = {
        shot: highest_mean({i: mean for i in positions if (mean := rows[i].interval) is not None})
        for shot, positions in frozen.items()
        if positions
    }
    pairs, n_possible = [], 0
    for shot, baseline in baselines.items():
        compared = [
            i
            for i in rankable_rows(rows, shot)
            if i not in frozen[shot] and rows[i].accuracies.keys() & rows[baseline].accuracies
        ]
        pairs += [(i, baseline) for i in compared]
        n_possible += len(compared) * len(frozen[shot])
    tests = [pair_test_of(rows, tables, *pair, level) for pair in pairs]
    selected = n_possible > len(pairs)
    verdicts = judge_pairs(pairs, tests, level, n_possible if selected else None)
    return [
        ShotDecision(
            shot,
            best_row,
            baselines.get(shot),
            len(frozen[shot]),
            tuple(verdict for verdict in verdicts if rows[verdict.row].shot == shot),
        )
        for shot, best_row in best.items()
    ]


def _frozen_rows(rows: Sequence[RowSummary], shot: int | str) -> list[int]:
    """Positions of the rows of the frozen encoder that may be ranked and have episodes."""
    return [
        i
        for i in rankable_rows(rows, shot)
        if rows[i].is_frozen and rows[i].start == FRESH and rows[i].accuracies
    ]
