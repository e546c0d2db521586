"""What may be said of the rows of a table: which beat the frozen encoder, and which the best row.

Everything that a page says about differences comes from here: the same tests and verdicts as
`compare` has, over episodes, and over the query clips where two rows have a single episode in
common. They are adjusted for the comparisons of one table; `compare` adjusts for all that it is
given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.report.analysis.generalization import gain_over_clips
from fewshot_i2v.report.analysis.run_analysis import Findings
from fewshot_i2v.runs.row_summary import TableRow, is_frozen, mean_of
from fewshot_i2v.statistics import Interval, paired_difference
from fewshot_i2v.statistics.intervals import Unit
from fewshot_i2v.statistics.jackknife import Found
from fewshot_i2v.statistics.paired_tests import compare_paired, mcnemar, sign_flip
from fewshot_i2v.statistics.predictions import Outcomes
from fewshot_i2v.statistics.verdicts import Seen, Verdict, verdicts

Answers = tuple[list[str], list[float]]


def over_clips(
    row: Findings, other: Findings, episode: int, level: float
) -> tuple[Interval, float] | None:
    """The difference of two rows over the query clips of an episode, and its p value.

    McNemar's test where every answer is right or wrong; the sign-flip test where answers are means
    over several training seeds.

    Args:
        row: what was found in the one.
        other: what was found in the other.
        episode: its number.
        level: of the interval.

    Returns:
        Mean of row - other with its interval, and p; None where the answers to the same clips are
        not known of both.
    """
    one, two = _answers(row, episode), _answers(other, episode)
    if one is None or two is None or one[0] != two[0]:
        return None
    clips, a = one
    b = two[1]
    paired = compare_paired(a, b, level, unit="clip")
    if {*a, *b} <= {0.0, 1.0} and len(set(clips)) == len(clips):
        return paired.difference, mcnemar(clips, a, clips, b).p
    return paired.difference, paired.test.p


def _answers(findings: Findings, episode: int) -> Answers | None:
    """Each query clip with its class, and the share of training seeds that got it right."""
    found = [answers for o in findings.outcomes if (answers := _of_seed(o, episode)) is not None]
    if not found or any(clips != found[0][0] for clips, _ in found):
        return None
    return found[0][0], np.mean([right for _, right in found], axis=0).tolist()


def _of_seed(outcomes: Outcomes, episode: int) -> tuple[list[str], NDArray[np.float64]] | None:
    places = np.flatnonzero(outcomes.index == episode)
    if not len(places):
        return None
    own = outcomes.episode == places[0]
    clips = [outcomes.clips[code] for code in outcomes.query[own].tolist()]
    return clips, outcomes.right[own].astype(np.float64)


Words = Literal["better", "worse", "open"]
_WORDS: tuple[Words, ...] = ("open", "better", "worse")
_ROUNDING = 1e-12
_SAME = 1e-9


@dataclass(frozen=True)
class Against:
    """One row against another over the episodes that both have, or the clips of the only one.

    Attributes:
        row: place of the one in its table.
        other: place of the other.
        difference: mean of row - other with its interval.
        verdict: "better" or "worse" where that holds on these clips for the whole family of tests,
            else "open".
        other_clips: the difference with an interval for other clips of these classes; None where
            the answers to single clips are not known.
        also: whether the verdict holds on other clips of these classes, too.
        few: whether the episodes are too few for any verdict, however large the difference.
        unit: what the difference is over: "episode", or "clip" where they share a single episode
            and the answers to its query clips are known.
    """

    row: int
    other: int
    difference: Interval
    verdict: Words
    few: bool = False
    unit: Unit = "episode"
    other_clips: Interval | None = None
    also: bool = False


@dataclass(frozen=True)
class Best:
    """The best row of one number of shots, and the others against it.

    Attributes:
        row: its place in the table.
        mean: its accuracy.
        others: every other row that may be ranked with it and has some of its episodes.
        pairs: how many pairs of rows its verdicts hold for.
    """

    row: int
    mean: Interval
    others: tuple[Against, ...]
    pairs: int = 0


@dataclass(frozen=True)
class _Compared:
    """What two rows say by themselves, before the number of comparisons is known."""

    row: int
    other: int
    difference: Interval
    p: float
    unit: Unit
    clips: Found | None

    @property
    def seen(self) -> Seen:
        """What decides on a verdict."""
        return Seen(self.difference.mean, self.p, self.clips)

    def against(self, verdict: Verdict, tests: int, level: float) -> Against:
        """With the verdict, given the number of tests of the family."""
        few = _few(self.difference.n, tests, level)
        return Against(
            self.row,
            self.other,
            self.difference,
            _WORDS[verdict.sign],
            few,
            self.unit,
            verdict.other_clips,
            verdict.also,
        )


def against_frozen(
    rows: Sequence[TableRow], level: float, findings: Sequence[Findings] = ()
) -> dict[int, Against]:
    """Each row against the frozen encoder with the same head and shot, by place in the table.

    Verdicts are of the sign-flip test, or McNemar's over the clips of a single episode, adjusted
    for the number of these rows (Holm). Rows without such a partner are left out.

    Args:
        rows: of one table.
        level: of intervals and of the family of tests.
        findings: of each row, for the answers to single clips; empty: they are not known.
    """
    pairs = [
        (i, j)
        for i, row in enumerate(rows)
        if (j := frozen_of(i, rows)) is not None and not is_frozen(row)
    ]
    compared = [_compared(rows, i, j, findings, level) for i, j in pairs]
    return {one.row: one for one in _judged(compared, level)}


def frozen_of(place: int, rows: Sequence[TableRow]) -> int | None:
    """Place of the frozen encoder with the same head and shot and some of the same episodes."""
    row = rows[place]
    for j, other in enumerate(rows):
        same = (other.head, other.shot) == (row.head, row.shot)
        if is_frozen(other) and same and row.accuracies.keys() & other.accuracies.keys():
            return j
    return None


def best_rows(
    rows: Sequence[TableRow], level: float, findings: Sequence[Findings] = ()
) -> dict[int | str, Best]:
    """The row with the highest mean accuracy for each number of shots, and the others against it.

    Rows that saw what they are evaluated on are left out, and those that read class names where
    others did not; the best one has at least half of the episodes that any of them has. Which row
    is the best was seen in the same episodes; a verdict therefore holds for every pair of rows
    (Bonferroni).

    Args:
        rows: of one table.
        level: of intervals and of the families of tests.
        findings: as for `against_frozen`.
    """
    found: dict[int | str, Best] = {}
    for shot in dict.fromkeys(row.shot for row in rows):
        places = _ranked(rows, shot)
        means = {i: mean for i in places if (mean := mean_of(rows[i], level)) is not None}
        if not means:
            continue
        # a row with few episodes would be the best one by luck
        most = max(mean.n for mean in means.values())
        best = max((i for i in means if 2 * means[i].n >= most), key=lambda i: means[i].mean)
        pairs = len(means) * (len(means) - 1) // 2
        compared = [
            _compared(rows, i, best, findings, level)
            for i in means
            if i != best and rows[i].accuracies.keys() & rows[best].accuracies.keys()
        ]
        others = _judged(compared, level, pairs)
        found[shot] = Best(best, means[best], tuple(others), pairs)
    return found


def _judged(compared: Sequence[_Compared], level: float, pairs: int | None = None) -> list[Against]:
    """The verdicts of a family; adjusted for `pairs` where others could have been compared."""
    if not compared:
        return []
    made = verdicts([one.seen for one in compared], level, pairs=pairs)
    tests = pairs or len(compared)
    return [one.against(verdict, tests, level) for one, verdict in zip(compared, made, strict=True)]


def _ranked(rows: Sequence[TableRow], shot: int | str) -> list[int]:
    """Places of the rows of a shot that may be ranked with each other."""
    fair = [i for i, row in enumerate(rows) if row.shot == shot and not row.seen]
    blind = [i for i in fair if not rows[i].uses_names]
    return blind or fair


def _compared(
    rows: Sequence[TableRow], i: int, j: int, findings: Sequence[Findings], level: float
) -> _Compared:
    row, other = rows[i], rows[j]
    common = sorted(row.accuracies.keys() & other.accuracies.keys())
    if len(common) == 1 and findings:
        clips = over_clips(findings[i], findings[j], common[0], level)
        if clips is not None:
            return _Compared(i, j, *clips, "clip", None)
    a, b = ([r.accuracies[index] for index in common] for r in (row, other))
    shared = row.shared or other.shared
    difference = paired_difference(a, b, level, shared=shared)
    p = sign_flip([x - y for x, y in zip(a, b, strict=True)]).p
    without = _without_clips(findings[i], findings[j], common) if findings else None
    # training seeds of which one has not all episodes yet would be another difference
    known = without is not None and abs(without.mean - difference.mean) < _SAME
    return _Compared(i, j, difference, p, "episode", without if known else None)


def _without_clips(row: Findings, other: Findings, common: Sequence[int]) -> Found | None:
    """What leaving clips out does to the difference; None where rows saw other clips."""
    one, two = ([o.only(common) for o in of.outcomes] for of in (row, other))
    if not one or not two or not all(o.same_episodes(one[0]) for o in (*one, *two)):
        return None
    return gain_over_clips(one, two)


def _few(units: int, tests: int, level: float) -> bool:
    """Whether a test of so many episodes or clips can reach the level in so many tests at all."""
    return bool(2.0 ** (1 - units) * tests > 1 - level + _ROUNDING)
