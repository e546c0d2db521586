"""Episodes that sleep: how well a run is divided, with a device in place of the host's cores."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

LOOK_SECONDS = 0.02
ABOUT = (
    "Each episode sleeps in place of the work of a device: the host waits for it, as it would for "
    "a GPU. This shows what handing out batches, recording and reading features cost, and what is "
    "lost where several workers do so at once. It does not show what workers lose to each other "
    "when they share cores, memory or a device."
)
_HEAD = '''"""Sleeping: the nearest class mean, after a pause for each episode."""

import time

from fewshot_i2v.models.heads.prototype import PrototypeHead


class SleepingHead(PrototypeHead):
    """Scores as the nearest class mean does, and sleeps as long as a device would work."""

    source = "unpublished, of this benchmark"

    def prepare(self, support, labels):
        """Sleeps, and computes the class means."""
        time.sleep({seconds!r} * len(labels))
        return super().prepare(support, labels)
'''


def write_head(folder: Path, seconds: float) -> Path:
    """Write the plug-in head `sleeping` of so many seconds an episode, and return its folder."""
    path = folder / "plugins" / "heads" / "sleeping.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_HEAD.format(seconds=seconds))
    return path.parents[1]


def watch(process: subprocess.Popen[bytes], output: Path, workers: int) -> dict[str, float]:
    """Run an evaluation to its end, and look at its record files while they grow.

    Its steady part begins when each worker has written a record, and ends with the last record.

    Returns:
        Seconds of the command, of its steady part, the episodes a second of that, and the seconds
        of processor time of all processes.
    """
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    looks: list[tuple[float, dict[Path, int]]] = []
    while process.poll() is None:
        sizes = {path: path.stat().st_size for path in output.glob("*/episodes*.jsonl")}
        sizes = {path: size for path, size in sizes.items() if size}
        if len(sizes) >= workers and (not looks or sizes != looks[-1][1]):
            looks.append((time.perf_counter(), sizes))
        time.sleep(LOOK_SECONDS)
    total = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode != 0 or not looks:
        raise click.ClickException(f"{output}: the evaluation failed")
    first, last = looks[0], looks[-1]
    counts = [
        sum(path.read_bytes()[:size].count(b"\n") for path, size in sizes.items())
        for _, sizes in (first, last)
    ]
    seconds = last[0] - first[0]
    return {
        "seconds": round(total, 2),
        "steady_seconds": round(seconds, 2),
        "episodes_a_second": round((counts[1] - counts[0]) / seconds, 2),
        "processor_seconds": round(
            after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2
        ),
    }


def measure_sleeping(
    start: Callable[..., subprocess.Popen[bytes]],
    records_of: Callable[[Path], Any],
    work: Path,
    flags: Sequence[str],
    *,
    rounds: int,
    workers: Sequence[int],
) -> dict[str, Any]:
    """Run with each number of workers in turn, 0: in one process; all write the same records."""
    rows: dict[int, list[dict[str, float]]] = {count: [] for count in workers}
    expected = None
    for number in range(rounds):
        for count in workers:
            output = work / f"{count}-sleeping-{number}"
            engine = ("--engine", "processes", "--processes", str(count)) if count else ()
            rows[count].append(watch(start(output, *flags, *engine), output, max(1, count)))
            click.echo(f"{_name(count)}: {rows[count][-1]}", err=True)
            records = records_of(output)
            expected = expected or records
            if records != expected:
                raise click.ClickException(f"{output}: other records than the first run")
    rates = {
        count: statistics.median(each["episodes_a_second"] for each in runs)
        for count, runs in rows.items()
    }
    return {
        _name(count): {
            "rounds": runs,
            "median_episodes_a_second": rates[count],
            "efficiency_to_1_worker": round(rates[count] / (max(1, count) * rates[1]), 3),
            "efficiency_to_one_process": round(rates[count] / (max(1, count) * rates[0]), 3),
            "median_seconds": statistics.median(each["seconds"] for each in runs),
            "median_seconds_before_and_after_the_steady_part": round(
                statistics.median(each["seconds"] - each["steady_seconds"] for each in runs), 2
            ),
        }
        for count, runs in rows.items()
    }


def _name(count: int) -> str:
    return f"{count} worker{'s' * (count > 1)}" if count else "one process"


def load() -> tuple[float, float, float]:
    """Return the mean number of processes that wanted to run, over 1, 5 and 15 minutes."""
    return os.getloadavg()
