"""What a run has to generate before it can read its clips, for dry runs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from fewshot_i2v.data.synthetic import generate
from fewshot_i2v.tuning.run_context import RunContext


def generation_cost(context: RunContext, clips: Collection[str]) -> dict[str, Any]:
    """Counts the clips that a run has to generate, and measures how long that takes.

    Two clips are generated in memory; nothing is written.

    Args:
        context: of the run.
        clips: names of all that it reads.

    Returns:
        `clips_to_generate` and `generation_seconds`; both 0 where the split generates no clips.
    """
    generator = context.split.generator
    missing = [name for name in clips if generator and not context.clip_path(name).exists()]
    seconds = generate.generation_seconds(generator, missing) if generator and missing else 0.0
    return {"clips_to_generate": len(missing), "generation_seconds": round(seconds, 1)}
