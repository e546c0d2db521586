"""Verdicts on the rows of a table: against the frozen encoder, and against the best row.

All statements of a page about differences come from here: the same tests and verdicts as
`compare` has, over episodes, and over the query clips where two rows have a single episode in
common. They are adjusted for the comparisons of one table; `compare` adjusts for all that it gets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.report.analysis.generalization import jackknife_gain
from fewshot_i2v.report.analysis.run_analysis import RunAnalysis
from fewshot_i2v.runs.row_summary import TableRow, is_frozen, mean_accuracy
from fewshot_i2v.statistics import Interval, paired_difference
from fewshot_i2v.statistics.intervals import Unit
from fewshot_i2v.statistics.jackknife import JackknifeEstimate
from fewshot_i2v.statistics.paired_tests import compare_paired, mcnemar, sign_flip
from fewshot_i2v.statistics.predictions import PredictionTable
from fewshot_i2v.statistics.verdicts import DifferenceTest, Verdict, decide_verdicts

ClipResults = tuple[list[str], list[float]]


def compare_over_clips(
    row: RunAnalysis, baseline: RunAnalysis, episode: int, level: float
) -> tuple[Interval, float] | None:
    """Difference of two rows over the query clips of an episode, and its p value.

    McNemar's test where every answer is right or wrong; the sign-flip test where answers are means
    over several training seeds.

    Args:
        row: analysis of the row.
        baseline: analysis of the row that it is compared with.
        episode: its number.
        level: of the interval.

    Returns:
        Mean of row - baseline with its interval, and p; None where the answers to the same clips
        are not known of both.
    """
    row_results, baseline_results = _clip_results(row, episode), _clip_results(baseline, episode)
    if row_results is None or baseline_results is None or row_results[0] != baseline_results[0]:
        return None
    clips, a = row_results
    b = baseline_results[1]
    paired = compare_paired(a, b, level, unit="clip")
    if {*a, *b} <= {0.0, 1.0} and len(set(clips)) == len(clips):
        return paired.difference, mcnemar(clips, a, clips, b).p
    return paired.difference, paired.test.p


def _clip_results(analysis: RunAnalysis, episode: int) -> ClipResults | None:
    """Each query clip with its class, and the share of training seeds that got it right."""
    results = [
        seed_results
        for outcomes in analysis.outcomes
        if (seed_results := _seed_clip_results(outcomes, episode)) is not None
    ]
    if not results or any(clips != results[0][0] for clips, _ in results):
        return None
    return results[0][0], np.mean([correct for _, correct in results], axis=0).tolist()


def _seed_clip_results(
    outcomes: PredictionTable, episode: int
) -> tuple[list[str], NDArray[np.float64]] | None:
    positions = np.flatnonzero(outcomes.index == episode)
    if not len(positions):
        return None
    in_episode = outcomes.episode == positions[0]
    clips = [outcomes.clips[code] for code in outcomes.query[in_episode].tolist()]
    return clips, outcomes.correct[in_episode].astype(np.float64)


VerdictWord = Literal["better", "worse", "open"]
_VERDICT_WORDS: tuple[VerdictWord, ...] = ("open", "better", "worse")
_ROUNDING = 1e-12
_MEAN_TOLERANCE = 1e-9


@dataclass(frozen=True)
class GainVerdict:
    """Verdict on one row against another, over common episodes or the clips of the only one.

    Attributes:
        row: position of the row in its table.
        baseline: position of the row that it is compared with.
        difference: mean of row - baseline with its interval.
        verdict: "better" or "worse" where that holds on these clips for all tests of the family,
            else "open".
        other_clips: the difference with an interval for other clips of these classes; None where
            the answers to single clips are not known.
        holds_on_other_clips: whether the verdict also holds on other clips of these classes.
        too_few: whether the episodes are too few for any verdict, however large the difference.
        unit: what the difference is over: "episode", or "clip" where they share a single episode
            and the answers to its query clips are known.
    """

    row: int
    baseline: int
    difference: Interval
    verdict: VerdictWord
    too_few: bool = False
    unit: Unit = "episode"
    other_clips: Interval | None = None
    holds_on_other_clips: bool = False


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


@dataclass(frozen=True)
class _RowPairTest:
    """Test of two rows of a table, before the number of comparisons is known."""

    row: int
    baseline: int
    difference: Interval
    p: float
    unit: Unit
    jackknife: JackknifeEstimate | None

    @property
    def difference_test(self) -> DifferenceTest:
        """Test in the form that decides on a verdict."""
        return DifferenceTest(self.difference.mean, self.p, self.jackknife)

    def to_verdict(self, verdict: Verdict, tests: int, level: float) -> GainVerdict:
        """Combine with the verdict, for the number of tests of the family."""
        too_few = _is_too_few(self.difference.n, tests, level)
        return GainVerdict(
            self.row,
            self.baseline,
            self.difference,
            _VERDICT_WORDS[verdict.sign],
            too_few,
            self.unit,
            verdict.other_clips,
            verdict.holds_on_other_clips,
        )


def gain_verdicts(
    rows: Sequence[TableRow], level: float, analyses: Sequence[RunAnalysis] = ()
) -> dict[int, GainVerdict]:
    """Verdicts on each row against frozen with the same head and shot, by position in the table.

    Verdicts are of the sign-flip test, or McNemar's over the clips of a single episode, adjusted
    for the number of these rows (Holm). Rows without such a partner are left out.

    Args:
        rows: of one table.
        level: of intervals and of the family of tests.
        analyses: of each row, for the answers to single clips; empty: they are not known.
    """
    pairs = [
        (i, j)
        for i, row in enumerate(rows)
        if (j := find_frozen_row(i, rows)) is not None and not is_frozen(row)
    ]
    tests = [_test_pair(rows, i, j, analyses, level) for i, j in pairs]
    return {verdict.row: verdict for verdict in _judge(tests, level)}


def find_frozen_row(position: int, rows: Sequence[TableRow]) -> int | None:
    """Position of frozen with the same head and shot and some of the same episodes."""
    row = rows[position]
    for j, candidate in enumerate(rows):
        same_setting = (candidate.head, candidate.shot) == (row.head, row.shot)
        if (
            is_frozen(candidate)
            and same_setting
            and row.accuracies.keys() & candidate.accuracies.keys()
        ):
            return j
    return None


def best_rows(
    rows: Sequence[TableRow], level: float, analyses: Sequence[RunAnalysis] = ()
) -> dict[int | str, BestRow]:
    """Row with the highest mean accuracy for each number of shots, and the others against it.

    Rows that saw what they are evaluated on are left out, and those that read class names where
    others did not; the best one has at least half of the episodes that any of them has. The best
    row was selected on the same episodes; a verdict therefore holds for every pair of rows
    (Bonferroni).

    Args:
        rows: of one table.
        level: of intervals and of the families of tests.
        analyses: as for `gain_verdicts`.
    """
    best_by_shot: dict[int | str, BestRow] = {}
    for shot in dict.fromkeys(row.shot for row in rows):
        positions = _rankable_rows(rows, shot)
        means = {i: mean for i in positions if (mean := mean_accuracy(rows[i], level)) is not None}
        if not means:
            continue
        # a row with few episodes would be the best one by luck
        max_episodes = max(mean.n for mean in means.values())
        best = max(
            (i for i in means if 2 * means[i].n >= max_episodes), key=lambda i: means[i].mean
        )
        n_pairs = len(means) * (len(means) - 1) // 2
        tests = [
            _test_pair(rows, i, best, analyses, level)
            for i in means
            if i != best and rows[i].accuracies.keys() & rows[best].accuracies.keys()
        ]
        row_verdicts = _judge(tests, level, n_pairs)
        best_by_shot[shot] = BestRow(best, means[best], tuple(row_verdicts), n_pairs)
    return best_by_shot


def _judge(
    pair_tests: Sequence[_RowPairTest], level: float, pairs: int | None = None
) -> list[GainVerdict]:
    """Verdicts of a family, adjusted for `pairs` where other pairs could have been compared."""
    if not pair_tests:
        return []
    decided = decide_verdicts(
        [pair_test.difference_test for pair_test in pair_tests], level, pairs=pairs
    )
    n_tests = pairs or len(pair_tests)
    return [
        pair_test.to_verdict(verdict, n_tests, level)
        for pair_test, verdict in zip(pair_tests, decided, strict=True)
    ]


def _rankable_rows(rows: Sequence[TableRow], shot: int | str) -> list[int]:
    """Positions of the rows of a shot that may be ranked with each other."""
    unseen = [i for i, row in enumerate(rows) if row.shot == shot and not row.seen]
    without_names = [i for i in unseen if not rows[i].uses_names]
    return without_names or unseen


def _test_pair(
    rows: Sequence[TableRow], i: int, j: int, analyses: Sequence[RunAnalysis], level: float
) -> _RowPairTest:
    row, baseline = rows[i], rows[j]
    common = sorted(row.accuracies.keys() & baseline.accuracies.keys())
    if len(common) == 1 and analyses:
        clip_result = compare_over_clips(analyses[i], analyses[j], common[0], level)
        if clip_result is not None:
            return _RowPairTest(i, j, *clip_result, "clip", None)
    a, b = ([table_row.accuracies[index] for index in common] for table_row in (row, baseline))
    clips_shared = row.shared or baseline.shared
    difference = paired_difference(a, b, level, clips_shared=clips_shared)
    p = sign_flip([x - y for x, y in zip(a, b, strict=True)]).p
    jackknife = _jackknife_gain(analyses[i], analyses[j], common) if analyses else None
    # training seeds of which one has not all episodes yet would be another difference
    is_valid = jackknife is not None and abs(jackknife.mean - difference.mean) < _MEAN_TOLERANCE
    return _RowPairTest(i, j, difference, p, "episode", jackknife if is_valid else None)


def _jackknife_gain(
    row: RunAnalysis, baseline: RunAnalysis, common: Sequence[int]
) -> JackknifeEstimate | None:
    """Jackknife of the difference over clips; None where rows have different clips."""
    row_outcomes, baseline_outcomes = (
        [outcomes.select_episodes(common) for outcomes in analysis.outcomes]
        for analysis in (row, baseline)
    )
    if (
        not row_outcomes
        or not baseline_outcomes
        or not all(
            outcomes.has_same_episodes(row_outcomes[0])
            for outcomes in (*row_outcomes, *baseline_outcomes)
        )
    ):
        return None
    return jackknife_gain(row_outcomes, baseline_outcomes)


def _is_too_few(n_units: int, n_tests: int, level: float) -> bool:
    """Whether no test of this many episodes or clips can reach the level in so many tests."""
    return bool(2.0 ** (1 - n_units) * n_tests > 1 - level + _ROUNDING)
