"""Readouts: what a head sees of each frame, by name. Needs no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

READOUT_NAME = r"(?:summary|grid[1-9]\d?|motion(?:[1-9]\d?)?)"
READOUT_LIST = re.compile(rf"^{READOUT_NAME}(?:\+{READOUT_NAME})*$")
LARGEST_MOTION_GRID = 7
"""Cells on a side of the motion map `motion`, where the encoder has as many patches."""


@dataclass(frozen=True)
class Readout:
    """What a head sees of each frame.

    Attributes:
        kind: "summary": the summary token; "grid": the patch tokens, averaged within cells and side
            by side; "motion": how far each cell is from its own mean over the clip.
        grid_size: cells on a side; 0 for summary.
    """

    kind: str
    grid_size: int

    def width(self, channels: int) -> int:
        """Returns the channels of a frame, for tokens of so many channels."""
        if self.kind == "summary":
            return channels
        cells: int = self.grid_size**2
        return cells * channels if self.kind == "grid" else cells


def parse_readouts(names: str) -> tuple[Readout, ...]:
    """Parses readouts such as "summary+grid4+motion7".

    Args:
        names: names joined by "+", without `motion` (see `resolve_motion`).

    Raises:
        ValueError: for `motion` without a number of cells.
    """
    readouts = []
    for name in names.split("+"):
        kind, size = name.rstrip("0123456789"), name.lstrip("abcdefghijklmnopqrstuvwxyz")
        if kind == "motion" and not size:
            raise ValueError(
                "motion needs the number of cells on a side where the encoder is not known; give "
                f"motionG, such as motion{LARGEST_MOTION_GRID}"
            )
        readouts.append(Readout(kind, int(size or 0)))
    return tuple(readouts)


def resolve_motion(names: str, patches: int) -> str:
    """Replaces `motion` by `motionG` with G = 7, or the patches on a side where there are fewer.

    Args:
        names: readouts joined by "+".
        patches: on a side of a frame.
    """
    size = min(LARGEST_MOTION_GRID, patches)
    return "+".join(f"motion{size}" if name == "motion" else name for name in names.split("+"))


def _check_distinct(names: str) -> str:
    readouts = names.split("+")
    if len(set(readouts)) < len(readouts):
        raise ValueError("expected each readout once")
    return names


Readouts = Annotated[str, Field(pattern=READOUT_LIST.pattern), AfterValidator(_check_distinct)]
"""Names of readouts joined by "+", such as summary, grid4, motion or grid4+motion."""
