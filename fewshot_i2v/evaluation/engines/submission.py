"""Submits the shards of an evaluation as jobs through submitit, an extra of the package."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.errors import EngineError, FewshotError, UsageError
from fewshot_i2v.evaluation import evaluate
from fewshot_i2v.evaluation.row_execution import EpisodeSelection
from fewshot_i2v.runs.shards import Shard

_FOLDER = "jobs"
_MAX_REQUEUES = 1000
_CLUSTERS = ("slurm", "local")
_DEFAULTS: Mapping[str, Any] = {"timeout_min": 240, "tasks_per_node": 1, "stderr_to_stdout": True}
_POLL_SECONDS = {"slurm": 30.0, "local": 0.5}


@dataclass(frozen=True)
class ShardEnd:
    """How a shard ended.

    Attributes:
        failed: number of episodes of the run that are recorded as failed.
        error: why the shard stopped; None: it did not.
    """

    failed: int = 0
    error: str | None = None


@dataclass(frozen=True)
class ShardJob:
    """Runs a shard in a process of its own; what submitit pickles.

    Attributes:
        config: of the evaluation.
        shard: the part to run.
        retry_failed: whether episodes recorded as failed run again.
    """

    config: EvaluationConfig
    shard: Shard
    retry_failed: bool = False

    def __call__(self) -> ShardEnd:
        """Runs the missing episodes of the shard; its errors are written to the log."""
        selection = EpisodeSelection(self.shard)
        try:
            result = evaluate.run(self.config, retry_failed=self.retry_failed, selection=selection)
        except FewshotError as error:
            sys.stderr.write(f"error: {error}\n")
            return ShardEnd(error=str(error))
        return ShardEnd(failed=result.failed)

    def checkpoint(self) -> Any:  # noqa: ANN401 - of a module that may be absent
        """Returns what a requeued job runs: the same, since what was done is recorded."""
        return _import_submitit().helpers.DelayedSubmission(self)


@dataclass(frozen=True)
class SubmittedShard:
    """A submitted job.

    Attributes:
        shard: that it runs.
        job_id: its number in the queue.
        log: file of what it writes.
        cluster: "slurm" or "local".
        job: submitit's handle.
    """

    shard: Shard
    job_id: str
    log: Path
    cluster: str
    job: Any


def submit_shards(
    config: EvaluationConfig,
    count: int,
    parameters: Mapping[str, str],
    *,
    retry_failed: bool = False,
) -> list[SubmittedShard]:
    """Submits `count` shards of an evaluation as one array of jobs, and does not wait for them.

    Args:
        config: of the evaluation.
        count: number of shards.
        parameters: of the jobs: `cluster` (slurm, the default, or local: processes of this
            machine), those of submitit, such as timeout_min and gpus_per_node, and other options
            of sbatch, such as partition. A job that reaches `timeout_min` (240) is requeued.
        retry_failed: whether episodes recorded as failed run again.

    Raises:
        UsageError: when submitit is not installed, for a parameter that no job has, and for a
            configuration with `until`.
        EngineError: when the cluster refuses the jobs.
    """
    submitit = _import_submitit()
    if config.until is not None:
        raise UsageError("until: looks at the episodes of all shards; expected `episodes`")
    named = {key.replace("-", "_"): _parse_value(value) for key, value in parameters.items()}
    cluster = named.pop("cluster", "slurm")
    if cluster not in _CLUSTERS:
        raise UsageError(f"job: got cluster={cluster}; expected one of {', '.join(_CLUSTERS)}")
    folder = config.output_folder.absolute() / _FOLDER
    name = config.output_folder.name
    try:
        executor = submitit.AutoExecutor(folder, cluster, slurm_max_num_timeout=_MAX_REQUEUES)
        executor.update_parameters(
            **{**_DEFAULTS, "name": name, **_prefixed(submitit, named, count)}
        )
    except (AssertionError, NameError, RuntimeError, TypeError, ValueError) as error:
        raise UsageError(f"job: {error}") from error
    shards = [Shard(number + 1, count) for number in range(count)]
    tasks = [ShardJob(config, shard, retry_failed) for shard in shards]
    try:
        with _safe_path():
            jobs = executor.submit_array(tasks)
    except (OSError, submitit.core.utils.FailedJobError) as error:
        raise EngineError(f"job: {cluster} did not take the jobs: {error}") from error
    return [
        SubmittedShard(shard, job.job_id, job.paths.stdout, cluster, job)
        for shard, job in zip(shards, jobs, strict=True)
    ]


def wait_for_shards(submitted: Sequence[SubmittedShard]) -> int:
    """Waits until all jobs have ended, and returns the largest number of failed episodes.

    Raises:
        EngineError: naming each shard that did not end well, with its log.
    """
    helpers = _import_submitit().helpers
    seconds = max(_POLL_SECONDS[s.cluster] for s in submitted)
    for _ in helpers.as_completed([s.job for s in submitted], poll_frequency=seconds):
        pass
    ends = [_end_of(s) for s in submitted]
    errors = [
        f"shard {s.shard}: {end.error}\n  log: {s.log}"
        for s, end in zip(submitted, ends, strict=True)
        if end.error is not None
    ]
    if errors:
        raise EngineError(
            f"{len(errors)} of {len(submitted)} shards did not end well; what they finished is "
            "recorded, and the same command continues:\n" + "\n".join(errors)
        )
    return max(end.failed for end in ends)


def _end_of(submitted: SubmittedShard) -> ShardEnd:
    job = submitted.job
    error = job.exception()
    if error is None:
        end: ShardEnd = job.result()
        return end
    if not job.paths.result_pickle.exists():  # killed, or out of memory or time
        return ShardEnd(error=f"its process ended without a result (state {job.state})")
    lines = [line for line in str(error).splitlines() if line and line[0] not in " -"]
    return ShardEnd(error=next((line for line in reversed(lines[1:-1])), str(error)))


def _prefixed(submitit: Any, named: Mapping[str, Any], count: int) -> dict[str, Any]:  # noqa: ANN401
    """Returns parameters under submitit's names; what it does not know is an option of sbatch."""
    generic = submitit.AutoExecutor._valid_parameters()
    known = submitit.SlurmExecutor._valid_parameters()
    result: dict[str, Any] = {"slurm_array_parallelism": count}
    further = {k: v for k, v in named.items() if k not in generic | known}
    if further:
        result["slurm_additional_parameters"] = further
    for key, value in named.items():
        if key not in further:
            result[key if key in generic else f"slurm_{key}"] = value
    return result


def _parse_value(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


@contextmanager
def _safe_path() -> Iterator[None]:
    """Jobs import nothing from the current folder; they inherit the environment."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


def _import_submitit() -> Any:  # noqa: ANN401 - a module that may be absent
    try:
        import submitit
        import submitit.helpers
    except ImportError as error:
        raise UsageError(
            "submit: submitit is not installed; pip install 'fewshot-i2v[slurm]', or leave "
            "--submit out and give the script to sbatch"
        ) from error
    return submitit
