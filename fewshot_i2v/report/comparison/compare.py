"""Which rows differ, over the same episodes, by how much, and whether that could be chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Literal

from fewshot_i2v.errors import UsageError
from fewshot_i2v.report.analysis.generalization import gain_over_clips
from fewshot_i2v.report.comparison.baselines import Contender, Pair
from fewshot_i2v.report.comparison.episode_match import Asked, same_episodes
from fewshot_i2v.runs.fast_reader import guessed, outcomes_of, share_clips
from fewshot_i2v.statistics.intervals import Interval, Unit
from fewshot_i2v.statistics.paired_tests import (
    Paired,
    align,
    compare_paired,
    mcnemar,
    smallest_visible,
)
from fewshot_i2v.statistics.predictions import Outcomes
from fewshot_i2v.statistics.verdicts import Seen, Verdict, each_level, verdicts

Words = Literal["beats", "is worse than", "cannot be told apart from"]
_WORDS: tuple[Words, ...] = ("cannot be told apart from", "beats", "is worse than")
_POWER = 0.8
HERE, WITH_SUPPORT, ALSO = "these clips", "these support clips", "other clips of these classes"
"""What a verdict covers: the first, or the second for a single episode; the last besides."""


def where(unit: Unit, *, also: bool) -> str:
    """On which clips a verdict holds, as a part of a sentence.

    Args:
        unit: what was compared.
        also: whether it holds on other clips of these classes, too.
    """
    here = f"with {WITH_SUPPORT}" if unit == "clip" else f"on {HERE}"
    return f"{here} and on {ALSO}" if also else here


def elsewhere(unit: Unit, *, also: bool, ends: str) -> str:
    """What a verdict leaves open of other clips, to be put behind it; empty where nothing.

    Args:
        unit: what was compared.
        also: whether the verdict holds on other clips of these classes, too.
        ends: of the interval of the difference on other clips; empty where there is none.
    """
    if also or unit == "clip":
        return ""
    if not ends:
        return "; what other clips would show is not known"
    return f"; on other clips the difference may be another, {ends}"


_Known = dict[tuple[Contender | None, tuple[int, ...]], list[Outcomes]]


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
        other_clips: the same with an interval for other clips of these classes; None where the
            answers to single clips are not known.
        also: whether the verdict holds on other clips of these classes, too.
        wins: units in which the row is better.
        ties: units in which both are equally good.
        losses: units in which the baseline is better.
        p: probability of such a difference where neither is better, as `test` computes it.
        test: sign-flip test or McNemar's, and how it was counted.
        p_holm: adjusted for the number of comparisons.
        visible: smallest true difference that this comparison would mostly (in 80 % of such runs)
            tell apart, at the level left to one of the comparisons; None where nothing can say.
        verdict: what holds at the level for the whole table; `covers` says on which clips.
        asked: the episodes compared.
        undecided: comparisons of the table without a verdict, this one among them.
    """

    row: Contender
    baseline: Contender
    name: str
    baseline_name: str
    unit: Unit
    mean: float
    baseline_mean: float
    difference: Interval
    other_clips: Interval | None
    also: bool
    wins: int
    ties: int
    losses: int
    p: float
    test: str
    p_holm: float
    visible: float | None
    verdict: Words
    asked: Asked
    undecided: int = 0

    @property
    def changed(self) -> int:
        """Number of episodes or clips with a difference."""
        return self.wins + self.losses

    @property
    def covers(self) -> tuple[str, ...]:
        """On which clips the verdict holds."""
        return (HERE if self.unit == "episode" else WITH_SUPPORT, *([ALSO] if self.also else []))

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
            "other_clips": None if self.other_clips is None else vars(self.other_clips),
            "verdict_covers": list(self.covers),
        }


@dataclass(frozen=True)
class _Seen:
    """What a pair says by itself, before the number of comparisons is known."""

    asked: Asked
    unit: Unit
    values: tuple[list[float], list[float]]
    paired: Paired
    p: float
    test: str

    def judged(self, row: Contender, baseline: Contender, known: _Known) -> Seen:
        """The same as what decides on a verdict."""
        one, other = (_outcomes(c, self.asked.indices, known) for c in (row, baseline))
        return Seen(self.paired.difference.mean, self.p, gain_over_clips(one, other))


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
    0.95, a verdict other than "cannot be told apart from" is wrong on these clips in at most one of
    twenty tables, and so is one that covers other clips of these classes, as
    `fewshot_i2v.statistics.verdicts` says.

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
    known: _Known = {}
    made = verdicts([one.judged(*p, known) for p, one in zip(pairs, seen, strict=True)], level)
    found = [
        _comparison(pair, names, one, verdict, each_level(level, len(pairs)))
        for pair, one, verdict in zip(pairs, seen, made, strict=True)
    ]
    undecided = sum(one.verdict == _WORDS[0] for one in found)
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
    paired = compare_paired(a, b, level, unit="clip")
    if {*a, *b} <= {0.0, 1.0}:
        test = mcnemar(clips, a, clips, b)
        return _Seen(asked, "clip", (a, b), paired, test.p, test.method)
    return _Seen(asked, "clip", (a, b), paired, paired.test.p, f"sign-flip, {paired.test.method}")


def _accuracies(contender: Contender, asked: Asked) -> dict[int, float]:
    found = ((i, contender.answers[i].accuracy) for i in asked.indices)
    return {i: accuracy for i, accuracy in found if accuracy is not None}


def _outcomes(contender: Contender, indices: list[int], known: _Known) -> list[Outcomes]:
    """Of each training seed; what was read already is not read again."""
    key, of_all = (contender, tuple(indices)), (None, tuple(indices))
    if key not in known:
        answers = {i: contender.answers[i] for i in indices}
        # rows were asked the same, so that only their predictions differ
        if of_all not in known:
            known[of_all] = [outcomes_of(answers)]
        (asked,) = known[of_all]
        seeds = len(answers[indices[0]].guesses)
        known[key] = [guessed(asked, answers, seed) for seed in range(seeds)]
    return known[key]


def _comparison(
    pair: Pair, names: dict[Contender, str], seen: _Seen, verdict: Verdict, strict: float
) -> Comparison:
    row, baseline = pair
    a, b = seen.values
    return Comparison(
        row=row,
        baseline=baseline,
        name=names[row],
        baseline_name=names[baseline],
        unit=seen.unit,
        mean=fmean(a),
        baseline_mean=fmean(b),
        difference=seen.paired.difference,
        other_clips=verdict.other_clips,
        also=verdict.also,
        wins=seen.paired.wins,
        ties=seen.paired.ties,
        losses=seen.paired.losses,
        p=seen.p,
        test=seen.test,
        p_holm=verdict.p,
        visible=smallest_visible([x - y for x, y in zip(a, b, strict=True)], strict, _POWER),
        verdict=_WORDS[verdict.sign],
        asked=seen.asked,
    )
