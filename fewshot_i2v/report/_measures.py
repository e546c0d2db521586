"""What a row is judged by beyond its accuracy: calibration, scores and balanced accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from fewshot_i2v.report.findings import Findings
from fewshot_i2v.statistics import Interval
from fewshot_i2v.statistics.calibration import Calibration, Reliability


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
