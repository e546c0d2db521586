"""Readouts: what a head sees of each frame, by name. Needs no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

FROZEN = "frozen-"
"""Before the name of a readout: it is read of the encoder without the adapter."""
READOUT_NAME = rf"(?:{FROZEN})?(?:summary|grid[1-9]\d?|motion(?:[1-9]\d?)?)"
READOUT_LIST = re.compile(rf"^{READOUT_NAME}(?:\+{READOUT_NAME})*$")


@dataclass(frozen=True)
class Readout:
    """What a head sees of each frame.

    Attributes:
        kind: "summary": the summary token; "grid": the patch tokens, averaged within cells and side
            by side; "motion": how far each patch token is from its own mean over the clip, averaged
            within cells.
        cells: on a side; 0 for summary.
        grid_size: cells on a side of the grid of tokens that it needs: `cells`, and for motion the
            patches; 0 for summary.
        frozen: whether it is read of the frozen encoder, whatever the adapter is.
    """

    kind: str
    cells: int = 0
    grid_size: int = 0
    frozen: bool = False

    def width(self, channels: int) -> int:
        """Returns the channels of a frame, for tokens of so many channels."""
        per_cell = 1 if self.kind == "motion" else channels
        return per_cell * (self.cells**2 or 1)


def parse_readouts(names: str, patches: int) -> tuple[Readout, ...]:
    """Parses readouts such as "summary+grid4+motion".

    Args:
        names: names joined by "+".
        patches: patch tokens of the encoder on a side of a frame.
    """
    readouts = []
    for name in names.split("+"):
        plain = name.removeprefix(FROZEN)
        kind, size = plain.rstrip("0123456789"), plain.lstrip("abcdefghijklmnopqrstuvwxyz")
        cells = patches if kind == "motion" and not size else int(size or 0)
        grid_size = patches if kind == "motion" else cells
        readouts.append(Readout(kind, cells, grid_size, frozen=plain != name))
    return tuple(readouts)


def _check_distinct(names: str) -> str:
    readouts = names.split("+")
    if len(set(readouts)) < len(readouts):
        raise ValueError("expected each readout once")
    return names


Readouts = Annotated[str, Field(pattern=READOUT_LIST.pattern), AfterValidator(_check_distinct)]
"""Names of readouts joined by "+", such as summary, grid4, motion or grid4+frozen-motion."""
