"""Time and memory of reading a run that many shards have written.

    python scripts/benchmarks/bench_merge.py --work FOLDER --json results.json

A few real episodes of the frozen encoder are run. Their records, numbered on, fill the files of
`--shards` shards with `--records` each, written as a shard writes them. Then `show` reads the run,
as a process of its own: seconds, processor seconds, and the peak memory. With `--work` the run
stays in that folder, and is read again the next time, as by another version.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import click
from _about import about, measured, toolkit, write_report
from _clips import cache_option, split_of, work_folder

from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.evaluate import build_row_runners
from fewshot_i2v.evaluation.row_expansion import load_config
from fewshot_i2v.runs.run_folder import RunFolder, read_run
from fewshot_i2v.runs.shards import Shard

_RECORDS_AT_ONCE = 1000


def write_shards(work: Path, shards: int, records: int) -> None:
    """Write `run` in a folder, a run of `shards` x `records` episodes from the records of ten."""
    folder = work / "run"
    settings = {"split": split_of(work), "episodes": 10, "head": ["prototype"]}
    settings |= {"output": str(folder), "cache": str(work / "cache")}
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


@click.command(help=__doc__)
@click.option("--shards", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--records", type=click.IntRange(min=10), default=10_000, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--quick", is_flag=True, help="8 shards of 1,000 records, once.")
@click.option(
    "--work",
    "kept",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the run, which stays; a temporary one by default.",
)
@cache_option
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures.")
def main(
    shards: int,
    records: int,
    repeats: int,
    quick: bool,
    kept: Path | None,
    cache: Path | None,
    file: Path | None,
) -> None:
    """Run the benchmark; the module's docstring is its help."""
    if quick:
        shards, records, repeats = 8, 1000, 1
    with nullcontext(kept) if kept else work_folder(quick=quick, cache=cache) as work:
        if not (work / "run").exists():
            work.mkdir(parents=True, exist_ok=True)
            write_shards(work, shards, records)
        (run,) = {path.parent for path in (work / "run").rglob("run.json")}
        journals = list(run.glob("episodes-*.jsonl"))
        report = {
            "about": about(),
            "shards": len(journals),
            "records": len(read_run(run).records),
            "bytes": sum(path.stat().st_size for path in journals),
            "show": measured(toolkit("show", str(run)), repeats),
        }
    click.echo(json.dumps(report, indent=1))
    write_report(file, report)


if __name__ == "__main__":
    main()
