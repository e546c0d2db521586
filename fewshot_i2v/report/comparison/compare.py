"""Comparison of rows over the same episodes: differences, tests and verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Literal

from fewshot_i2v.errors import UsageError
from fewshot_i2v.report.analysis.generalization import jackknife_gain
from fewshot_i2v.report.comparison.baselines import ComparedRow, RowPair
from fewshot_i2v.report.comparison.episode_match import SharedEpisodes, match_episodes
from fewshot_i2v.runs.fast_reader import build_prediction_table, replace_predictions, share_clips
from fewshot_i2v.statistics.intervals import Interval, Unit
from fewshot_i2v.statistics.paired_tests import (
    PairedComparison,
    common_episodes,
    compare_paired,
    mcnemar,
    minimum_detectable_difference,
)
from fewshot_i2v.statistics.predictions import PredictionTable
from fewshot_i2v.statistics.verdicts import (
    DifferenceTest,
    Verdict,
    decide_verdicts,
    per_comparison_level,
)

VerdictText = Literal["beats", "is worse than", "cannot be told apart from"]
_VERDICT_TEXTS: tuple[VerdictText, ...] = ("cannot be told apart from", "beats", "is worse than")
_POWER = 0.8
THESE_CLIPS, THESE_SUPPORT_CLIPS, OTHER_CLIPS_OF_CLASSES = (
    "these clips",
    "these support clips",
    "other clips of these classes",
)
"""What a verdict covers: the first, or the second for a single episode; the last besides."""


def clips_clause(unit: Unit, *, on_other_clips: bool) -> str:
    """Clause on which clips a verdict holds.

    Args:
        unit: what was compared.
        on_other_clips: whether it also holds on other clips of these classes.
    """
    clause = f"with {THESE_SUPPORT_CLIPS}" if unit == "clip" else f"on {THESE_CLIPS}"
    return f"{clause} and on {OTHER_CLIPS_OF_CLASSES}" if on_other_clips else clause


def other_clips_clause(unit: Unit, *, on_other_clips: bool, ends: str) -> str:
    """Clause on other clips that a verdict does not cover; empty where it covers them.

    Args:
        unit: what was compared.
        on_other_clips: whether the verdict also holds on other clips of these classes.
        ends: of the interval of the difference on other clips; empty where there is none.
    """
    if on_other_clips or unit == "clip":
        return ""
    if not ends:
        return "; what other clips would show is not known"
    return f"; on other clips the difference may be another, {ends}"


_OutcomesCache = dict[tuple[ComparedRow | None, tuple[int, ...]], list[PredictionTable]]


@dataclass(frozen=True)
class RowComparison:
    """One row against a baseline over the same episodes.

    Attributes:
        row: the row.
        baseline: the row that it is compared with.
        name: display name of the row.
        baseline_name: display name of the baseline.
        unit: what the differences are of: "episode", or "clip" where there is a single episode.
        mean: mean accuracy of the row over the compared units, 0..1.
        baseline_mean: mean accuracy of the baseline.
        difference: mean of row - baseline with its interval.
        other_clips: the same with an interval for other clips of these classes; None where the
            answers to single clips are not known.
        holds_on_other_clips: whether the verdict also holds on other clips of these classes.
        wins: units in which the row is better.
        ties: units in which both are equally good.
        losses: units in which the baseline is better.
        p: probability of such a difference where neither is better, as `test` computes it.
        test: sign-flip test or McNemar's, and how it was counted.
        p_holm: adjusted for the number of comparisons.
        visible: smallest true difference that this comparison would mostly (in 80 % of such runs)
            detect, at the level left to one of the comparisons; None where nothing can say.
        verdict: what holds at the level for the complete table; `covers` says on which clips.
        shared_episodes: the episodes compared.
        n_undecided: comparisons of the table without a verdict, this one among them.
    """

    row: ComparedRow
    baseline: ComparedRow
    name: str
    baseline_name: str
    unit: Unit
    mean: float
    baseline_mean: float
    difference: Interval
    other_clips: Interval | None
    holds_on_other_clips: bool
    wins: int
    ties: int
    losses: int
    p: float
    test: str
    p_holm: float
    visible: float | None
    verdict: VerdictText
    shared_episodes: SharedEpisodes
    n_undecided: int = 0

    @property
    def n_changed(self) -> int:
        """Number of episodes or clips with a difference."""
        return self.wins + self.losses

    @property
    def covers(self) -> tuple[str, ...]:
        """Clips on which the verdict holds."""
        return (
            THESE_CLIPS if self.unit == "episode" else THESE_SUPPORT_CLIPS,
            *([OTHER_CLIPS_OF_CLASSES] if self.holds_on_other_clips else []),
        )

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
            "shot": self.row.table_row.shot,
            "folder": str(self.row.folder),
            "baseline_folder": str(self.baseline.folder),
            "training_seeds": self.row.n_seeds,
            "episodes": len(self.shared_episodes.indices),
            "left_out": self.shared_episodes.n_excluded,
            "across": list(self.shared_episodes.across),
            "difference": vars(self.difference),
            "other_clips": None if self.other_clips is None else vars(self.other_clips),
            "verdict_covers": list(self.covers),
        }


@dataclass(frozen=True)
class _ComparedPair:
    """Test of a pair of rows, before the number of comparisons is known."""

    shared_episodes: SharedEpisodes
    unit: Unit
    values: tuple[list[float], list[float]]
    paired: PairedComparison
    p: float
    test: str

    def to_difference_test(
        self, row: ComparedRow, baseline: ComparedRow, cache: _OutcomesCache
    ) -> DifferenceTest:
        """Convert to the form that decides on a verdict."""
        row_outcomes, baseline_outcomes = (
            _seed_outcomes(member, self.shared_episodes.indices, cache)
            for member in (row, baseline)
        )
        return DifferenceTest(
            self.paired.difference.mean, self.p, jackknife_gain(row_outcomes, baseline_outcomes)
        )


def compare_rows(
    pairs: Sequence[RowPair],
    names: dict[ComparedRow, str],
    *,
    level: float = 0.95,
    common: bool = False,
    across: Sequence[str] = (),
) -> list[RowComparison]:
    """Compare rows, two at a time, as one family of tests.

    Over episodes p is that of the sign-flip test. A single episode has no spread: its query clips
    are compared instead, with McNemar's test. The adjusted p (Holm, 1979) decides: at the level of
    0.95, a verdict other than "cannot be told apart from" is wrong on these clips in at most one of
    twenty tables, and so is one that covers other clips of these classes, as
    `fewshot_i2v.statistics.verdicts` says.

    Args:
        pairs: row and baseline of each comparison.
        names: display name of each row.
        level: of intervals and of the table as a family, above 0 and below 1.
        common: compare the episodes that both have where one has more.
        across: keys that may differ, such as "video.frames".

    Returns:
        As many comparisons, in the same order.

    Raises:
        UsageError: when there is no pair, two rows have different episodes, or the level is out of
            range.
    """
    if not pairs:
        raise UsageError("nothing to compare; expected at least one pair of rows")
    compared_pairs = [
        _compare_pair(*pair, level=level, common=common, across=across) for pair in pairs
    ]
    cache: _OutcomesCache = {}
    decided = decide_verdicts(
        [
            item.to_difference_test(*members, cache)
            for members, item in zip(pairs, compared_pairs, strict=True)
        ],
        level,
    )
    comparisons = [
        _row_comparison(pair, names, item, verdict, per_comparison_level(level, len(pairs)))
        for pair, item, verdict in zip(pairs, compared_pairs, decided, strict=True)
    ]
    undecided = sum(item.verdict == _VERDICT_TEXTS[0] for item in comparisons)
    return [replace(item, n_undecided=undecided) for item in comparisons]


def _compare_pair(
    row: ComparedRow, baseline: ComparedRow, *, level: float, common: bool, across: Sequence[str]
) -> _ComparedPair:
    shared_episodes = match_episodes(row, baseline, common=common, across=across)
    if len(shared_episodes.indices) == 1:
        return _compare_clips(row, baseline, shared_episodes, level)
    _, a, b = common_episodes(
        _accuracies_by_episode(row, shared_episodes),
        _accuracies_by_episode(baseline, shared_episodes),
    )
    clips_shared = not row.disjoint or share_clips(row.answers[i] for i in shared_episodes.indices)
    paired = compare_paired(a, b, level, clips_shared=clips_shared)
    return _ComparedPair(
        shared_episodes,
        "episode",
        (a, b),
        paired,
        paired.test.p,
        f"sign-flip, {paired.test.method}",
    )


def _compare_clips(
    row: ComparedRow, baseline: ComparedRow, shared_episodes: SharedEpisodes, level: float
) -> _ComparedPair:
    """Compare the query clips of the only episode that both have."""
    clips, a = row.answers[shared_episodes.indices[0]].query_results()
    _, b = baseline.answers[shared_episodes.indices[0]].query_results()
    paired = compare_paired(a, b, level, unit="clip")
    if {*a, *b} <= {0.0, 1.0}:
        test = mcnemar(clips, a, clips, b)
        return _ComparedPair(shared_episodes, "clip", (a, b), paired, test.p, test.method)
    return _ComparedPair(
        shared_episodes, "clip", (a, b), paired, paired.test.p, f"sign-flip, {paired.test.method}"
    )


def _accuracies_by_episode(row: ComparedRow, shared_episodes: SharedEpisodes) -> dict[int, float]:
    values = ((i, row.answers[i].accuracy) for i in shared_episodes.indices)
    return {i: accuracy for i, accuracy in values if accuracy is not None}


def _seed_outcomes(
    row: ComparedRow, indices: list[int], cache: _OutcomesCache
) -> list[PredictionTable]:
    """Predictions of each training seed; those that were read before are not read again."""
    key, template_key = (row, tuple(indices)), (None, tuple(indices))
    if key not in cache:
        answers = {i: row.answers[i] for i in indices}
        # rows were asked the same, so that only their predictions differ
        if template_key not in cache:
            cache[template_key] = [build_prediction_table(answers)]
        (template,) = cache[template_key]
        seeds = len(answers[indices[0]].prediction_texts)
        cache[key] = [replace_predictions(template, answers, seed) for seed in range(seeds)]
    return cache[key]


def _row_comparison(
    pair: RowPair,
    names: dict[ComparedRow, str],
    compared: _ComparedPair,
    verdict: Verdict,
    strict_level: float,
) -> RowComparison:
    row, baseline = pair
    a, b = compared.values
    return RowComparison(
        row=row,
        baseline=baseline,
        name=names[row],
        baseline_name=names[baseline],
        unit=compared.unit,
        mean=fmean(a),
        baseline_mean=fmean(b),
        difference=compared.paired.difference,
        other_clips=verdict.other_clips,
        holds_on_other_clips=verdict.holds_on_other_clips,
        wins=compared.paired.wins,
        ties=compared.paired.ties,
        losses=compared.paired.losses,
        p=compared.p,
        test=compared.test,
        p_holm=verdict.p,
        visible=minimum_detectable_difference(
            [x - y for x, y in zip(a, b, strict=True)], strict_level, _POWER
        ),
        verdict=_VERDICT_TEXTS[verdict.sign],
        shared_episodes=compared.shared_episodes,
    )
