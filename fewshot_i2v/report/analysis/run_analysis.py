"""Analysis of a run beyond its accuracies: classes, confusions and single episodes."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.statistics import Interval, bounded_interval
from fewshot_i2v.statistics.calibration import Calibration, ReliabilityCurve
from fewshot_i2v.statistics.metrics import brier_score, log_loss
from fewshot_i2v.statistics.predictions import PredictionTable

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
_MAX_CONFUSIONS = 8
_MAX_EXTREMES = 2
"""Of the hardest and of the easiest episodes."""


@dataclass(frozen=True, eq=False)
class RunAnalysis:
    """Classes, confusions, calibration and extreme episodes of a run, or of its training seeds.

    Attributes:
        classes: names, sorted; C of them.
        recalls: for each class, the share of its query clips that were right, 0..1, in each episode
            that has it.
        opportunities: number of query clips of a class (row) in episodes where another (column)
            could have been predicted, (C, C).
        confusion_counts: how many of them were taken for it, (C, C).
        hardest: records of the episodes with the lowest accuracy, the lowest first.
        easiest: records of those with the highest, the highest first.
        calibration: confidences and right answers; None where no episode succeeded.
        log_loss: as `fewshot_i2v.statistics.metrics.log_loss` returns it.
        brier: as `fewshot_i2v.statistics.metrics.brier_score` returns it.
        unresolved: predictions whose label has a recorded probability of 0.
        outcomes: of each training seed, of the same episodes.
    """

    classes: tuple[str, ...] = ()
    recalls: tuple[FloatArray, ...] = field(default=(), repr=False)
    opportunities: FloatArray = field(default_factory=lambda: np.zeros((0, 0)), repr=False)
    confusion_counts: FloatArray = field(default_factory=lambda: np.zeros((0, 0)), repr=False)
    hardest: tuple[EpisodeRecord, ...] = field(default=(), repr=False)
    easiest: tuple[EpisodeRecord, ...] = field(default=(), repr=False)
    calibration: Calibration | None = field(default=None, repr=False)
    log_loss: float = np.nan
    brier: float = np.nan
    unresolved: int = 0
    outcomes: tuple[PredictionTable, ...] = field(default=(), repr=False)

    @classmethod
    def from_records(
        cls,
        records: Mapping[int, EpisodeRecord] | Iterable[EpisodeRecord],
        *,
        on_record: Callable[[EpisodeRecord], object] | None = None,
    ) -> RunAnalysis:
        """Analyse the records of a run; those that failed are left out.

        Args:
            records: in any order; or by number in ascending order, as a run folder yields them:
                then one at a time is in memory.
            on_record: called with each record, since reading them takes time.
        """
        if not isinstance(records, Mapping):
            records = {r.index: r for r in sorted(records, key=lambda record: record.index)}
        all_probabilities = array("d")

        def _collect() -> Iterator[EpisodeRecord]:
            for record in records.values():
                all_probabilities.fromlist([*chain.from_iterable(record.probabilities)])
                if on_record is not None:
                    on_record(record)
                yield record

        outcomes = PredictionTable.from_records(_collect())
        if not len(outcomes):
            return cls()
        label_probability = np.bincount(outcomes.episode, outcomes.probability) / outcomes.queries
        # where accuracies are equal, the one that was surer of what is wrong is the harder one
        order = np.lexsort((outcomes.index, label_probability, outcomes.accuracies))
        # with few episodes none is shown as both
        n_shown = min(_MAX_EXTREMES, len(order) // 2)
        hardest, easiest = order[:n_shown], order[::-1][:n_shown]
        class_order = sorted(range(len(outcomes.classes)), key=lambda code: outcomes.classes[code])
        rank = np.argsort(np.array(class_order, dtype=np.int64))
        return cls(
            classes=tuple(outcomes.classes[code] for code in class_order),
            recalls=_episode_recalls(outcomes, rank),
            opportunities=_opportunity_counts(outcomes, rank),
            confusion_counts=_confusion_counts(outcomes, rank),
            hardest=tuple(records[int(outcomes.index[i])] for i in hardest),
            easiest=tuple(records[int(outcomes.index[i])] for i in easiest),
            calibration=Calibration.from_outcomes(outcomes),
            log_loss=log_loss(outcomes),
            brier=brier_score(outcomes.probability, np.frombuffer(all_probabilities)),
            unresolved=int((outcomes.probability == 0).sum()),
            outcomes=(outcomes,),
        )

    @classmethod
    def merge_seeds(cls, analyses: Sequence[RunAnalysis]) -> RunAnalysis:
        """Merge the analyses of training seeds; the extreme episodes are those of the first.

        Seeds that have not all of the first one's episodes yet are left out.
        """
        reference = analyses[0]
        complete = [
            analysis
            for analysis in analyses
            if analysis.classes == reference.classes
            and analysis._episode_counts == reference._episode_counts
        ]
        calibrations = [
            analysis.calibration for analysis in complete if analysis.calibration is not None
        ]
        return replace(
            reference,
            recalls=tuple(
                np.asarray(np.mean(of_class, axis=0), dtype=np.float64)
                for of_class in zip(*(analysis.recalls for analysis in complete), strict=True)
            ),
            opportunities=sum(
                (analysis.opportunities for analysis in complete),
                np.zeros_like(reference.opportunities),
            ),
            confusion_counts=sum(
                (analysis.confusion_counts for analysis in complete),
                np.zeros_like(reference.confusion_counts),
            ),
            calibration=Calibration.pooled(calibrations) if calibrations else None,
            log_loss=float(np.mean([analysis.log_loss for analysis in complete])),
            brier=float(np.mean([analysis.brier for analysis in complete])),
            unresolved=sum(analysis.unresolved for analysis in complete),
            outcomes=tuple(
                outcomes
                for analysis in complete
                for outcomes in analysis.outcomes
                if reference.outcomes[0].has_same_episodes(outcomes)
            ),
        )

    @property
    def balanced_accuracy(self) -> float:
        """Mean of the recalls of the classes, 0..1; guessing gives 1 / way as for the accuracy.

        The accuracy counts a class as often as the sampler drew it; here each counts once
        (Brodersen et al., "The balanced accuracy and its posterior distribution", ICPR 2010,
        https://doi.org/10.1109/ICPR.2010.764).
        """
        queries = self.confusion_counts.sum(axis=1)
        correct = np.diagonal(self.confusion_counts)
        return float(np.mean(correct[queries > 0] / queries[queries > 0]))

    @property
    def _episode_counts(self) -> list[int]:
        return [len(values) for values in self.recalls]

    def confusion_rates(self) -> FloatArray:
        """Rate at which a class (row) was taken for another (column) where both were there, (C, C).

        NaN where they were never in one episode.
        """
        opportunities = np.where(self.opportunities > 0, self.opportunities, np.nan)
        return np.asarray(self.confusion_counts / opportunities, dtype=np.float64)

    def top_confusions(self) -> list[tuple[str, str, float, int]]:
        """Most frequent confusions: class, predicted class, rate, and number of query clips."""
        rates = np.nan_to_num(self.confusion_rates())
        np.fill_diagonal(rates, 0)
        positions = np.argsort(-rates, axis=None, kind="stable")[:_MAX_CONFUSIONS].tolist()
        pairs = [divmod(position, len(self.classes)) for position in positions]
        return [
            (self.classes[a], self.classes[b], float(rates[a, b]), int(self.opportunities[a, b]))
            for a, b in pairs
            if rates[a, b] >= 0.005
        ]

    def class_intervals(self, level: float, *, clips_shared: bool) -> dict[str, Interval]:
        """Mean share of right query clips of each class over its episodes, with intervals."""
        return {
            name: bounded_interval(values.tolist(), level, clips_shared=clips_shared)
            for name, values in zip(self.classes, self.recalls, strict=True)
            if len(values)
        }


def _episode_recalls(outcomes: PredictionTable, rank: IntArray) -> tuple[FloatArray, ...]:
    """For each class, its share of right query clips in each episode that has it."""
    n_classes, label = len(rank), rank[outcomes.label]
    cells, cell_index = np.unique(outcomes.episode * n_classes + label, return_inverse=True)
    shares = np.bincount(cell_index, outcomes.correct) / np.bincount(cell_index)
    # cells are in the order of the episodes, so those of a class are too
    return tuple(shares[cells % n_classes == code] for code in range(n_classes))


def _opportunity_counts(outcomes: PredictionTable, rank: IntArray) -> FloatArray:
    """Count query clips of a class (row) where another (column) was in the episode, (C, C)."""
    shape = (len(outcomes), len(rank))
    queries, present = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    np.add.at(queries, (outcomes.episode, rank[outcomes.label]), 1)
    present[outcomes.member_episode, rank[outcomes.member_class]] = 1
    return (queries.T @ present).astype(np.float64)


def _confusion_counts(outcomes: PredictionTable, rank: IntArray) -> FloatArray:
    """Count query clips of a class (row) that were taken for another (column), (C, C)."""
    n_classes = len(rank)
    cells = rank[outcomes.label] * n_classes + rank[outcomes.predicted]
    counts = np.bincount(cells, minlength=n_classes * n_classes).astype(np.float64)
    return counts.reshape(n_classes, n_classes)


@dataclass(frozen=True)
class CalibrationMetrics:
    """Metrics of a row, or of several training seeds together.

    Attributes:
        ece: expected calibration error with its interval, 0..1. Of several training seeds it is
            the mean of theirs: predictions of the same clips are not independent, and with equal
            seeds it is that of one.
        by_chance: approximate error of a perfectly calibrated row, 0..1; the mean over training
            seeds too.
        over_confident: mean confidence minus share of right predictions, -1..1.
        balanced: mean over classes of the share of their query clips that were right, 0..1.
        log_loss: mean of -ln(probability of the label), in nats.
        brier: mean squared distance of the probabilities to the right answer, 0..2.
        unresolved: predictions whose label has a recorded probability of 0; with any, `log_loss`
            is a lower bound.
        predictions: number of predictions.
        curve: the reliability curve.
    """

    ece: Interval
    by_chance: float
    over_confident: float
    balanced: float
    log_loss: float
    brier: float
    unresolved: int
    predictions: int
    curve: ReliabilityCurve = field(repr=False)


def calibration_metrics(analysis: RunAnalysis, level: float) -> CalibrationMetrics | None:
    """Compute the metrics of a row; None where no episode succeeded."""
    calibration = analysis.calibration
    if calibration is None:
        return None
    seeds = [Calibration.from_outcomes(outcomes) for outcomes in analysis.outcomes] or [calibration]
    return CalibrationMetrics(
        ece=_mean_interval([seed.interval(level) for seed in seeds]),
        by_chance=fmean(seed.expected_if_calibrated for seed in seeds),
        over_confident=calibration.mean_confidence - calibration.accuracy,
        balanced=analysis.balanced_accuracy,
        log_loss=analysis.log_loss,
        brier=analysis.brier,
        unresolved=analysis.unresolved,
        predictions=calibration.predictions,
        curve=calibration.curve,
    )


def _mean_interval(seeds: Sequence[Interval]) -> Interval:
    """Means of the errors and of their ends.

    The interval is never too narrow for that: a mean of several errors spreads at most as much as
    they do on average, which it does where they are equal.
    """
    lows = [seed.low for seed in seeds if seed.low is not None]
    highs = [seed.high for seed in seeds if seed.high is not None]
    complete = len(lows) == len(highs) == len(seeds)
    return replace(
        seeds[0],
        mean=fmean(seed.mean for seed in seeds),
        low=fmean(lows) if complete else None,
        high=fmean(highs) if complete else None,
    )
