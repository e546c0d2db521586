"""Verdicts on the rows of a table, and what they decide: which rows beat the one without training.

All statements of a page about differences come from here: the same tests and verdicts as
`compare` has, over episodes, and over the query clips where two rows have a single episode in
common. They are adjusted for the comparisons of one table; `compare` adjusts for all that it gets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fewshot_i2v.report.comparison.pair_test import JudgedPair, PairTest, RowTables, compare_pair
from fewshot_i2v.runs.row_summary import FRESH, RowSummary, baseline_of
from fewshot_i2v.statistics import Interval
from fewshot_i2v.statistics.jackknife import JackknifeEstimate
from fewshot_i2v.statistics.sample_size import fewest_decisive_episodes
from fewshot_i2v.statistics.verdicts import DifferenceTest, decide_verdicts

VerdictWord = Literal["better", "worse", "open"]
_VERDICT_WORDS: tuple[VerdictWord, ...] = ("open", "better", "worse")
_MEAN_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class GainVerdict(JudgedPair):
    """Verdict on one row of a table against another.

    Attributes:
        row: position of the row in its table.
        baseline: position of the row that it is compared with.
        too_few: whether the episodes are too few for any verdict, however large the difference.
        n_comparisons: comparisons that the verdict is adjusted for, this one among them.
    """

    row: int
    baseline: int
    too_few: bool
    n_comparisons: int

    @property
    def verdict(self) -> VerdictWord:
        """Whether it is "better" or "worse" on these clips for all tests of its family."""
        return _VERDICT_WORDS[self.decision.sign]


@dataclass(frozen=True)
class BestRow:
    """Best row of one number of shots, and the verdicts on the rows compared with it.

    Attributes:
        row: its position in the table.
        mean: its accuracy.
        verdicts: on every row that may be ranked with it and has some of its episodes.
        n_pairs: how many pairs of rows its verdicts hold for.
    """

    row: int
    mean: Interval
    verdicts: tuple[GainVerdict, ...]
    n_pairs: int = 0

    @property
    def beats_all(self) -> bool:
        """Whether every other row of that number of shots is shown to be lower."""
        return bool(self.verdicts) and all(verdict.verdict == "worse" for verdict in self.verdicts)


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


def gain_verdicts(
    rows: Sequence[RowSummary], level: float, tables: Sequence[RowTables] = ()
) -> dict[int, GainVerdict]:
    """Verdicts on each row against frozen with the same head and shot, by position in the table.

    Verdicts are of the sign-flip test, or McNemar's over the clips of a single episode, adjusted
    for the number of these rows (Holm). Rows without such a partner are left out.
    """
    frozen_rows = [None if row.is_frozen else baseline_of(row, rows) for row in rows]
    pairs = [
        (i, next(j for j, row in enumerate(rows) if row is frozen))
        for i, frozen in enumerate(frozen_rows)
        if frozen is not None
    ]
    return {verdict.row: verdict for verdict in _judge_pairs(rows, tables, pairs, level)}


def best_rows(
    rows: Sequence[RowSummary], level: float, tables: Sequence[RowTables] = ()
) -> dict[int | str, BestRow]:
    """Row with the highest mean accuracy for each number of shots, and the others against it.

    Rows that saw what they are evaluated on are left out, and those that read class names where
    others did not; the best one has at least half of the episodes that any of them has. The best
    row was selected on the same episodes; a verdict therefore holds for every pair of rows
    (Bonferroni).
    """
    best_by_shot: dict[int | str, BestRow] = {}
    for shot in dict.fromkeys(row.shot for row in rows):
        positions = _rankable_rows(rows, shot)
        means = {i: mean for i in positions if (mean := rows[i].interval) is not None}
        if not means:
            continue
        best = _highest_mean(means)
        n_pairs = len(means) * (len(means) - 1) // 2
        pairs = [
            (i, best)
            for i in means
            if i != best and rows[i].accuracies.keys() & rows[best].accuracies.keys()
        ]
        row_verdicts = _judge_pairs(rows, tables, pairs, level, n_pairs)
        best_by_shot[shot] = BestRow(best, means[best], tuple(row_verdicts), n_pairs)
    return best_by_shot


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
        shot: _highest_mean({i: mean for i in positions if (mean := rows[i].interval) is not None})
        for shot, positions in frozen.items()
        if positions
    }
    pairs, n_possible = [], 0
    for shot, baseline in baselines.items():
        compared = [
            i
            for i in _rankable_rows(rows, shot)
            if i not in frozen[shot] and rows[i].accuracies.keys() & rows[baseline].accuracies
        ]
        pairs += [(i, baseline) for i in compared]
        n_possible += len(compared) * len(frozen[shot])
    selected = n_possible > len(pairs)
    verdicts = _judge_pairs(rows, tables, pairs, level, n_possible if selected else None)
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
        for i in _rankable_rows(rows, shot)
        if rows[i].is_frozen and rows[i].start == FRESH and rows[i].accuracies
    ]


def _highest_mean(means: Mapping[int, Interval]) -> int:
    """Position of the highest of some accuracies that has at least half of the most episodes.

    A row with few episodes would be the best one by luck.
    """
    max_episodes = max(mean.n for mean in means.values())
    return max((i for i in means if 2 * means[i].n >= max_episodes), key=lambda i: means[i].mean)


def _judge_pairs(
    rows: Sequence[RowSummary],
    tables: Sequence[RowTables],
    positions: Sequence[tuple[int, int]],
    level: float,
    pairs: int | None = None,
) -> list[GainVerdict]:
    """Verdicts on rows, each against a baseline, over the episodes that both have.

    They are adjusted for `pairs`, the number of comparisons that could have been made (Bonferroni);
    None: these are all (Holm).
    """
    if not positions:
        return []
    tests = [_pair_test(rows, tables, i, j, level) for i, j in positions]
    differences = [
        DifferenceTest(test.paired.difference.mean, test.p, _valid_jackknife(test))
        for test in tests
    ]
    decided = decide_verdicts(differences, level, pairs=pairs)
    n_comparisons = pairs or len(tests)
    fewest = fewest_decisive_episodes(level, n_comparisons)
    return [
        GainVerdict(
            test,
            verdict,
            row=row,
            baseline=baseline,
            too_few=test.paired.difference.n < fewest,
            n_comparisons=n_comparisons,
        )
        for (row, baseline), test, verdict in zip(positions, tests, decided, strict=True)
    ]


def _valid_jackknife(test: PairTest) -> JackknifeEstimate | None:
    """Jackknife of a difference over episodes, if it is of the same difference.

    Where one training seed has not all episodes yet, the seeds that have them differ by another
    amount.
    """
    if test.unit == "clip" or test.jackknife is None:
        return None
    same = abs(test.jackknife.mean - test.paired.difference.mean) < _MEAN_TOLERANCE
    return test.jackknife if same else None


def _rankable_rows(rows: Sequence[RowSummary], shot: int | str) -> list[int]:
    """Positions of the rows of a shot that may be ranked with each other."""
    unseen = [i for i, row in enumerate(rows) if row.shot == shot and not row.seen]
    without_names = [i for i in unseen if not rows[i].uses_names]
    return without_names or unseen


def _pair_test(
    rows: Sequence[RowSummary], tables: Sequence[RowTables], i: int, j: int, level: float
) -> PairTest:
    a, b = rows[i].accuracies, rows[j].accuracies
    return compare_pair(
        (a, b),
        (tables[i], tables[j]) if tables else ((), ()),
        sorted(a.keys() & b.keys()),
        level=level,
        clips_shared=rows[i].shared or rows[j].shared,
    )
