"""The stopping record of a run with `until`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class StoppingRecord:
    """How a run with `until` ended.

    Attributes:
        points: configured half-width, in points of 100.
        episodes: number of sampled episodes.
        met: whether every interval is that short; false where there were no more episodes.
        half_widths: of the rows of the table, 0..1, by the stopping rule: a little above those of
            Student's t, to allow for unobserved variance.
        looks: how often the rule looked at the accuracies.
    """

    points: float
    episodes: int
    met: bool
    half_widths: tuple[float | None, ...]
    looks: int

    @classmethod
    def from_summary(cls, stored: object, episodes: int) -> StoppingRecord | None:
        """Parses the record of a run's summary; None where the run has other episodes by now.

        `stored` is the value of `until` there; `episodes` counts failed ones too.

        Raises:
            ValueError: when it is not a valid stopping record.
        """
        if stored is None:
            return None
        if not isinstance(stored, Mapping) or stored.keys() != {f.name for f in fields(cls)}:
            raise ValueError(f"until: expected the keys {', '.join(f.name for f in fields(cls))}")
        half_widths = stored["half_widths"]
        integers = all(type(stored[key]) is int for key in ("episodes", "looks"))
        if not (integers and isinstance(stored["met"], bool) and _is_width(stored["points"])):
            raise ValueError("until: expected whole numbers, true or false, and points above 0")
        if not isinstance(half_widths, list) or not all(
            w is None or _is_width(w) for w in half_widths
        ):
            raise ValueError("until.half_widths: expected a list of numbers")
        if stored["episodes"] != episodes:
            return None
        return cls(**{**stored, "half_widths": tuple(half_widths)})

    def sentence(self) -> str:
        """Returns the sentence for below the table."""
        if self.met:
            return (
                f"Episodes were drawn until every mean was known to ± {self.points:g} points at "
                f"95 %: {self.episodes:,} of them. The rule allows for spread that has not been "
                "seen yet, so the intervals above are shorter than that."
            )
        widths = [width for width in self.half_widths if width is not None]
        worst = (
            f"the widest row is at ± {100 * max(widths):.2f}" if widths else "no row has a spread"
        )
        return (
            f"± {self.points:g} points were not reached: {worst} after {self.episodes:,} episodes, "
            "which is all that there are or that --max-episodes allows. That allows for spread "
            "that has not been seen yet, so the intervals above are shorter."
        )


def _is_width(value: object) -> bool:
    return type(value) in (int, float) and value >= 0  # type: ignore[operator]
