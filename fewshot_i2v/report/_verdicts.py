"""What may be said of the rows of a table: which beat the frozen encoder, and which the best row.

Everything that a page says about differences comes from here: the same tests as `compare` makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fewshot_i2v.report.rows import TableRow, mean_of
from fewshot_i2v.report.terminal import is_frozen
from fewshot_i2v.statistics import Interval, paired_difference
from fewshot_i2v.statistics.paired import holm, sign_flip

Verdict = Literal["better", "worse", "open"]


@dataclass(frozen=True)
class Against:
    """One row against another over the episodes that both have.

    Attributes:
        row: place of the one in its table.
        other: place of the other.
        difference: mean of row - other with its interval.
        verdict: "better" or "worse" where that holds for the whole family of tests, else "open".
        few: whether the episodes are too few for any verdict, however large the difference.
    """

    row: int
    other: int
    difference: Interval
    verdict: Verdict
    few: bool = False


@dataclass(frozen=True)
class Best:
    """The best row of one number of shots, and the others against it.

    Attributes:
        row: its place in the table.
        mean: its accuracy.
        others: every other row that may be ranked with it.
    """

    row: int
    mean: Interval
    others: tuple[Against, ...]


def against_frozen(rows: Sequence[TableRow], level: float) -> dict[int, Against]:
    """Each row against the frozen encoder with the same head and shot, by place in the table.

    Verdicts are of the sign-flip test, adjusted for the number of rows (Holm), as `compare` has
    them. Rows without such a partner are left out.
    """
    pairs = [
        (i, j)
        for i, row in enumerate(rows)
        if (j := frozen_of(i, rows)) is not None and not is_frozen(row)
    ]
    compared = [_compared(rows[i], rows[j], level) for i, j in pairs]
    adjusted = holm([p for _, p in compared]) if compared else []
    return {
        i: Against(
            i,
            j,
            difference,
            _verdict(difference, p, level),
            few=_few(difference.n, len(pairs), level),
        )
        for (i, j), (difference, _), p in zip(pairs, compared, adjusted, strict=True)
    }


def frozen_of(place: int, rows: Sequence[TableRow]) -> int | None:
    """Place of the frozen encoder with the same head and shot and some of the same episodes."""
    row = rows[place]
    for j, other in enumerate(rows):
        same = (other.head, other.shot) == (row.head, row.shot)
        if is_frozen(other) and same and row.accuracies.keys() & other.accuracies.keys():
            return j
    return None


def best_rows(rows: Sequence[TableRow], level: float) -> dict[int | str, Best]:
    """The row with the highest mean accuracy for each number of shots, and the others against it.

    Rows that saw what they are evaluated on are left out, and those that read class names where
    others did not; the best one has at least half of the episodes that any of them has. Which row
    is the best was seen in the same episodes; a verdict therefore holds for every pair of rows
    (Bonferroni).
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
        others = [_against_best(rows, i, best, pairs, level) for i in means if i != best]
        found[shot] = Best(best, means[best], tuple(a for a in others if a is not None))
    return found


def _ranked(rows: Sequence[TableRow], shot: int | str) -> list[int]:
    """Places of the rows of a shot that may be ranked with each other."""
    fair = [i for i, row in enumerate(rows) if row.shot == shot and not row.seen]
    blind = [i for i in fair if not rows[i].uses_names]
    return blind or fair


def _against_best(
    rows: Sequence[TableRow], place: int, best: int, pairs: int, level: float
) -> Against | None:
    if not rows[place].accuracies.keys() & rows[best].accuracies.keys():
        return None
    difference, p = _compared(rows[place], rows[best], level)
    verdict = _verdict(difference, min(1.0, p * pairs), level)
    return Against(place, best, difference, verdict, few=_few(difference.n, pairs, level))


def _compared(row: TableRow, other: TableRow, level: float) -> tuple[Interval, float]:
    common = sorted(row.accuracies.keys() & other.accuracies.keys())
    a, b = ([r.accuracies[i] for i in common] for r in (row, other))
    shared = row.shared or other.shared
    difference = paired_difference(a, b, level, shared=shared)
    return difference, sign_flip([x - y for x, y in zip(a, b, strict=True)]).p


def _few(episodes: int, tests: int, level: float) -> bool:
    """Whether a sign-flip test of so many episodes can reach the level in so many tests at all."""
    return bool(2.0 ** (1 - episodes) * tests > 1 - level)


def _verdict(difference: Interval, p: float, level: float) -> Verdict:
    if p > 1 - level:
        return "open"
    return "better" if difference.mean > 0 else "worse"
