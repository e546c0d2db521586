"""Readouts: what a head sees of each frame, by name. Needs no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

FROZEN = "frozen-"
"""Before the name of a readout: it is read of the encoder without the adapter."""
READOUT_NAME = rf"(?:{FROZEN})?(?:summary|projected|grid[1-9]\d?|motion(?:[1-9]\d?)?)"
READOUT_LIST = re.compile(rf"^{READOUT_NAME}(?:\+{READOUT_NAME})*$")


@dataclass(frozen=True)
class Readout:
    """What a head sees of each frame.

    Attributes:
        kind: "summary": the summary token; "projected": the summary token after the encoder's
            projection into the space that it shares with text; "grid": the patch tokens, averaged
            within cells and side by side; "motion": how far each patch token is from its own mean
            over the clip, averaged within cells.
        cells: on a side; 0 for summary and projected.
        grid_size: cells on a side of the grid of tokens that it needs: `cells`, and for motion the
            patches; 0 for summary and projected.
        joint_width: channels of the space shared with text, for projected; else 0.
        frozen: whether it is read of the frozen encoder, whatever the adapter is.
    """

    kind: str
    cells: int = 0
    grid_size: int = 0
    joint_width: int = 0
    frozen: bool = False

    @property
    def needs_patches(self) -> bool:
        """Whether it is read of patch tokens."""
        return self.kind in ("grid", "motion")

    def width(self, channels: int) -> int:
        """Returns the channels of a frame, for tokens of so many channels."""
        if self.kind == "projected":
            return self.joint_width
        per_cell = 1 if self.kind == "motion" else channels
        return per_cell * (self.cells**2 or 1)


def parse_readouts(names: str, patches: int, joint_width: int = 0) -> tuple[Readout, ...]:
    """Parses readouts such as "summary+grid4+motion".

    Args:
        names: names joined by "+".
        patches: patch tokens of the encoder on a side of a frame.
        joint_width: channels of the space that the encoder shares with text; 0: it has none.
    """
    readouts = []
    for name in names.split("+"):
        plain = name.removeprefix(FROZEN)
        kind, size = plain.rstrip("0123456789"), plain.lstrip("abcdefghijklmnopqrstuvwxyz")
        cells = patches if kind == "motion" and not size else int(size or 0)
        grid_size = patches if kind == "motion" else cells
        joint = joint_width if kind == "projected" else 0
        readouts.append(Readout(kind, cells, grid_size, joint, frozen=plain != name))
    return tuple(readouts)


def _check_distinct(names: str) -> str:
    readouts = names.split("+")
    if len(set(readouts)) < len(readouts):
        raise ValueError("expected each readout once")
    return names


Readouts = Annotated[str, Field(pattern=READOUT_LIST.pattern), AfterValidator(_check_distinct)]
"""Names of readouts joined by "+": summary, projected, grid4, motion or grid4+frozen-motion."""
