"""Processor seconds of the quickstart, with an empty cache and on seen clips, in two versions.

    python scripts/benchmarks/bench_quickstart.py --work FOLDER --other CHECKOUT --json results.json

`fewshot-i2v evaluate`, as the README has it, in a process of its own with one thread: first with an
empty cache, in which clips are generated and decoded, then once more into another run folder. With
`--other`, the checkout of another version, both take turns. The two quickstarts need not have the
same rows: so the rows of the other one are also run by this version, in fp32, which was the only
default before there was `auto`, and with this version's defaults. Seconds are of the process and of
those that it started, for each round; the file is written again after every run. On a shared
machine compare processor seconds, not the clock.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from statistics import median
from typing import Any

import click
import yaml
from _about import about, measured, toolkit, write_report

THIS = Path(__file__).resolve().parents[2]
CACHES = ("empty cache", "seen clips")


def other_rows(other: Path, work: Path) -> Path:
    """Write the rows of another version's quickstart as a configuration of this one."""
    content = yaml.safe_load((other / "configs" / "quickstart.yaml").read_text(encoding="utf-8"))
    content["tuning"] = {"recipe": "none", **content["tuning"]}
    file = work / "other-rows.yaml"
    file.write_text(yaml.safe_dump(content | {"untuned": False}), encoding="utf-8")
    return file


def commands(work: Path, other: Path | None) -> dict[str, tuple[Path, list[str]]]:
    """Name what is measured: the checkout, and the arguments after `evaluate`."""
    if other is None:
        return {"this": (THIS, [])}
    rows = str(other_rows(other, work))
    return {
        "this": (THIS, []),
        "other": (other, []),
        "rows of other, by this, fp32": (THIS, [rows, "--precision", "fp32"]),
        "rows of other, by this": (THIS, [rows]),
    }


def measure(work: Path, checkout: Path, arguments: list[str]) -> dict[str, dict[str, float]]:
    """Measure an evaluation with an empty cache, then on the clips that it has seen."""
    shutil.rmtree(work / "home", ignore_errors=True)
    figures = {}
    for cache in CACHES:
        output = work / "run"
        shutil.rmtree(output, ignore_errors=True)
        environment = {
            "PYTHONPATH": checkout,
            "OMP_NUM_THREADS": 1,
            "FEWSHOT_I2V_HOME": work / "home",
        }
        settings = [f"{name}={value}" for name, value in environment.items()]
        command = toolkit("evaluate", *arguments, "--output", str(output))
        figures[cache] = measured(["env", *settings, *command])
    return figures


def summarise(rounds: dict[str, list[dict[str, dict[str, float]]]]) -> dict[str, Any]:
    """Return the processor seconds of each round and their median, by command and cache."""
    summary: dict[str, Any] = {}
    for name, turns in rounds.items():
        for cache in CACHES if turns else ():
            seconds = [turn[cache]["cpu_seconds"] for turn in turns]
            summary.setdefault(name, {})[cache] = {
                "cpu_seconds": round(median(seconds), 1),
                "of_rounds": seconds,
                "peak_mib": max(turn[cache]["peak_mib"] for turn in turns),
            }
    return summary


@click.command(help=__doc__)
@click.option("--work", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--rounds", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--other", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--other-name", default="", help="Its commit, for the record.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures.")
def main(work: Path, rounds: int, other: Path | None, other_name: str, file: Path | None) -> None:
    """Run the benchmark; the module's docstring is its help."""
    work.mkdir(parents=True, exist_ok=True)
    kinds = commands(work, other and other.resolve())
    turns: dict[str, list[dict[str, dict[str, float]]]] = {name: [] for name in kinds}
    facts = about() | ({"other": other_name} if other else {})
    for number in range(rounds):
        for name, (checkout, arguments) in kinds.items():
            figures = measure(work, checkout, arguments)
            turns[name].append(figures)
            click.echo(f"round {number + 1}, {name}: {figures}", err=True)
            write_report(file, {"about": facts, "runs": summarise(turns)})
    for name, caches in summarise(turns).items():
        for cache, row in caches.items():
            click.echo(f"{name:<30}{cache:<13}{row['cpu_seconds']:>8.1f} s  {row['of_rounds']}")


if __name__ == "__main__":
    main()
