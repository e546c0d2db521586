"""What may be said of the rows of a table: which beat the frozen encoder, and which the best row.

Everything that a page says about differences comes from here: the same tests as `compare` makes,
over episodes, and over the query clips where two rows have a single episode in common. They are
adjusted for the comparisons of one table; `compare` adjusts for all that it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fewshot_i2v.report._clips import over_clips
from fewshot_i2v.report.findings import Findings
from fewshot_i2v.report.rows import TableRow, mean_of
from fewshot_i2v.report.terminal import is_frozen
from fewshot_i2v.statistics import Interval, paired_difference
from fewshot_i2v.statistics.paired import holm, sign_flip

Verdict = Literal["better", "worse", "open"]
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Against:
    """One row against another over the episodes that both have, or the clips of the only one.

    Attributes:
        row: place of the one in its table.
        other: place of the other.
        difference: mean of row - other with its interval.
        verdict: "better" or "worse" where that holds for the whole family of tests, else "open".
        few: whether the episodes are too few for any verdict, however large the difference.
        unit: what the difference is over: "episode", or "clip" where they share a single episode
            and the answers to its query clips are known.
    """

    row: int
    other: int
    difference: Interval
    verdict: Verdict
    few: bool = False
    unit: Literal["episode", "clip"] = "episode"


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

    difference: Interval
    p: float
    unit: Literal["episode", "clip"]

    def against(self, row: int, other: int, p: float, tests: int, level: float) -> Against:
        """The verdict, given the adjusted p and the number of tests of the family."""
        verdict: Verdict = "open"
        if p <= 1 - level + _ROUNDING:
            verdict = "better" if self.difference.mean > 0 else "worse"
        few = _few(self.difference.n, tests, level)
        return Against(row, other, self.difference, verdict, few, self.unit)


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
    adjusted = holm([one.p for one in compared]) if compared else []
    return {
        i: one.against(i, j, p, len(pairs), level)
        for (i, j), one, p in zip(pairs, compared, adjusted, strict=True)
    }


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
        others = []
        for i in means:
            if i != best and rows[i].accuracies.keys() & rows[best].accuracies.keys():
                one = _compared(rows, i, best, findings, level)
                others.append(one.against(i, best, min(1.0, one.p * pairs), pairs, level))
        found[shot] = Best(best, means[best], tuple(others), pairs)
    return found


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
            return _Compared(*clips, "clip")
    a, b = ([r.accuracies[index] for index in common] for r in (row, other))
    shared = row.shared or other.shared
    difference = paired_difference(a, b, level, shared=shared)
    p = sign_flip([x - y for x, y in zip(a, b, strict=True)]).p
    return _Compared(difference, p, "episode")


def _few(units: int, tests: int, level: float) -> bool:
    """Whether a test of so many episodes or clips can reach the level in so many tests at all."""
    return bool(2.0 ** (1 - units) * tests > 1 - level + _ROUNDING)
