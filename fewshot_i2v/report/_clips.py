"""Two rows over the query clips of the one episode that both have, as `compare` has them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.report.findings import Findings
from fewshot_i2v.statistics import Interval
from fewshot_i2v.statistics.outcomes import Outcomes
from fewshot_i2v.statistics.paired import compare_paired, mcnemar

Answers = tuple[list[str], list[float]]


def over_clips(
    row: Findings, other: Findings, episode: int, level: float
) -> tuple[Interval, float] | None:
    """The difference of two rows over the query clips of an episode, and its p value.

    McNemar's test where every answer is right or wrong; the sign-flip test where answers are means
    over several training seeds.

    Args:
        row: what was found in the one.
        other: what was found in the other.
        episode: its number.
        level: of the interval.

    Returns:
        Mean of row - other with its interval, and p; None where the answers to the same clips are
        not known of both.
    """
    one, two = _answers(row, episode), _answers(other, episode)
    if one is None or two is None or one[0] != two[0]:
        return None
    clips, a = one
    b = two[1]
    paired = compare_paired(a, b, level, unit="clip")
    if {*a, *b} <= {0.0, 1.0} and len(set(clips)) == len(clips):
        return paired.difference, mcnemar(clips, a, clips, b).p
    return paired.difference, paired.test.p


def _answers(findings: Findings, episode: int) -> Answers | None:
    """Each query clip with its class, and the share of training seeds that got it right."""
    found = [answers for o in findings.outcomes if (answers := _of_seed(o, episode)) is not None]
    if not found or any(clips != found[0][0] for clips, _ in found):
        return None
    return found[0][0], np.mean([right for _, right in found], axis=0).tolist()


def _of_seed(outcomes: Outcomes, episode: int) -> tuple[list[str], NDArray[np.float64]] | None:
    places = np.flatnonzero(outcomes.index == episode)
    if not len(places):
        return None
    own = outcomes.episode == places[0]
    clips = [outcomes.clips[code] for code in outcomes.query[own].tolist()]
    return clips, outcomes.right[own].astype(np.float64)
