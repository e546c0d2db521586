"""Estimate of an evaluation whose episodes are divided among several processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Until a worker process has imported torch and built its encoder; measured with two on two cores.
_WORKER_START_SECONDS = 5.0


def estimate_processes(rows: Sequence[Mapping[str, Any]], count: int) -> dict[str, Any] | None:
    """Estimates rows that are divided among processes of one CPU thread each.

    Args:
        rows: estimates of `TimeEstimator`.
        count: number of processes.

    Returns:
        `count`, `seconds` and the `memory_mb` of all; None for one process, and where a row was not
        measured with one thread.
    """
    seconds = [row["one_thread_seconds"] for row in rows]
    if count < 2 or None in seconds:
        return None
    return {
        "count": count,
        "seconds": round(_WORKER_START_SECONDS + sum(seconds) / count, 1),
        "memory_mb": count * max((row["memory_mb"] for row in rows), default=0),
    }
