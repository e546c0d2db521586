"""The paired test of two rows: over their common episodes, or the query clips of the only one.

Every statement about a difference comes from here: those of `compare`, of a page and of exports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, harmonic_mean

import numpy as np

from fewshot_i2v.report.analysis.generalization import jackknife_gain
from fewshot_i2v.statistics.difference_spread import DifferenceSpread
from fewshot_i2v.statistics.intervals import Interval, Unit, without_too_few_episodes
from fewshot_i2v.statistics.jackknife import JackknifeEstimate
from fewshot_i2v.statistics.paired_tests import PairedComparison, compare_paired, mcnemar
from fewshot_i2v.statistics.predictions import PredictionTable
from fewshot_i2v.statistics.verdicts import Verdict

THESE_CLIPS, THESE_SUPPORT_CLIPS, OTHER_CLIPS_OF_CLASSES = (
    "these clips",
    "these support clips",
    "other clips of these classes",
)
"""What a verdict covers: the first, or the second for a single episode; the last besides."""
RowTables = Sequence[PredictionTable]
"""Predictions of a row, one table for each training seed; none: single answers are not known."""


def mean_queries(tables: RowTables) -> float:
    """Query clips of an episode, the harmonic mean; 1 where single answers are not known."""
    answered = [table for table in tables if len(table)]
    return harmonic_mean(answered[0].queries.tolist()) if answered else 1.0


@dataclass(frozen=True, eq=False)
class PairTest:
    """Test of a row against a baseline, before the number of comparisons is known.

    Attributes:
        unit: what the differences are of: "episode", or "clip" where there is a single episode
            whose answers are known.
        values: share of right answers of the row and of the baseline in each unit, 0..1.
        paired: mean of row - baseline with its interval, wins, ties and losses.
        p: of the test of "neither is better".
        method: the test, and how it was counted.
        tables: predictions of both over the common episodes.
    """

    unit: Unit
    values: tuple[list[float], list[float]]
    paired: PairedComparison
    p: float
    method: str
    tables: tuple[RowTables, RowTables]

    @property
    def means(self) -> tuple[float, float]:
        """Mean over the units of the row and of the baseline, 0..1."""
        return fmean(self.values[0]), fmean(self.values[1])

    @property
    def spread(self) -> DifferenceSpread:
        """Spread of the difference over the units, for what they would show."""
        differences = [x - y for x, y in zip(*self.values, strict=True)]
        queries = 1.0 if self.unit == "clip" else mean_queries(self.tables[0])
        return DifferenceSpread.from_values(differences, queries)

    @cached_property
    def jackknife(self) -> JackknifeEstimate | None:
        """Jackknife of the difference over clips; None where the rows have different clips."""
        row_tables, baseline_tables = self.tables
        if not row_tables or not baseline_tables:
            return None
        if any(not t.has_same_episodes(row_tables[0]) for t in (*row_tables, *baseline_tables)):
            return None
        return jackknife_gain(row_tables, baseline_tables)


@dataclass(frozen=True, eq=False)
class JudgedPair:
    """Test of a row against a baseline, and what it shows beside the other tests of its table.

    Attributes:
        test: the test.
        decision: its verdict, adjusted for the number of comparisons.
    """

    test: PairTest
    decision: Verdict

    @property
    def unit(self) -> Unit:
        """What the differences are of: "episode", or "clip" where there is a single episode."""
        return self.test.unit

    @property
    def difference(self) -> Interval:
        """Mean of row - baseline with its interval, which too few episodes do not have."""
        difference = self.test.paired.difference
        return difference if self.unit == "clip" else without_too_few_episodes(difference)

    @property
    def other_clips(self) -> Interval | None:
        """The same with an interval for other clips; None where single answers are not known."""
        return self.decision.other_clips

    @property
    def covers(self) -> tuple[str, ...]:
        """Clips on which the verdict holds."""
        clips = THESE_CLIPS if self.unit == "episode" else THESE_SUPPORT_CLIPS
        return (clips, OTHER_CLIPS_OF_CLASSES) if self.decision.holds_on_other_clips else (clips,)

    @property
    def clips_clause(self) -> str:
        """Clause on which clips the verdict holds."""
        preposition = "with" if self.unit == "clip" else "on"
        return f"{preposition} {' and on '.join(self.covers)}"

    def other_clips_clause(self, ends: str) -> str:
        """Clause on other clips that the verdict does not cover; empty where it covers them.

        `ends` are those of the difference on other clips; empty where there are none.
        """
        if self.decision.holds_on_other_clips or self.unit == "clip":
            return ""
        if not ends:
            return "; what other clips would show is not known"
        return f"; on other clips the difference may be another, {ends}"


def compare_pair(
    accuracies: tuple[Mapping[int, float], Mapping[int, float]],
    tables: tuple[RowTables, RowTables],
    indices: Sequence[int],
    *,
    level: float,
    clips_shared: bool,
) -> PairTest:
    """Compare a row with a baseline over their common episodes.

    Over episodes p is that of the sign-flip test. A single episode has no spread: its query clips
    are compared instead, by McNemar's test where every answer is right or wrong, and by the
    sign-flip test where answers are means over several training seeds. `indices` are the numbers of
    the common episodes, ascending, at least one; `tables` may have more episodes.
    """
    row_tables, baseline_tables = (
        [table.select_episodes(indices) for table in row_tables] for row_tables in tables
    )
    selected = row_tables, baseline_tables
    if len(indices) == 1:
        test = _compare_clips(selected, level)
        if test is not None:
            return test
    a, b = ([row_accuracies[i] for i in indices] for row_accuracies in accuracies)
    paired = compare_paired(a, b, level, clips_shared=clips_shared)
    return PairTest(
        "episode", (a, b), paired, paired.test.p, f"sign-flip, {paired.test.method}", selected
    )


def _compare_clips(tables: tuple[RowTables, RowTables], level: float) -> PairTest | None:
    """Compare the query clips of one episode; None where the same clips are not known of both."""
    row_results, baseline_results = (_clip_results(row_tables) for row_tables in tables)
    if row_results is None or baseline_results is None or row_results[0] != baseline_results[0]:
        return None
    (clips, a), (_, b) = row_results, baseline_results
    paired = compare_paired(a, b, level, unit="clip")
    if {*a, *b} <= {0.0, 1.0} and len(set(clips)) == len(clips):
        mcnemar_test = mcnemar(clips, a, clips, b)
        return PairTest("clip", (a, b), paired, mcnemar_test.p, mcnemar_test.method, tables)
    method = f"sign-flip, {paired.test.method}"
    return PairTest("clip", (a, b), paired, paired.test.p, method, tables)


def _clip_results(tables: RowTables) -> tuple[list[str], list[float]] | None:
    """Query clips of an episode, and for each the share of training seeds that got it right."""
    answered = [table for table in tables if len(table)]
    names = [[table.clips[code] for code in table.query.tolist()] for table in answered]
    if not answered or any(clips != names[0] for clips in names):
        return None
    return names[0], np.mean([table.correct for table in answered], axis=0).tolist()
