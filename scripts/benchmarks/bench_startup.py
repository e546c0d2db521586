"""Processor seconds of the start of an evaluation in several processes, main process and worker.

    python scripts/benchmarks/bench_startup.py --work FOLDER --out FILE [--other CHECKOUT]

ST-Adapter from its starting point on `motions`, encoder `demo`, two episodes, clips decoded before.
The main process and one worker are measured one after the other, in processes of their own with one
thread, so that one core is enough; `first_episode_with_a_core_each` is reckoned from that.
`--other` is the checkout of another version, which is measured in turn with this one. FILE gets
medians as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import torch
from _about import about, write_report

_FLAGS = ["--adapter", "st-adapter", "--start", "demo-motions", "--no-untuned", "--at-once", "1"]
_MAIN = """\
import sys, time
from fewshot_i2v.evaluation.engines.processes import ProcessPool
from fewshot_i2v.cli import main

def timed(name, function):
    def call(*arguments, **more):
        print(name, time.process_time(), file=sys.stderr, flush=True)
        return function(*arguments, **more)
    return call

if __name__ == "__main__":
    ProcessPool.__init__ = timed("workers_start", ProcessPool.__init__)
    ProcessPool.submit = timed("batch_handed_out", ProcessPool.submit)
    main(sys.argv[1:])
"""
_WORKER = """\
import sys, time
from fewshot_i2v.evaluation.engines.worker import Worker
from fewshot_i2v.evaluation.engines.jobs import BatchJob
from fewshot_i2v.evaluation.row_expansion import load_config
from fewshot_i2v.runs.shards import Shard

settings = dict(adapter="st-adapter", start="demo-motions", untuned=False, at_once=1, episodes=2)
worker = Worker(load_config("quickstart", dict(settings, output=sys.argv[1])), Shard(1, 2), None)
print("ready", time.process_time(), file=sys.stderr)
for number in range(2):
    worker.run(BatchJob(0, number, (number,)))
    print(f"episode_{number + 1}", time.process_time(), file=sys.stderr)
"""


def milestones(program: Path, checkout: Path, *arguments: str) -> dict[str, float]:
    """Run a program with the package of a checkout; return when it first reached each milestone."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", str(program), *arguments]
    done = subprocess.run(
        command, env=environment, check=True, text=True, stdout=subprocess.DEVNULL, stderr=-1
    )
    reached: dict[str, float] = {}
    for line in done.stderr.splitlines():
        name, _, seconds = line.partition(" ")
        if name.isidentifier() and seconds.replace(".", "", 1).isdecimal():
            reached.setdefault(name, float(seconds))
    return reached


def measure(work: Path, checkout: Path) -> dict[str, float]:
    """Measure the main process, then a worker in the folder that it made."""
    output = work / "run"
    shutil.rmtree(output, ignore_errors=True)
    flags = [*_FLAGS, "--episodes", "2", "--output", str(output)]
    engine = ["--quiet", "--engine", "processes", "--processes", "1"]
    main_process = milestones(work / "main.py", checkout, "evaluate", "quickstart", *flags, *engine)
    for journal in output.rglob("episodes-*.jsonl"):
        journal.unlink()
    return {**main_process, **milestones(work / "worker.py", checkout, str(output))}


def summarise(rounds: list[dict[str, float]]) -> dict[str, Any]:
    """Return medians, and when the first episode is done where each process has a core."""
    medians = {name: round(statistics.median(r[name] for r in rounds), 2) for name in rounds[0]}
    ready = medians["workers_start"] + medians["ready"]
    handed_out = max(ready, medians["batch_handed_out"])
    first = handed_out + medians["episode_1"] - medians["ready"]
    return {**medians, "first_episode_with_a_core_each": round(first, 2)}


@click.command(help=__doc__)
@click.option("--work", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--other", type=click.Path(path_type=Path, file_okay=False, exists=True))
def main(work: Path, out: Path, rounds: int, other: Path | None) -> None:
    """Measure; see the top of this file."""
    work.mkdir(parents=True, exist_ok=True)
    (work / "main.py").write_text(_MAIN, encoding="utf-8")
    (work / "worker.py").write_text(_WORKER, encoding="utf-8")
    checkouts = {"this": Path(__file__).resolve().parents[2], **({"other": other} if other else {})}
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
    for number in range(rounds + 1):
        for name, checkout in checkouts.items():
            seconds = measure(work, checkout)
            if number:  # the first round generates and decodes the clips
                measured[name].append(seconds)
    figures = {name: summarise(values) for name, values in measured.items()}
    write_report(out, {"about": about(torch.device("cpu")), "processor_seconds": figures})
    click.echo(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
