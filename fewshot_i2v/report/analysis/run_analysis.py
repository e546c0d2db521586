"""What a page shows of a run beyond its accuracies: classes, confusions and single episodes."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.statistics import Interval, Outcomes, bounded_interval, log_loss
from fewshot_i2v.statistics.calibration import Calibration, Reliability
from fewshot_i2v.statistics.metrics import brier_of

Numbers = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Findings:
    """Classes, confusions, calibration and extreme episodes of a run, or of its training seeds.

    Attributes:
        classes: names, sorted; C of them.
        recalls: for each class, the share of its query clips that were right, 0..1, in each episode
            that has it.
        asked: how many query clips of a class (row) were asked where another (column) could have
            been predicted, (C, C).
        taken: how many of them were taken for it, (C, C).
        hardest: records of the episodes with the lowest accuracy, the lowest first.
        easiest: records of those with the highest, the highest first.
        calibration: confidences and right answers; None where no episode succeeded.
        log_loss: as `fewshot_i2v.statistics.log_loss` gives it.
        brier: as `fewshot_i2v.statistics.brier_score` gives it.
        unresolved: predictions whose label has a recorded probability of 0.
        outcomes: of each training seed, of the same episodes.
    """

    classes: tuple[str, ...] = ()
    recalls: tuple[Numbers, ...] = field(default=(), repr=False)
    asked: Numbers = field(default_factory=lambda: np.zeros((0, 0)), repr=False)
    taken: Numbers = field(default_factory=lambda: np.zeros((0, 0)), repr=False)
    hardest: tuple[EpisodeRecord, ...] = field(default=(), repr=False)
    easiest: tuple[EpisodeRecord, ...] = field(default=(), repr=False)
    calibration: Calibration | None = field(default=None, repr=False)
    log_loss: float = np.nan
    brier: float = np.nan
    unresolved: int = 0
    outcomes: tuple[Outcomes, ...] = field(default=(), repr=False)

    @classmethod
    def from_records(
        cls,
        records: Mapping[int, EpisodeRecord] | Iterable[EpisodeRecord],
        *,
        extremes: int = 2,
        also: Callable[[EpisodeRecord], object] | None = None,
    ) -> Findings:
        """Sums up records; those that failed are left out.

        Args:
            records: in any order; or by number in ascending order, as a run folder gives them:
                then one at a time is in memory.
            extremes: how many of the hardest and of the easiest episodes are kept.
            also: called with each record, since reading them takes time.
        """
        if not isinstance(records, Mapping):
            records = {r.index: r for r in sorted(records, key=lambda record: record.index)}
        every = array("d")

        def _passing() -> Iterator[EpisodeRecord]:
            for record in records.values():
                every.fromlist([*chain.from_iterable(record.probabilities)])
                if also is not None:
                    also(record)
                yield record

        outcomes = Outcomes.from_records(_passing())
        if not len(outcomes):
            return cls()
        sure = np.bincount(outcomes.episode, outcomes.probability) / outcomes.queries
        # where accuracies are equal, the one that was surer of what is wrong is the harder one
        order = np.lexsort((outcomes.index, sure, outcomes.accuracies))
        # with few episodes none is shown as both
        count = min(extremes, len(order) // 2)
        hardest, easiest = order[:count], order[::-1][:count]
        names = sorted(range(len(outcomes.classes)), key=lambda code: outcomes.classes[code])
        rank = np.argsort(np.array(names, dtype=np.int64))
        return cls(
            classes=tuple(outcomes.classes[code] for code in names),
            recalls=_recalls(outcomes, rank),
            asked=_asked(outcomes, rank),
            taken=_taken(outcomes, rank),
            hardest=tuple(records[int(outcomes.index[i])] for i in hardest),
            easiest=tuple(records[int(outcomes.index[i])] for i in easiest),
            calibration=Calibration.of(outcomes),
            log_loss=log_loss(outcomes),
            brier=brier_of(outcomes.probability, np.frombuffer(every)),
            unresolved=int((outcomes.probability == 0).sum()),
            outcomes=(outcomes,),
        )

    @classmethod
    def merged(cls, several: Sequence[Findings]) -> Findings:
        """Those of several training seeds together; the extreme episodes are those of the first.

        Seeds that have not all of the first one's episodes yet are left out.
        """
        first = several[0]
        alike = [f for f in several if f.classes == first.classes and f._sizes == first._sizes]
        judged = [f.calibration for f in alike if f.calibration is not None]
        return replace(
            first,
            recalls=tuple(
                np.asarray(np.mean(of_class, axis=0), dtype=np.float64)
                for of_class in zip(*(f.recalls for f in alike), strict=True)
            ),
            asked=sum((f.asked for f in alike), np.zeros_like(first.asked)),
            taken=sum((f.taken for f in alike), np.zeros_like(first.taken)),
            calibration=Calibration.pooled(judged) if judged else None,
            log_loss=float(np.mean([f.log_loss for f in alike])),
            brier=float(np.mean([f.brier for f in alike])),
            unresolved=sum(f.unresolved for f in alike),
            outcomes=tuple(
                o for f in alike for o in f.outcomes if first.outcomes[0].same_episodes(o)
            ),
        )

    @property
    def balanced_accuracy(self) -> float:
        """Mean of the recalls of the classes, as `fewshot_i2v.statistics.balanced_accuracy`."""
        asked = self.taken.sum(axis=1)
        right = np.diagonal(self.taken)
        return float(np.mean(right[asked > 0] / asked[asked > 0]))

    @property
    def _sizes(self) -> list[int]:
        return [len(values) for values in self.recalls]

    def rates(self) -> Numbers:
        """How often a class (row) was taken for another (column) where both were there, (C, C).

        NaN where they never met.
        """
        met = np.where(self.asked > 0, self.asked, np.nan)
        return np.asarray(self.taken / met, dtype=np.float64)

    def confusions(self, most: int = 8) -> list[tuple[str, str, float, int]]:
        """The most frequent confusions: class, what it was taken for, how often, of how many."""
        rates = np.nan_to_num(self.rates())
        np.fill_diagonal(rates, 0)
        places = np.argsort(-rates, axis=None, kind="stable")[:most].tolist()
        pairs = [divmod(place, len(self.classes)) for place in places]
        return [
            (self.classes[a], self.classes[b], float(rates[a, b]), int(self.asked[a, b]))
            for a, b in pairs
            if rates[a, b] >= 0.005
        ]

    def by_class(self, level: float, *, shared: bool) -> dict[str, Interval]:
        """Mean share of right query clips of each class over its episodes, with intervals."""
        return {
            name: bounded_interval(values.tolist(), level, shared=shared)
            for name, values in zip(self.classes, self.recalls, strict=True)
            if len(values)
        }


def _recalls(outcomes: Outcomes, rank: Codes) -> tuple[Numbers, ...]:
    """Of each class, its share of right query clips in each episode that has it."""
    count, label = len(rank), rank[outcomes.label]
    cells, places = np.unique(outcomes.episode * count + label, return_inverse=True)
    shares = np.bincount(places, outcomes.right) / np.bincount(places)
    # cells are in the order of the episodes, so those of a class are too
    return tuple(shares[cells % count == code] for code in range(count))


def _asked(outcomes: Outcomes, rank: Codes) -> Numbers:
    """Query clips of a class (row) where another (column) was in the episode, (C, C)."""
    shape = (len(outcomes), len(rank))
    queries, there = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    np.add.at(queries, (outcomes.episode, rank[outcomes.label]), 1)
    there[outcomes.member_episode, rank[outcomes.member_class]] = 1
    return (queries.T @ there).astype(np.float64)


def _taken(outcomes: Outcomes, rank: Codes) -> Numbers:
    """Query clips of a class (row) that were taken for another (column), (C, C)."""
    count = len(rank)
    cells = rank[outcomes.label] * count + rank[outcomes.predicted]
    counts = np.bincount(cells, minlength=count * count).astype(np.float64)
    return counts.reshape(count, count)


@dataclass(frozen=True)
class Measures:
    """The measures of a row, or of several training seeds together.

    Attributes:
        ece: expected calibration error with its interval, 0..1. Of several training seeds it is
            the mean of theirs: predictions of the same clips are not independent, and with equal
            seeds it is that of one.
        by_chance: about what it would be if the row were perfectly calibrated, 0..1; the mean over
            training seeds too.
        over_confident: mean confidence less share of right predictions, -1..1.
        balanced: mean over classes of the share of their query clips that were right, 0..1.
        log_loss: mean of -ln(probability of the label), in nats.
        brier: mean squared distance of the probabilities to the right answer, 0..2.
        unresolved: predictions whose label has a recorded probability of 0; with any, `log_loss`
            is a lower bound.
        predictions: how many these are of.
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
    curve: Reliability = field(repr=False)


def measures_of(findings: Findings, level: float) -> Measures | None:
    """The measures of a row; None where no episode succeeded.

    Args:
        findings: what was found in the row's records.
        level: of the interval.
    """
    found = findings.calibration
    if found is None:
        return None
    seeds = [Calibration.of(outcomes) for outcomes in findings.outcomes] or [found]
    return Measures(
        ece=_mean([seed.interval(level) for seed in seeds]),
        by_chance=fmean(seed.if_calibrated for seed in seeds),
        over_confident=found.mean_confidence - found.accuracy,
        balanced=findings.balanced_accuracy,
        log_loss=findings.log_loss,
        brier=findings.brier,
        unresolved=findings.unresolved,
        predictions=found.predictions,
        curve=found.curve,
    )


def _mean(seeds: Sequence[Interval]) -> Interval:
    """Means of the errors and of their ends.

    The interval is never too narrow for that: a mean of several errors spreads at most as much as
    they do on average, which it does where they are equal.
    """
    lows = [seed.low for seed in seeds if seed.low is not None]
    highs = [seed.high for seed in seeds if seed.high is not None]
    whole = len(lows) == len(highs) == len(seeds)
    return replace(
        seeds[0],
        mean=fmean(seed.mean for seed in seeds),
        low=fmean(lows) if whole else None,
        high=fmean(highs) if whole else None,
    )
