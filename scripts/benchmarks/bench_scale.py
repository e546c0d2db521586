"""How time and memory grow with episodes, clips of a split, classes, shots and frames.

    python scripts/benchmarks/bench_scale.py --json results.json
    python scripts/benchmarks/bench_scale.py --quick

Each measurement is a process of its own (with --quick one process measures all, and only its
figures of time mean something). An axis is varied alone; its exponents are slopes of straight
lines through the logarithms of seconds and of peak memory: 1 is linear growth. What does not grow
makes them smaller, so the slope between the last two values stands beside them. Measured are a
frozen run over its number of episodes, from the start of the run to its summary, on clips whose
features are in the cache; drawing 1,000 episodes over the clips of a split that is made up; and
one tuned episode of ST-Adapter over its classes, support clips per class, and frames, with the
encoder `demo`. All runs on the CPU, and seconds are those of the processor, which another program
on the same core changes little. Peak memory is of the process, with Python and PyTorch.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import click
import numpy as np
import torch
from _about import about, write_report
from _clips import cache_option, split_of, work_folder
from bench_sampler import made_up_split

from fewshot_i2v import evaluate
from fewshot_i2v.data.episodes.sampler import EpisodeSampler
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.evaluate import build_row_runners
from fewshot_i2v.evaluation.row_expansion import load_config
from fewshot_i2v.utils.environment import peak_memory_mb, reset_peak_memory

REPEATS = 3
CPU = torch.device("cpu")
DRAWN_EPISODES = 1000
SEEN_EPISODES, QUICK_SEEN_EPISODES = 2000, 200
"""Frozen episodes before all measurements, which see every clip of the split."""


def frozen_run(work: Path, episodes: int) -> float:
    """Measure a run of the frozen encoder with so many episodes, on clips that it has seen."""
    start = process_time()
    evaluate(
        {
            "split": split_of(work),
            "head": ["prototype"],
            "device": "cpu",
            "episodes": episodes,
            "cache": str(work / "cache"),
            "output": str(work / f"run-{episodes}"),
        }
    )
    return process_time() - start


def drawing(_work: Path, clips: int) -> float:
    """Measure the drawing of 1,000 episodes from a split with so many clips in 100 classes."""
    split = made_up_split(100, clips // 100, 4)
    start = process_time()
    sampler = EpisodeSampler(split, subset="novel", seed=0, way=5, shot=1, query=5)
    for index in range(DRAWN_EPISODES):
        sampler[index]
    return process_time() - start


def _tuned_episode(work: Path, **changes: Any) -> float:
    """Measure one tuned episode, median of three after one."""
    settings: dict[str, Any] = {
        "split": split_of(work),
        "adapter": ["st-adapter"],
        "head": ["linear"],
        "device": "cpu",
        "episodes": 1,
        "query": 2,
        "tuning": {"recipe": "none", "steps": 3},
        "cache": str(work / "cache"),
        "output": str(work / "unused"),
    }
    context = EvaluationContext.of(load_config(settings | changes, {}))
    (runner,) = build_row_runners(context)
    context.decode_episodes(runner.episodes, runner.row.tuning, progress=False)
    runner.run(runner.episodes)
    seconds = []
    for _ in range(REPEATS):
        start = process_time()
        runner.run(runner.episodes)
        seconds.append(process_time() - start)
    return median(seconds)


def tuned_by_way(work: Path, way: int) -> float:
    """Measure a tuned episode of so many classes."""
    return _tuned_episode(work, way=way, subset="base")


def tuned_by_shot(work: Path, shot: int) -> float:
    """Measure a tuned episode of so many support clips per class."""
    return _tuned_episode(work, shot=[shot])


def tuned_by_frames(work: Path, frames: int) -> float:
    """Measure a tuned episode of clips of so many frames."""
    return _tuned_episode(work, video={"frames": frames})


Axis = tuple[Callable[[Path, int], float], Sequence[int], Sequence[int]]
FROZEN = "episodes of a frozen run"
AXES: dict[str, Axis] = {
    FROZEN: (frozen_run, (100, 1000, 10_000, 100_000), (30, 100)),
    "clips of a split": (drawing, (1000, 10_000, 100_000, 1_000_000), (1000, 10_000)),
    "way of a tuned episode": (tuned_by_way, (2, 5, 10, 20), (2, 5)),
    "shots of a tuned episode": (tuned_by_shot, (1, 2, 4, 8), (1, 2)),
    "frames of a tuned episode": (tuned_by_frames, (4, 8, 16, 32), (4, 8)),
}
"""What is measured, its values, and those of `--quick`."""


def _measure(axis: str, work: Path, value: int) -> tuple[float, float]:
    """Measure seconds and peak memory in MiB; runs in a process of its own."""
    reset_peak_memory(CPU)
    return AXES[axis][0](work, value), peak_memory_mb(CPU, 1)


def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def measure(
    shared: ProcessPoolExecutor | None, axis: str, work: Path, value: int
) -> tuple[float, float]:
    """Measure in a process that does nothing else, so that its peak memory is its own.

    Where one is shared, what earlier measurements left in it counts, too.
    """
    if shared is not None:
        return shared.submit(_measure, axis, work, value).result()
    with _process() as pool:
        return pool.submit(_measure, axis, work, value).result()


def exponent(values: Sequence[int], figures: Sequence[float]) -> float:
    """Fit the slope of a line through the logarithms."""
    return round(float(np.polyfit(np.log(values), np.log(figures), 1)[0]), 2)


def summarise(values: Sequence[int], measured: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Return the figures of an axis, with exponents of all values and of the last two."""
    seconds, memory = ([float(pair[i]) for pair in measured] for i in (0, 1))
    return {
        "values": list(values),
        "seconds": [round(time, 4) for time in seconds],
        "peak_mib": [round(mib) for mib in memory],
        "exponent": exponent(values, seconds),
        "exponent_at_end": exponent(values[-2:], seconds[-2:]),
        "memory_exponent": exponent(values, memory),
        "memory_exponent_at_end": exponent(values[-2:], memory[-2:]),
    }


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="Two small values of each axis, in one process.")
@cache_option
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures.")
def main(quick: bool, cache: Path | None, file: Path | None) -> None:
    """Run the benchmark; the module's docstring is its help."""
    report: dict[str, Any] = {"about": about(), "axes": {}}
    with work_folder(quick=quick, cache=cache) as work, _process() as shared:
        pool = shared if quick else None
        measure(
            pool, FROZEN, work, QUICK_SEEN_EPISODES if quick else SEEN_EPISODES
        )  # generates, decodes and encodes the clips
        for axis, (_, values, small) in AXES.items():
            chosen = small if quick else values
            measured = [measure(pool, axis, work, value) for value in chosen]
            report["axes"][axis] = summarise(chosen, measured)
            click.echo(f"{axis}: {json.dumps(report['axes'][axis])}")
    write_report(file, report)


if __name__ == "__main__":
    main()
