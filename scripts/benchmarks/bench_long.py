"""Memory and time of an episode over a long run of tuned episodes.

    python scripts/benchmarks/bench_long.py --json results.json
    python scripts/benchmarks/bench_long.py --quick

A run of the toolkit, as a process of its own, tunes an adapter on an encoder with random weights
that is so small (4 x 4 patches, width 16, two blocks) that episodes take milliseconds: what grows
with their number shows. While it runs, its resident memory and its finished episodes are read from
`/proc` and from its records. Figures are the memory at tenths of the run, the growth by a straight
line through the second half, and the seconds of an episode by the clock, early and late: medians of
the second and of the last tenth. Samples end when the run
does: while a process ends, it takes 100 MiB more for its libraries.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import click
import numpy as np
from _about import about, write_report
from _clips import split_of, work_folder

from fewshot_i2v.runs.run_folder import read_run

EPISODES, QUICK_EPISODES = 10_000, 400
_PAGE_MIB = 4096 / 2**20
_RUN = """
import json, sys
from fewshot_i2v.evaluation.evaluate import run
from fewshot_i2v.evaluation.row_expansion import load_config
run(load_config(json.loads(sys.argv[1]), {}))
open(sys.argv[2], "w").close()
"""


class Sample(NamedTuple):
    """Episodes that a run has recorded, and its resident memory in MiB."""

    episodes: int
    mib: float


def settings_of(work: Path, adapter: str, episodes: int, steps: int) -> dict[str, Any]:
    """Make the configuration of the run."""
    vision = {"layers": 2, "width": 16, "head_width": 8, "patch_size": 8, "image_size": 32}
    architecture = work / "tiny.json"
    architecture.write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision}), encoding="utf-8")
    return {
        "split": split_of(work),
        "encoder": {
            "name": "tiny",
            "architecture": str(architecture),
            "pretrained": "random",
            "mean": 0.5,
            "std": 0.5,
        },
        "adapter": [adapter],
        "head": ["linear"],
        "shot": [1],
        "query": 1,
        "episodes": episodes,
        "tuning": {"recipe": "none", "steps": steps},
        "precision": "fp32",
        "cache": str(work / "cache"),
        "output": str(work / "run"),
    }


def watch(settings: dict[str, Any], interval: float) -> list[Sample]:
    """Run an evaluation, and sample it every `interval` seconds once it records episodes.

    Raises:
        click.ClickException: when it fails, or there is no `/proc`.
    """
    done = Path(settings["output"]) / "done"
    command = [sys.executable, "-P", "-c", _RUN, json.dumps(settings), str(done)]
    process = subprocess.Popen(command)
    memory, samples = Path(f"/proc/{process.pid}/statm"), list[Sample]()
    if not memory.exists():
        process.kill()
        raise click.ClickException("this benchmark reads /proc, which only Linux has")
    n_lines, offset = 0, 0
    while process.poll() is None:
        for journal in Path(settings["output"]).glob("*/episodes.jsonl"):
            with journal.open("rb") as file:
                file.seek(offset)
                new = file.read()
            n_lines, offset = n_lines + new.count(b"\n"), offset + len(new)
        fields = memory.read_text().split()
        if n_lines and not done.exists() and len(fields) > 1:
            samples.append(Sample(n_lines, int(fields[1]) * _PAGE_MIB))
        time.sleep(interval)
    if process.returncode:
        raise click.ClickException(f"the run ended with status {process.returncode}")
    return samples


def summary_of_memory(samples: Sequence[Sample], episodes: int) -> dict[str, Any]:
    """Compute memory at tenths of the run, its peak, and its growth in the second half."""
    counts, mib = np.array(samples).T
    tenths = [float(np.interp(episodes * i / 10, counts, mib)) for i in range(1, 11)]
    late = counts >= episodes / 2
    slope = float(np.polyfit(counts[late], mib[late], 1)[0]) if late.sum() > 1 else 0.0
    return {
        "samples": len(samples),
        "mib_at_tenths": [round(value, 1) for value in tenths],
        "peak_mib": round(float(mib.max()), 1),
        "growth_kib_per_episode": round(1024 * slope, 2),
    }


def seconds_early_and_late(run: Path) -> dict[str, float]:
    """Compute the median seconds of an episode in the second and in the last tenth of a run."""
    (folder,) = {path.parent for path in run.glob("*/run.json")}
    seconds = [record.seconds or 0.0 for record in read_run(folder).records.values()]
    tenth = len(seconds) // 10
    parts = {"early": seconds[tenth : 2 * tenth], "late": seconds[-tenth:]}
    return {name: round(median(values), 6) for name, values in parts.items()}


@click.command(help=__doc__)
@click.option("--adapter", default="st-adapter", show_default=True)
@click.option("--episodes", type=click.IntRange(min=100), default=EPISODES, show_default=True)
@click.option("--steps", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--quick", is_flag=True, help=f"{QUICK_EPISODES} episodes of 2 steps.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures.")
def main(adapter: str, episodes: int, steps: int, quick: bool, file: Path | None) -> None:
    """Run the benchmark; the module's docstring is its help."""
    if quick:
        episodes, steps = QUICK_EPISODES, 2
    with work_folder(quick=quick, cache=None) as work:
        start = time.perf_counter()
        samples = watch(settings_of(work, adapter, episodes, steps), 0.05 if quick else 0.5)
        report = {
            "about": about(),
            "setting": {"adapter": adapter, "episodes": episodes, "steps": steps},
            "seconds": round(time.perf_counter() - start, 1),
            "memory": summary_of_memory(samples, episodes),
            "seconds_of_an_episode": seconds_early_and_late(work / "run"),
        }
    click.echo(json.dumps(report, indent=1))
    write_report(file, report)


if __name__ == "__main__":
    main()
