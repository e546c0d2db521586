"""What may be said of several differences at once: on the clips there were, and on other clips.

Two rows may differ on the clips of a run, with certainty after enough episodes, and yet be equally
good: other clips would favour the other one. Both are worth knowing, so a verdict says which of the
two it is of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.cluster_intervals import jackknife_of
from fewshot_i2v.statistics.intervals import Interval, check_level
from fewshot_i2v.statistics.jackknife import Found
from fewshot_i2v.statistics.paired_tests import holm

_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Seen:
    """What two methods say by themselves, before the number of comparisons is known.

    Attributes:
        mean: of the differences.
        p: of a test of "neither is better" on these clips, above 0, at most 1.
        clips: what leaving clips out does to the difference; None where clips are not known.
    """

    mean: float
    p: float
    clips: Found | None = None


@dataclass(frozen=True)
class Verdict:
    """What may be said of a difference, for all comparisons of a table together.

    Attributes:
        sign: 1 where the one is better on these clips, -1 where the other is, 0 where neither is
            shown to be.
        p: adjusted for the number of comparisons.
        other_clips: of the difference on other clips of these classes, at the level asked for;
            None where clips are not known.
        also: whether the same holds on other clips of these classes.
    """

    sign: Literal[-1, 0, 1]
    p: float
    other_clips: Interval | None
    also: bool


def each_level(level: float, comparisons: int) -> float:
    """The level at which each of several intervals is taken for all of them to hold at `level`.

    Args:
        level: of all of them together, above 0 and below 1.
        comparisons: how many there are, at least 1 (Bonferroni).
    """
    return 1 - (1 - level) / comparisons


def verdicts(seen: Sequence[Seen], level: float, *, pairs: int | None = None) -> list[Verdict]:
    """The verdicts of a table.

    On these clips the adjusted p decides. On other clips it takes, besides, that the jackknife
    interval of the difference at `each_level` excludes 0 on the same side. In simulated tables of
    rows that are equal over other clips, of 2 to 6 rows, one or more verdicts on other clips were
    wrong in at most 5 %, those on these clips (which do not claim that) in most
    (`scripts/coverage_of_differences.py`).

    Args:
        seen: every comparison of the table, at least one.
        level: of the whole table, above 0 and below 1: one or more verdicts on other clips are
            wrong in at most 1 - level of such tables, and so are those on these clips.
        pairs: as many comparisons could have been made, where these were chosen by looking at the
            same episodes (Bonferroni); None: these are all (Holm).

    Returns:
        As many, in the same order.

    Raises:
        UsageError: when there is none, or the level is out of range.
    """
    check_level(level)
    if not seen:
        raise UsageError("no comparison; expected at least one")
    if pairs is None:
        adjusted = holm([one.p for one in seen])
    else:
        adjusted = [min(1.0, one.p * pairs) for one in seen]
    strict = each_level(level, pairs or len(seen))
    return [_verdict(one, p, level, strict) for one, p in zip(seen, adjusted, strict=True)]


def _verdict(seen: Seen, p: float, level: float, strict: float) -> Verdict:
    sign: Literal[-1, 0, 1] = 0
    if p <= 1 - level + _ROUNDING:
        sign = 1 if seen.mean > 0 else -1
    if seen.clips is None:
        return Verdict(sign, p, None, also=False)
    also = bool(sign) and _side(jackknife_of(seen.clips, strict)) == sign
    return Verdict(sign, p, jackknife_of(seen.clips, level), also)


def _side(interval: Interval) -> int:
    """On which side of 0 an interval lies; 0 where it holds 0, or there is none."""
    if interval.low is None or interval.high is None:
        return 0
    return int(interval.low > 0) - int(interval.high < 0)
