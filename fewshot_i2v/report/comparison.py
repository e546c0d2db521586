"""Which rows differ, over the same episodes, by how much, and whether that could be chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Literal

from fewshot_i2v.errors import UsageError
from fewshot_i2v.report._answers import share_clips
from fewshot_i2v.report._contenders import Contender, Pair
from fewshot_i2v.report._same import Asked, same_episodes
from fewshot_i2v.statistics.intervals import Interval
from fewshot_i2v.statistics.paired import (
    Paired,
    align,
    compare_paired,
    holm,
    mcnemar,
    smallest_visible,
)

Verdict = Literal["beats", "is worse than", "cannot be told apart from"]
_POWER = 0.8
_ROUNDING = 1e-12
_CLIPS_COVER = (
    "One episode, so it is over query clips: it covers other query clips of these classes with "
    "these support clips; not other support clips, new classes or another trained start."
)


@dataclass(frozen=True)
class Comparison:
    """One row against another over the same episodes.

    Attributes:
        row: the one.
        baseline: the other.
        name: what the one is called.
        baseline_name: what the other is called.
        unit: what the differences are of: "episode", or "clip" where there is a single episode.
        mean: mean accuracy of the row over the compared units, 0..1.
        baseline_mean: mean accuracy of the other.
        difference: mean of row - baseline with its interval.
        wins: units in which the row is better.
        ties: units in which both are equally good.
        losses: units in which the baseline is better.
        p: probability of such a difference where neither is better, as `test` computes it.
        test: sign-flip test or McNemar's, and how it was counted.
        p_holm: adjusted for the number of comparisons.
        visible: smallest true difference that this comparison would mostly (in 80 % of such runs)
            tell apart, at the level left to one of the comparisons; None where nothing can say.
        verdict: what holds at the level for the whole table.
        asked: the episodes compared.
        undecided: comparisons of the table without a verdict, this one among them.
    """

    row: Contender
    baseline: Contender
    name: str
    baseline_name: str
    unit: Literal["episode", "clip"]
    mean: float
    baseline_mean: float
    difference: Interval
    wins: int
    ties: int
    losses: int
    p: float
    test: str
    p_holm: float
    visible: float | None
    verdict: Verdict
    asked: Asked
    undecided: int = 0

    @property
    def changed(self) -> int:
        """Number of episodes or clips with a difference."""
        return self.wins + self.losses

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        plain = {
            key: getattr(self, key)
            for key in (
                "name", "baseline_name", "unit", "mean", "baseline_mean", "wins", "ties", "losses",
                "p", "test", "p_holm", "visible", "verdict",
            )
        }  # fmt: skip
        return plain | {
            "shot": self.row.row.shot,
            "folder": str(self.row.folder),
            "baseline_folder": str(self.baseline.folder),
            "training_seeds": self.row.seeds,
            "episodes": len(self.asked.indices),
            "left_out": self.asked.left_out,
            "across": list(self.asked.across),
            "difference": vars(self.difference),
        }


@dataclass(frozen=True)
class _Seen:
    """What a pair says by itself, before the number of comparisons is known."""

    asked: Asked
    unit: Literal["episode", "clip"]
    values: tuple[list[float], list[float]]
    paired: Paired
    p: float
    test: str


def compare_rows(
    pairs: Sequence[Pair],
    names: dict[Contender, str],
    *,
    level: float = 0.95,
    common: bool = False,
    across: Sequence[str] = (),
) -> list[Comparison]:
    """Compares rows, two at a time, as one family of tests.

    Over episodes p is that of the sign-flip test. A single episode has no spread: its query clips
    are compared instead, with McNemar's test. The adjusted p (Holm, 1979) decides: at the level of
    0.95, a verdict other than "cannot be told apart from" is wrong in at most one of twenty tables.

    Args:
        pairs: row and baseline of each comparison.
        names: what each row is called.
        level: of intervals and of the whole table, above 0 and below 1.
        common: compare the episodes that both have where one has more.
        across: keys that may differ, such as "video.frames".

    Returns:
        As many comparisons, in the same order.

    Raises:
        UsageError: when there is no pair, two rows were not asked the same, or the level is out of
            range.
    """
    if not pairs:
        raise UsageError("nothing to compare; expected at least one pair of rows")
    seen = [_seen(*pair, level=level, common=common, across=across) for pair in pairs]
    adjusted = holm([one.p for one in seen])
    found = [
        _comparison(pair, names, one, p, 1 - (1 - level) / len(pairs), level)
        for pair, one, p in zip(pairs, seen, adjusted, strict=True)
    ]
    undecided = sum(one.verdict == "cannot be told apart from" for one in found)
    return [replace(one, undecided=undecided) for one in found]


def _seen(
    row: Contender, baseline: Contender, *, level: float, common: bool, across: Sequence[str]
) -> _Seen:
    asked = same_episodes(row, baseline, common=common, across=across)
    if len(asked.indices) == 1:
        return _over_clips(row, baseline, asked, level)
    _, a, b = align(_accuracies(row, asked), _accuracies(baseline, asked))
    shared = not row.apart or share_clips(row.answers[i] for i in asked.indices)
    paired = compare_paired(a, b, level, shared=shared)
    return _Seen(
        asked, "episode", (a, b), paired, paired.test.p, f"sign-flip, {paired.test.method}"
    )


def _over_clips(row: Contender, baseline: Contender, asked: Asked, level: float) -> _Seen:
    """The one episode that both have, query clip by query clip."""
    clips, a = row.answers[asked.indices[0]].clips()
    _, b = baseline.answers[asked.indices[0]].clips()
    paired = compare_paired(a, b, level)
    paired = replace(paired, difference=replace(paired.difference, covers=_CLIPS_COVER))
    if {*a, *b} <= {0.0, 1.0}:
        test = mcnemar(clips, a, clips, b)
        return _Seen(asked, "clip", (a, b), paired, test.p, test.method)
    return _Seen(asked, "clip", (a, b), paired, paired.test.p, f"sign-flip, {paired.test.method}")


def _accuracies(contender: Contender, asked: Asked) -> dict[int, float]:
    found = ((i, contender.answers[i].accuracy) for i in asked.indices)
    return {i: accuracy for i, accuracy in found if accuracy is not None}


def _comparison(
    pair: Pair, names: dict[Contender, str], seen: _Seen, p_holm: float, strict: float, level: float
) -> Comparison:
    row, baseline = pair
    a, b = seen.values
    difference = seen.paired.difference
    verdict: Verdict = "cannot be told apart from"
    if p_holm <= 1 - level + _ROUNDING:
        verdict = "beats" if difference.mean > 0 else "is worse than"
    return Comparison(
        row=row,
        baseline=baseline,
        name=names[row],
        baseline_name=names[baseline],
        unit=seen.unit,
        mean=fmean(a),
        baseline_mean=fmean(b),
        difference=difference,
        wins=seen.paired.wins,
        ties=seen.paired.ties,
        losses=seen.paired.losses,
        p=seen.p,
        test=seen.test,
        p_holm=p_holm,
        visible=smallest_visible([x - y for x, y in zip(a, b, strict=True)], strict, _POWER),
        verdict=verdict,
        asked=seen.asked,
    )
