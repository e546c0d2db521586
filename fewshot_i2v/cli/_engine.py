"""Flags that divide an evaluation among processes, jobs and machines."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fewshot_i2v.cli._help import join_options, rare_flag
from fewshot_i2v.cli._next import command_line, echo_next, same_command
from fewshot_i2v.errors import UsageError

if TYPE_CHECKING:
    from fewshot_i2v.config.evaluation import EvaluationConfig
    from fewshot_i2v.evaluation.engines.jobs import WorkerPool
    from fewshot_i2v.evaluation.results import EvaluationResult

FAILED_EPISODES_STATUS = 3
_RANGE = re.compile(r"(\d{1,9}):(\d{1,9})")
_flag = partial(rare_flag, heading="Several processes")
engine_flags = join_options(
    _flag(
        "--engine",
        type=click.Choice(("processes", "ray", "slurm")),
        help="Run the episodes in several processes of this machine, in a Ray cluster, or write "
        "the script of a SLURM array to standard output. [default: this process]",
    ),
    _flag(
        "--processes",
        type=click.IntRange(1),
        metavar="N",
        help="Number of processes; of slurm: of jobs. [default: one per GPU, or per core]",
    ),
    _flag(
        "--submit",
        is_flag=True,
        help="With --engine slurm: submit the jobs through submitit, and return.",
    ),
    _flag(
        "--wait",
        is_flag=True,
        help="With --submit: return when all jobs have ended; name those that failed.",
    ),
    _flag(
        "--job",
        multiple=True,
        metavar="KEY=VALUE",
        help="With --submit: an option of sbatch or submitit, such as partition=gpu, "
        "gpus_per_node=1, timeout_min=240 (the default; a job that reaches it is requeued); "
        "cluster=local runs the jobs on this machine. Repeatable.",
    ),
    _flag(
        "--gpus",
        metavar="0,1,...",
        help="GPUs to use with --engine processes, one process each. [default: all]",
    ),
    _flag(
        "--ray-address",
        metavar="ADDRESS",
        help="Ray cluster to use. [default: the one of Ray's environment, or a local one]",
    ),
    _flag(
        "--shard",
        metavar="K/N|auto",
        help="Run shard K of N of the episodes; start one process for each K, on any machine with "
        "the same --output. auto: the number of this job in a SLURM array.",
    ),
)


@dataclass(frozen=True)
class EngineFlags:
    """The flags as typed; without an engine this process runs the episodes."""

    engine: str | None
    processes: int | None
    gpus: str | None
    ray_address: str | None
    shard: str | None
    submit: bool = False
    wait: bool = False
    job: tuple[str, ...] = ()

    def check(self, first: int) -> None:
        """Refuses flags that mean nothing together."""
        if self.engine is not None and first:
            raise UsageError("episodes: got a range beside --engine; expected their number")
        if self.engine is not None and self.shard is not None:
            raise UsageError(
                "shard: got it beside --engine, which divides the episodes itself; give one of them"
            )
        for name in ("processes", "gpus", "ray_address"):
            if self.engine is None and getattr(self, name) is not None:
                raise UsageError(
                    f"{name.replace('_', '-')}: is for --engine; give --engine as well"
                )
        if self.engine == "slurm" and self.processes is None:
            raise UsageError("processes: give the number of jobs, such as --processes 32")
        if self.submit and self.engine != "slurm":
            raise UsageError("submit: is for --engine slurm; give --engine slurm as well")
        for name in ("wait", "job"):
            if getattr(self, name) and not self.submit:
                raise UsageError(f"{name}: is for --submit; give --submit as well")

    def run(
        self, config: EvaluationConfig, first: int, *, progress: bool, retry_failed: bool
    ) -> EvaluationResult:
        """Runs an evaluation from an episode on, as the flags say."""
        from fewshot_i2v.runs.shards import Shard

        shard = None if self.shard is None else Shard.parse(self.shard)
        with nullcontext(None) if self.engine is None else closing(self._start(config)) as pool:
            # only now: workers import torch at the same time
            from fewshot_i2v.evaluation import evaluate
            from fewshot_i2v.evaluation.row_execution import EpisodeSelection

            return evaluate.run(
                config,
                progress=progress,
                retry_failed=retry_failed,
                selection=EpisodeSelection(shard, first),
                pool=pool,
            )

    def _start(self, config: EvaluationConfig) -> WorkerPool:
        """Starts the workers of the engine."""
        from fewshot_i2v.evaluation.engines.pools import start_workers

        return start_workers(
            str(self.engine),
            config,
            processes=self.processes,
            gpus=_parse_gpus(self.gpus),
            address=self.ray_address,
        )

    def submit_shards(self, config: EvaluationConfig, *, retry_failed: bool, quiet: bool) -> int:
        """Submits the shards as jobs, lists them, and returns the exit status."""
        from fewshot_i2v.evaluation.engines.submission import submit_shards, wait_for_shards

        shards = submit_shards(
            config, self.processes or 1, _parse_jobs(self.job), retry_failed=retry_failed
        )
        for shard in shards:
            click.echo(f"shard {shard.shard}  job {shard.job_id}  {shard.log}")
        failed = wait_for_shards(shards) if self.wait else 0
        if not quiet:
            click.echo("\nthe same command submits again what is missing or failed", err=True)
            echo_next(command_line("show", config.output_folder))
        return FAILED_EPISODES_STATUS if failed else 0

    def slurm_script(self, ctx: click.Context, name: str) -> str:
        """Writes the script of a SLURM array for the present command."""
        from fewshot_i2v.evaluation.engines.slurm import slurm_script

        command = same_command(ctx, without=(), without_values=("--engine", "--processes"))
        return slurm_script(
            shlex.split(command), count=self.processes or 1, name=name, folder=Path.cwd()
        )


def _parse_gpus(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    numbers = text.split(",")
    if not all(number.isdecimal() for number in numbers) or len(set(numbers)) < len(numbers):
        raise UsageError(f"gpus: got {text!r}; expected different numbers, such as 0,1,2")
    return tuple(map(int, numbers))


def _parse_jobs(settings: Sequence[str]) -> dict[str, str]:
    parameters = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not (key and equals and value):
            raise UsageError(f"job: got {setting!r}; expected KEY=VALUE, such as partition=gpu")
        parameters[key] = value
    return parameters


def take_episode_range(overrides: dict[str, Any]) -> int:
    """Replaces a range of episodes, such as 40:80, by its end, and returns the first episode.

    Raises:
        UsageError: when it is empty.
    """
    text = overrides.get("episodes")
    match = _RANGE.fullmatch(text) if isinstance(text, str) else None
    if not match:
        return 0
    first, end = int(match[1]), int(match[2])
    if first >= end:
        raise UsageError(f"episodes: got {text}; expected A:B with A below B, such as 40:80")
    overrides["episodes"] = end
    return first
