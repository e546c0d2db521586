"""Time and records of one evaluation in one process and in several, also with workers killed.

    python scripts/benchmarks/bench_engines.py --work FOLDER --out FILE [--ray] [--kills 20]

The encoder `demo` and ST-Adapter from its starting point on `motions`. Clips are decoded first,
once. Every worker has one thread, as the run in one process has, so that N workers could be N times
as fast. Start-up and imports count. The runs are done in turn, `--rounds` times. With `--kills`,
another run has its workers killed, so many times, and one has its main process killed five times
and continued with another number of workers. A worker is killed at a random moment of an episode,
after it has recorded one: workers that are killed before they have done anything end a run, as they
should. With `--sleep 50`, episodes of the frozen encoder sleep 50 ms in place of the work of a
device, one at a time, in one process and with 1, 2 and 4 workers. FILE gets the figures as JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
from _sleeping import ABOUT, load, measure_sleeping, write_head

from fewshot_i2v import __version__
from fewshot_i2v.runs.episode_record import TIMING_KEYS
from fewshot_i2v.runs.run_folder import read_run
from fewshot_i2v.utils.environment import git_commit

_COMMAND = [
    *(sys.executable, "-m", "fewshot_i2v", "evaluate", "quickstart", "--quiet", "--json"),
    *("--no-untuned", "--at-once", "1"),
]
_TUNED = ["--adapter", "st-adapter", "--start", "demo-motions"]
_SLEEPING = ["--adapter", "frozen", "--head", "sleeping"]
_SLEEPING_WORKERS = (0, 1, 2, 4)
_MAIN_KILLS = 5
_LOOK_SECONDS = 0.02
Records = dict[int, dict[str, Any]]


def start(
    output: Path, *flags: str, row: Sequence[str] = _TUNED, **environment: str
) -> subprocess.Popen[bytes]:
    """Start an evaluation of a row; its workers have one thread each."""
    return subprocess.Popen(
        [*_COMMAND, *row, "--output", str(output), *flags],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **environment},
    )


def run(output: Path, *flags: str) -> float:
    """Run an evaluation to its end, and return the seconds it took."""
    begin = time.perf_counter()
    if start(output, *flags).wait() != 0:
        raise click.ClickException(f"{output}: the evaluation failed")
    return time.perf_counter() - begin


def records_of(output: Path) -> Records:
    """Return the records of the only row, without timings."""
    (header,) = output.rglob("run.json")
    return {
        index: {key: value for key, value in r.to_dict().items() if key not in TIMING_KEYS}
        for index, r in read_run(header.parent).records.items()
    }


def worker_pids(output: Path) -> dict[str, int]:
    """Return the processes that hold a shard's lock, by the end of the names of its files."""
    pids = {}
    for lock in output.rglob("running-*-of-*"):
        try:
            pids[lock.name.removeprefix("running")] = int(json.loads(lock.read_text())["pid"])
        except (OSError, ValueError, KeyError):  # it ends or begins just now
            continue
    return pids


def recorded(output: Path) -> Counter[str]:
    """Return the number of records of each shard, by the end of the names of its files."""
    return Counter(
        {
            path.stem.removeprefix("episodes"): path.read_bytes().count(b"\n")
            for path in output.rglob("episodes-*.jsonl")
        }
    )


def wait_for_records(output: Path, process: subprocess.Popen[bytes], count: int) -> Counter[str]:
    """Wait until a run has so many more records, or ends; return the new ones of each shard."""
    before = recorded(output)
    while process.poll() is None:
        new = recorded(output) - before
        if new.total() >= count:
            return new
        time.sleep(_LOOK_SECONDS)
    return Counter()


def kill_workers(
    output: Path, flags: Sequence[str], kills: int, seed: int, episode_seconds: float
) -> dict[str, Any]:
    """Run with two workers, of which one is killed again and again, after one to three episodes.

    It is one that has recorded an episode since the last kill. Sooner, workers would end before
    they are ready, which ends the run, or the same episode would be hit each time, and recorded as
    one that kills its workers.
    """
    generator, killed = random.Random(seed), 0
    process = start(output, *flags, "--engine", "processes", "--processes", "2")
    while killed < kills and process.poll() is None:
        new = wait_for_records(output, process, generator.randint(1, 3))
        time.sleep(generator.uniform(0, episode_seconds))
        pids = worker_pids(output)
        able = [pids[shard] for shard in sorted(new) if shard in pids]
        killed += _kill(generator.choice(able)) if able else 0
    process.wait()
    return {"killed": killed, "exit_status": process.returncode}


def kill_main(output: Path, flags: Sequence[str], episodes: int, seed: int) -> dict[str, Any]:
    """Run with 3, 1 and 2 workers in turn, and kill the main process each time but the last."""
    generator, killed = random.Random(seed), 0
    counts, left = ["3", "1", "2", "3", "1", "2"], []
    for number, count in enumerate(counts):
        process = start(output, *flags, "--engine", "processes", "--processes", count)
        if number < _MAIN_KILLS:
            wait_for_records(output, process, generator.randint(1, episodes // 8))
            killed += _kill(process.pid)
        process.wait()
        _wait_for_end(output)
        left.append(episodes - len(records_of(output)))
    return {
        **{"killed": killed, "workers": counts, "episodes_left": left},
        "exit_status": process.returncode,
    }


def _kill(pid: int) -> int:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1


def _wait_for_end(output: Path) -> None:
    """Wait until the workers of a dead main process have seen that it is dead."""
    for _ in range(60):
        if not any(Path(f"/proc/{pid}").exists() for pid in worker_pids(output).values()):
            return
        time.sleep(1)


def measure(
    work: Path, common: Sequence[str], rounds: int, kinds: dict[str, Sequence[str]]
) -> tuple[dict[str, Any], Records]:
    """Run every kind in turn, and check that all write the same records."""
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    expected: Records = {}
    for number in range(rounds):
        for name, flags in kinds.items():
            output = work / f"{name.replace(' ', '-')}-{number}"
            seconds[name].append(round(run(output, *common, *flags), 1))
            records = records_of(output)
            expected = expected or records
            if records != expected:
                raise click.ClickException(f"{output}: other records than the first run")
            click.echo(f"{name}: {seconds[name][-1]} s", err=True)
    base = statistics.median(seconds["one process"])
    figures = {
        name: {"seconds": values, "times_as_fast": round(base / statistics.median(values), 2)}
        for name, values in seconds.items()
    }
    return figures, expected


@click.command(help=__doc__)
@click.option("--work", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--episodes", default=48, show_default=True)
@click.option("--steps", type=click.IntRange(1), help="Of an episode, for short ones.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--kills", default=0, show_default=True, help="Times that a worker is killed.")
@click.option("--sleep", type=click.IntRange(1), help="Milliseconds that an episode sleeps.")
@click.option("--ray", is_flag=True, help="Also one and two workers of a local Ray cluster.")
def main(
    work: Path,
    out: Path,
    episodes: int,
    steps: int | None,
    rounds: int,
    kills: int,
    sleep: int | None,
    *,
    ray: bool,
) -> None:
    """Measure; see the top of this file."""
    report: dict[str, Any] = {
        "version": __version__,
        "commit": git_commit(),
        "cores": len(os.sched_getaffinity(0)),
        "episodes": episodes,
    }
    flags = ["--episodes", str(episodes)]
    if sleep is not None:
        report |= sleeping(work, flags, rounds, sleep)
    else:
        report |= tuned(work, flags, episodes, steps, rounds, kills, ray=ray)
    out.write_text(json.dumps(report, indent=1) + "\n")


def sleeping(work: Path, flags: Sequence[str], rounds: int, milliseconds: int) -> dict[str, Any]:
    """Measure episodes that sleep."""
    plugins = write_head(work, milliseconds / 1000)
    begin = partial(start, row=_SLEEPING, FEWSHOT_I2V_PLUGINS=str(plugins.resolve()))
    if begin(work / "first", *flags, "--head", "prototype").wait() != 0:  # decodes and encodes
        raise click.ClickException("the evaluation failed")
    runs = measure_sleeping(
        begin, records_of, work, flags, rounds=rounds, workers=_SLEEPING_WORKERS
    )
    return {"about": ABOUT, "milliseconds": milliseconds, "load": load(), "runs": runs}


def tuned(
    work: Path,
    flags: list[str],
    episodes: int,
    steps: int | None,
    rounds: int,
    kills: int,
    *,
    ray: bool,
) -> dict[str, Any]:
    """Measure tuned episodes, and runs of them that are killed."""
    kinds: dict[str, Sequence[str]] = {
        "one process": (),
        "1 worker": ("--engine", "processes", "--processes", "1"),
        "2 workers": ("--engine", "processes", "--processes", "2"),
    }
    if ray:
        kinds["1 worker of Ray"] = ("--engine", "ray", "--processes", "1")
        kinds["2 workers of Ray"] = ("--engine", "ray", "--processes", "2")
    run(work / "first", *flags, "--steps", "0")  # generates and decodes the clips
    flags += [] if steps is None else ["--steps", str(steps)]
    report: dict[str, Any] = {}
    report["runs"], expected = measure(work, flags, rounds, kinds)
    episode_seconds = min(report["runs"]["one process"]["seconds"]) / episodes
    tests: dict[str, Callable[[Path], dict[str, Any]]] = {
        "workers_killed": lambda output: kill_workers(output, flags, kills, 0, episode_seconds),
        "main_process_killed": lambda output: kill_main(output, flags, episodes, seed=0),
    }
    for name, test in tests.items() if kills else ():
        output = work / name
        facts = test(output)
        report[name] = {**facts, "records_are_equal": records_of(output) == expected}
        click.echo(f"{name}: {report[name]}", err=True)
    return report


if __name__ == "__main__":
    main()
