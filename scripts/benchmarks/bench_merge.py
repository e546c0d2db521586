"""Time and memory of reading a run that many shards have written.

    python scripts/benchmarks/bench_merge.py --json results.json

A few real episodes of the frozen encoder are run. Their records, numbered on, fill the files of
`--shards` shards with `--records` each, written as a shard writes them. Then `show` reads the run,
as a process of its own: seconds, processor seconds, and the peak memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
from _about import about, write_report

from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.evaluate import build_row_runners
from fewshot_i2v.evaluation.row_expansion import load_config
from fewshot_i2v.runs.run_folder import RunFolder
from fewshot_i2v.runs.shards import Shard

_RECORDS_AT_ONCE = 1000
# A process that a large one starts begins with the peak memory of the large one. So a small process
# stands between.
_MEASURE = """
import json, os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(json.dumps([time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss]))
sys.exit(status != 0)
"""


def write_shards(folder: Path, shards: int, records: int) -> None:
    """Write a run of `shards` x `records` episodes from the records of ten."""
    settings = {"split": "motions", "episodes": 10, "head": ["prototype"], "output": str(folder)}
    context = EvaluationContext.of(load_config(settings, {}))
    (runner,) = build_row_runners(context)
    context.decode_episodes(runner.episodes, runner.row.tuning, progress=False)
    real = runner.run(runner.episodes)
    facts, identity = runner.header()
    facts["planned"] = shards * records
    for k in range(shards):
        numbered = [
            replace(record, index=index)
            for index, record in enumerate(islice(cycle(real), records), k * records)
        ]
        path = folder / runner.row.slug
        with RunFolder.open(path, facts, identity=identity, shard=Shard(k + 1, shards)) as run:
            for first in range(0, records, _RECORDS_AT_ONCE):
                run.append(numbered[first : first + _RECORDS_AT_ONCE])


def measured(arguments: list[str], repeats: int) -> dict[str, Any]:
    """Measure a command of the toolkit: medians of its seconds, and its largest peak memory."""
    command = [sys.executable, "-P", "-m", "fewshot_i2v", *arguments]
    runs = []
    for _ in range(repeats):
        output = subprocess.run(
            [sys.executable, "-S", "-c", _MEASURE, *command], capture_output=True, check=True
        )
        runs.append(json.loads(output.stdout))
    seconds, processor_seconds, peaks = zip(*runs, strict=True)
    return {
        "seconds": round(median(seconds), 2),
        "processor_seconds": round(median(processor_seconds), 2),
        "peak_mib": round(max(peaks) / (2**20 if sys.platform == "darwin" else 2**10)),
    }


@click.command(help=__doc__)
@click.option("--shards", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--records", type=click.IntRange(min=10), default=10_000, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--quick", is_flag=True, help="8 shards of 1,000 records, once.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures.")
def main(shards: int, records: int, repeats: int, quick: bool, file: Path | None) -> None:
    """Run the benchmark; the module's docstring is its help."""
    if quick:
        shards, records, repeats = 8, 1000, 1
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "run"
        write_shards(folder, shards, records)
        (run,) = {path.parent for path in folder.rglob("run.json")}
        report = {
            "about": about(torch.device("cpu")),
            "shards": shards,
            "records_of_a_shard": records,
            "bytes": sum(path.stat().st_size for path in run.glob("episodes-*.jsonl")),
            "show": measured(["show", str(run)], repeats),
        }
    click.echo(json.dumps(report, indent=1))
    write_report(file, report)


if __name__ == "__main__":
    main()
