"""How a run ended that drew episodes until its means were known well enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Stopped:
    """How a run ended that drew episodes until its means were known well enough.

    Attributes:
        points: half-width asked for, in points of 100.
        episodes: how many were drawn.
        met: whether every mean is known that well; false where there were no more episodes.
        half_widths: of the rows of the table, 0..1, as the rule has them: a little above those of
            Student's t, for spread that has not been seen yet.
        looks: how often the rule looked at the accuracies.
    """

    points: float
    episodes: int
    met: bool
    half_widths: tuple[float | None, ...]
    looks: int

    @classmethod
    def from_summary(cls, said: object, episodes: int) -> Stopped | None:
        """That of a run's summary; None where the run has other episodes by now.

        Args:
            said: what the summary says of it.
            episodes: those that the run has, failed ones among them.

        Raises:
            ValueError: when it is nothing that a run says.
        """
        if said is None:
            return None
        if not isinstance(said, Mapping) or said.keys() != {f.name for f in fields(cls)}:
            raise ValueError(f"until: expected the keys {', '.join(f.name for f in fields(cls))}")
        widths = said["half_widths"]
        whole = all(type(said[key]) is int for key in ("episodes", "looks"))
        if not (whole and isinstance(said["met"], bool) and _is_width(said["points"])):
            raise ValueError("until: expected whole numbers, true or false, and points above 0")
        if not isinstance(widths, list) or not all(w is None or _is_width(w) for w in widths):
            raise ValueError("until.half_widths: expected a list of numbers")
        if said["episodes"] != episodes:
            return None
        return cls(**{**said, "half_widths": tuple(widths)})

    def sentence(self) -> str:
        """What is said of it below the table."""
        if self.met:
            return (
                f"Episodes were drawn until every mean was known to ± {self.points:g} points at "
                f"95 %: {self.episodes:,} of them. The rule allows for spread that has not been "
                "seen yet, so the intervals above are shorter than that."
            )
        known = [width for width in self.half_widths if width is not None]
        far = f"the widest row is at ± {100 * max(known):.2f}" if known else "no row has a spread"
        return (
            f"± {self.points:g} points were not reached: {far} after {self.episodes:,} episodes, "
            "which is all that there are or that --max-episodes allows. That allows for spread "
            "that has not been seen yet, so the intervals above are shorter."
        )


def _is_width(value: object) -> bool:
    return type(value) in (int, float) and value >= 0  # type: ignore[operator]
