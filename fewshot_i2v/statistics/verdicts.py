"""Verdicts on several differences at once: on the clips of the run, and on other clips.

Two rows may differ on the clips of a run, with certainty after enough episodes, and yet be equally
good: other clips would favour the other row. Both are worth knowing, so a verdict says which of
the two it is about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.intervals import Interval, check_level
from fewshot_i2v.statistics.jackknife import JackknifeEstimate
from fewshot_i2v.statistics.paired_tests import holm

_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class DifferenceTest:
    """Test of the difference of two methods, before the number of comparisons is known.

    Attributes:
        mean: of the differences.
        p: of a test of "neither is better" on these clips, above 0, at most 1.
        jackknife: of the difference over clips; None where clips are not known.
    """

    mean: float
    p: float
    jackknife: JackknifeEstimate | None = None


@dataclass(frozen=True)
class Verdict:
    """Verdict on a difference, for all comparisons of a table together.

    Attributes:
        sign: 1 where the row is better on these clips, -1 where its baseline is, 0 where neither is
            shown to be.
        p: adjusted for the number of comparisons.
        other_clips: of the difference on other clips of these classes, at the requested level;
            None where clips are not known.
        holds_on_other_clips: whether the same holds on other clips of these classes.
    """

    sign: Literal[-1, 0, 1]
    p: float
    other_clips: Interval | None
    holds_on_other_clips: bool


def per_comparison_level(level: float, comparisons: int) -> float:
    """Level of each of several intervals that makes all of them hold at `level`."""
    return 1 - (1 - level) / comparisons


def decide_verdicts(
    tests: Sequence[DifferenceTest], level: float, *, pairs: int | None = None
) -> list[Verdict]:
    """Decide the verdicts of a table.

    On these clips the adjusted p decides. On other clips, besides, the jackknife interval of the
    difference at `per_comparison_level` must exclude 0 on the same side. In simulated tables of
    rows that are equal over other clips, of 2 to 6 rows, one or more verdicts on other clips were
    wrong in at most 5 %, those on these clips (which do not claim that) in most
    (`scripts/coverage_of_differences.py`).

    Args:
        tests: every comparison of the table, at least one.
        level: of the table as a family, above 0 and below 1: one or more verdicts on other clips
            are wrong in at most 1 - level of such tables, and so are those on these clips.
        pairs: as many comparisons could have been made, where these were chosen by looking at the
            same episodes (Bonferroni); None: these are all (Holm).

    Returns:
        As many, in the same order.

    Raises:
        UsageError: when there is none, or the level is out of range.
    """
    check_level(level)
    if not tests:
        raise UsageError("no comparison; expected at least one")
    if pairs is None:
        adjusted = holm([test.p for test in tests])
    else:
        adjusted = [min(1.0, test.p * pairs) for test in tests]
    strict_level = per_comparison_level(level, pairs or len(tests))
    return [_verdict(test, p, level, strict_level) for test, p in zip(tests, adjusted, strict=True)]


def _verdict(test: DifferenceTest, p: float, level: float, strict_level: float) -> Verdict:
    sign: Literal[-1, 0, 1] = 0
    if p <= 1 - level + _ROUNDING:
        sign = 1 if test.mean > 0 else -1
    if test.jackknife is None:
        return Verdict(sign, p, None, holds_on_other_clips=False)
    strict = test.jackknife.interval(strict_level)
    above = strict.low is not None and strict.low > 0
    below = strict.high is not None and strict.high < 0
    holds_on_other_clips = (sign == 1 and above) or (sign == -1 and below)
    return Verdict(sign, p, test.jackknife.interval(level), holds_on_other_clips)
