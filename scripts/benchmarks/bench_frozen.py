r"""Time and memory of many episodes of the frozen encoder on clips that were seen before.

    python scripts/benchmarks/bench_frozen.py --work runs/bench-frozen \\
        --json scripts/benchmarks/results/frozen-cpu-2-cores.json

Evaluates generated clips as processes of their own: once with an empty cache, then on seen clips,
with few episodes (start-up) and with many. Then the many episodes run once more in this process,
whose parts are timed. Prints one JSON object.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from time import process_time
from typing import Any
from unittest import mock

import click
from _about import about, measured, write_report
from _clips import choose_split, split_of

TIMINGS = ("seconds", "peak_memory_mb", "crc32")
QUICK_EPISODES = 60


def settings_of(work: Path, encoder: str, episodes: int, name: str) -> dict[str, Any]:
    """The evaluation: class means of the frozen encoder on the novel classes of `motions`."""
    return {
        "split": split_of(work),
        "encoder": {"name": encoder},
        "adapter": ["frozen"],
        "head": ["prototype"],
        "shot": [1],
        "query": 5,
        "episodes": episodes,
        "tuning": {"steps": 0},
        "output": str(work / name),
        "cache": str(work / "cache"),
    }


def measured_run(settings: dict[str, Any], repeats: int = 1) -> dict[str, float]:
    """Measure evaluations, each of which begins with an empty run folder."""
    code = (
        "import json, shutil, sys\n"
        "from fewshot_i2v.evaluation.evaluate import run\n"
        "from fewshot_i2v.evaluation.row_expansion import load_config\n"
        "settings = json.loads(sys.argv[1])\n"
        "shutil.rmtree(settings['output'], ignore_errors=True)\n"
        "run(load_config(settings, {}))\n"
    )
    return measured([sys.executable, "-P", "-c", code, json.dumps(settings)], repeats)


def records_of(output: Path) -> list[dict[str, Any]]:
    """Records of the one row of a run, without times and memory."""
    (journal,) = output.glob("*/episodes.jsonl")
    with journal.open(encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    return [{key: value for key, value in r.items() if key not in TIMINGS} for r in records]


def cached_clips(output: Path) -> int:
    """Clips whose features the run read from the cache."""
    (header,) = output.glob("*/run.json")
    return int(json.loads(header.read_text(encoding="utf-8"))["cached_clips"])


@contextmanager
def timed(
    parts: dict[str, list[tuple[Any, str]]], clock: Callable[[], float] = process_time
) -> Iterator[dict[str, float]]:
    """Adds up the processor seconds of functions within the block.

    Args:
        parts: by name, the functions: what they belong to, and their names there.
        clock: of the process, or of each thread where several work.
    """
    seconds: dict[str, float] = defaultdict(float)
    originals: list[tuple[Any, str, Any]] = []

    def _watch(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def _timed(*args: object, **kwargs: object) -> object:
            start = clock()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[part] += clock() - start

        return _timed

    for part, functions in parts.items():
        for owner, name in functions:
            originals.append((owner, name, getattr(owner, name)))
            setattr(owner, name, _watch(part, getattr(owner, name)))
    try:
        yield seconds
    finally:
        for owner, name, function in originals:
            setattr(owner, name, function)


def refuse_idle_parts(seconds: Mapping[str, float]) -> None:
    """Raises for a part whose functions were never called, such as after another part took over.

    Args:
        seconds: by part, in all.

    Raises:
        click.ClickException: with the name of the part.
    """
    idle = [part for part, total in seconds.items() if total == 0]
    if idle:
        raise click.ClickException(
            f"no time was measured for {', '.join(idle)}: name the functions that do it now"
        )


def timed_functions() -> dict[str, list[tuple[Any, str]]]:
    """The functions of each part of an evaluation, for `timed`."""
    from fewshot_i2v.evaluation import row_runner
    from fewshot_i2v.evaluation.context import EvaluationContext
    from fewshot_i2v.evaluation.row_execution import RowExecution
    from fewshot_i2v.runs.run_folder import RunFolder

    return {
        "sampling": [(EvaluationContext, "draw")],
        "clips": [(RowExecution, "prepare")],
        "features and head": [(row_runner.RowRunner, "_predict")],
        "records": [(row_runner, "record_of")],
        "journal": [(RunFolder, "append")],
        "summary": [(RowExecution, "summarise")],
    }


def seconds_of_parts(settings: dict[str, Any]) -> dict[str, float]:
    """Processor seconds of the parts of an evaluation in this process."""
    from fewshot_i2v.evaluation import evaluate
    from fewshot_i2v.evaluation.row_execution import RowExecution
    from fewshot_i2v.evaluation.row_expansion import load_config

    shutil.rmtree(settings["output"], ignore_errors=True)
    parts = timed_functions()
    start = process_time()
    # records are written by this thread, since processor seconds are those of all threads
    aside = mock.patch.object(RowExecution, "_writing_aside", return_value=nullcontext())
    with timed(parts) as seconds, aside:
        evaluate.run(load_config(settings, {}))
    total = process_time() - start
    refuse_idle_parts({part: seconds[part] for part in parts})
    named = {part: round(seconds[part], 2) for part in parts}
    return named | {"rest": round(total - sum(seconds.values()), 2), "all": round(total, 2)}


@click.command(context_settings={"show_default": True})
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    default=Path("runs/bench-frozen"),
    help="Folder of runs and cache.",
)
@click.option("--episodes", type=click.IntRange(min=1), default=10_000, help="How many.")
@click.option("--encoder", default="demo", help="Encoder with shipped weights.")
@click.option("--repeats", type=click.IntRange(min=1), default=3, help="Of runs on seen clips.")
@click.option("--quick", is_flag=True, help=f"{QUICK_EPISODES} episodes, once: does it work?")
@click.option("--json", "record", type=click.Path(path_type=Path), help="File for the result.")
def main(
    *, work: Path, episodes: int, encoder: str, repeats: int, quick: bool, record: Path | None
) -> None:
    """Time and memory of many episodes of the frozen encoder on clips that were seen before."""
    if quick:
        episodes, repeats = QUICK_EPISODES, 1
    few = 10
    work.mkdir(parents=True, exist_ok=True)
    choose_split(work, quick=quick)
    shutil.rmtree(work / "cache", ignore_errors=True)
    new = measured_run(settings_of(work, encoder, episodes, "new"))
    begun = measured_run(settings_of(work, encoder, few, "few"), repeats)
    seen = measured_run(settings_of(work, encoder, episodes, "seen"), repeats)
    result = {
        "setting": {"encoder": encoder, "episodes": episodes, "few": few, "repeats": repeats},
        "new_clips": new,
        "seen_clips": seen,
        "seen_clips_few_episodes": begun,
        "cached_clips": cached_clips(work / "seen"),
        "equal_records": records_of(work / "new") == records_of(work / "seen"),
        "cpu_seconds_of_parts": seconds_of_parts(settings_of(work, encoder, episodes, "parts")),
        "about": about(),
    }
    click.echo(json.dumps(result, indent=1))
    write_report(record, result)


if __name__ == "__main__":
    main()
