"""What the episodes of a run tell of the difference of two methods, and how many more would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import stdev

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.intervals import EQUALITY_TOLERANCE, finite_values
from fewshot_i2v.statistics.sample_size import (
    detectable_difference,
    episodes_for_difference,
    fewest_decisive_episodes,
    min_difference_sd,
)
from fewshot_i2v.statistics.verdicts import per_comparison_level


@dataclass(frozen=True)
class DifferenceSpread:
    """Spread of the difference of two methods over the episodes that both have.

    Each number of episodes and each difference that would show, in `recommend`, `plan`, `compare`
    and reports, is computed here, so that they agree: `detectable` is at most d exactly where
    `episodes_needed` for d is at most the number of episodes.

    Attributes:
        deviation: standard deviation over episodes, at least 0; 0 for fewer than two.
        queries: query clips of an episode; 1 where they are not known, which is cautious.
        episodes: that both have; 0 for an assumed spread.
        n_differing: of these in which the two differ; None for an assumed spread.
    """

    deviation: float
    queries: float
    episodes: int = 0
    n_differing: int | None = None

    @classmethod
    def from_values(cls, differences: Sequence[float], queries: float) -> DifferenceSpread:
        """Measure the spread of differences, one for each episode.

        Raises:
            UsageError: when there is none, one is not finite, or there is less than one query.
        """
        values = finite_values(differences, "differences")
        if queries < 1:
            raise UsageError(f"queries is {queries}; expected at least 1, those of an episode")
        n_differing = sum(abs(value) > EQUALITY_TOLERANCE for value in values)
        deviation = stdev(values) if len(values) > 1 else 0.0
        return cls(deviation, queries, len(values), n_differing)

    def tells(self, level: float = 0.95) -> bool:
        """Whether the two differ in enough episodes for a guide to others.

        With fewer no test could decide at `level`, whichever method is better in them.
        """
        return self.n_differing is None or self.n_differing >= fewest_decisive_episodes(level)

    def deviation_for(self, difference: float) -> float:
        """Deviation to plan a true difference with: at least what one of that size spreads."""
        return max(self.deviation, min_difference_sd(difference, self.queries))

    def episodes_needed(
        self, difference: float, *, power: float = 0.8, level: float = 0.95, comparisons: int = 1
    ) -> int | None:
        """Fewest episodes that would show a true difference in a share `power` of runs.

        `comparisons` are judged together, at `level`. None where the spread does not tell.

        Raises:
            UsageError: as for `episodes_for_difference`.
        """
        if not self.tells(level):
            return None
        return episodes_for_difference(
            self.deviation_for(difference),
            difference,
            power=power,
            level=per_comparison_level(level, comparisons),
        )

    def detectable(
        self, *, power: float = 0.8, level: float = 0.95, comparisons: int = 1
    ) -> float | None:
        """Smallest true difference that as many episodes show in a share `power` of runs.

        `comparisons` as for `episodes_needed`. None where the spread does not tell, or there are
        too few episodes for any verdict on so many comparisons.

        Raises:
            UsageError: as for `detectable_difference`.
        """
        if not self.tells(level):
            return None
        strict_level = per_comparison_level(level, comparisons)
        if self.episodes < fewest_decisive_episodes(strict_level):
            return None
        unit = detectable_difference(1.0, self.episodes, power=power, level=strict_level)
        # the d with d = unit · sqrt(d · (1 - d) / queries), the least that a difference d spreads
        square = unit * unit / self.queries
        return max(unit * self.deviation, square / (1 + square))
