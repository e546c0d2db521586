"""Makes the workers of an engine by its name."""

from __future__ import annotations

import os
from collections.abc import Sequence

from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.errors import UsageError
from fewshot_i2v.evaluation.engines.driver import PoolFactory
from fewshot_i2v.evaluation.engines.jobs import WorkerPool
from fewshot_i2v.evaluation.engines.processes import ProcessPool
from fewshot_i2v.evaluation.engines.ray_pool import RayPool


def make_engine(
    name: str,
    *,
    processes: int | None = None,
    gpus: Sequence[int] = (),
    address: str | None = None,
) -> PoolFactory:
    """Returns what makes the workers of the engine "processes" or "ray".

    There are as many as `processes`; None: one per GPU, or per core. GPUs are for "processes", the
    address of a cluster is for "ray".

    Raises:
        UsageError: for an argument that the engine does not have.
    """
    if name == "processes":
        if address is not None:
            raise UsageError("ray-address: is for --engine ray")
        if gpus and processes not in (None, len(gpus)):
            raise UsageError(
                f"processes: got {processes} beside {len(gpus)} GPUs; give one of them"
            )

        def _processes(config: EvaluationConfig, episodes: int | None) -> WorkerPool:
            numbers = gpus or (() if processes else _visible_gpus(config))
            count = processes or len(numbers) or _cores()
            return ProcessPool(config, count, gpus=numbers, episodes=episodes)

        return _processes
    if gpus:
        raise UsageError("gpus: is for --engine processes; Ray gives each worker a GPU of its own")

    def _ray(config: EvaluationConfig, episodes: int | None) -> WorkerPool:
        return RayPool(config, processes, address=address, episodes=episodes)

    return _ray


def _visible_gpus(config: EvaluationConfig) -> Sequence[int]:
    import torch

    return range(torch.cuda.device_count()) if config.device == "auto" else ()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
