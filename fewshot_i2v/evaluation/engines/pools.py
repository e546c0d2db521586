"""Starts the workers of an engine by its name.

Nothing here imports torch: workers import it at the same time as the main process does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.errors import UsageError
from fewshot_i2v.evaluation.engines.jobs import JobWorker, WorkerPool
from fewshot_i2v.evaluation.engines.processes import ProcessPool
from fewshot_i2v.evaluation.engines.ray_pool import RayPool
from fewshot_i2v.runs.shards import Shard
from fewshot_i2v.utils.environment import count_cores


def start_workers(
    name: str,
    config: EvaluationConfig,
    *,
    processes: int | None = None,
    gpus: Sequence[int] = (),
    address: str | None = None,
) -> WorkerPool:
    """Starts the workers of the engine "processes" or "ray" for a configuration.

    There are as many as `processes`; None: one per GPU, or per core. GPUs are for "processes", the
    address of a cluster is for "ray".

    Raises:
        UsageError: for an argument that the engine does not have.
    """
    if name == "ray":
        if gpus:
            raise UsageError(
                "gpus: is for --engine processes; Ray gives each worker a GPU of its own"
            )
        return RayPool(config, processes, address=address)
    if address is not None:
        raise UsageError("ray-address: is for --engine ray")
    if gpus and processes not in (None, len(gpus)):
        raise UsageError(f"processes: got {processes} beside {len(gpus)} GPUs; give one of them")
    numbers = gpus or (() if processes else _visible_gpus(config))
    spec = EvaluationWorkers(config.model_copy(update={"workers": 1}))
    return ProcessPool(spec, processes or len(numbers) or count_cores(), gpus=numbers)


@dataclass(frozen=True)
class EvaluationWorkers:
    """Workers of an evaluation; see `jobs.WorkerSpec`.

    Attributes:
        config: of the evaluation.
    """

    config: EvaluationConfig

    def on_device(self, device: str) -> EvaluationWorkers:
        """Returns the same for another device."""
        return EvaluationWorkers(self.config.model_copy(update={"device": device}))

    def start(self, shard: Shard, episodes: int | None) -> JobWorker:
        """Makes a worker, in its process."""
        from fewshot_i2v.evaluation.engines.worker import Worker

        return Worker(self.config, shard, episodes)


def spread_over_gpus(device: str, count: int) -> tuple[int, ...]:
    """Returns a GPU for each of `count` workers where the device is "auto"; empty without GPUs."""
    import torch

    n_gpus = torch.cuda.device_count() if device == "auto" else 0
    return tuple(number % n_gpus for number in range(count)) if n_gpus else ()


def _visible_gpus(config: EvaluationConfig) -> Sequence[int]:
    import torch

    return range(torch.cuda.device_count()) if config.device == "auto" else ()
