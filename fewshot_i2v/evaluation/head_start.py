"""Where the heads of a row begin: fresh in every episode, or as the head of its starting point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fewshot_i2v.config.evaluation import RowConfig
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.models.checkpoints.start_extras import StartHead
from fewshot_i2v.models.checkpoints.starting_point import StartingPoint


@dataclass(frozen=True)
class HeadStart:
    """Where the heads of a row begin.

    Attributes:
        head: of the starting point; None: they begin fresh.
        why_fresh: where the start holds a head that they do not begin from, the reason; else empty.
    """

    head: StartHead | None = None
    why_fresh: str = ""

    def identity(self, head_parameters: int) -> dict[str, Any]:
        """Returns what of it decides the results; a head without parameters begins nowhere."""
        if self.head is not None:
            return {"head": self.head.digest}
        return {"head": "fresh"} if self.why_fresh and head_parameters else {}


def find_head_start(
    row: RowConfig, context: EvaluationContext, start: StartingPoint | None
) -> HeadStart:
    """Finds out whether the heads of a row begin as that of its starting point.

    They do unless `StartHead.why_fresh` says otherwise.

    Raises:
        UsageError: for a head or options that do not exist.
    """
    if start is None or start.head is None:
        return HeadStart()
    # of a range, the classes of the episodes sampled so far say nothing about those to come
    way = row.way if isinstance(row.way, int) or "-" in row.way else context.way
    tower, frames = context.encoder.tower, row.video.frames
    reason = start.head.why_fresh(row.head, tower, frames=frames, way=way)
    return HeadStart(why_fresh=reason) if reason else HeadStart(start.head)
