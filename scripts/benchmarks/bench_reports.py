r"""Time and memory of reading long runs: `show`, `compare`, `plan` and `report`.

    python scripts/benchmarks/bench_reports.py --work runs/bench-reports \\
        --record scripts/benchmarks/results/reports-cpu-2-cores.json

Makes ten real runs of the frozen encoder on generated clips (once; they are kept in --work), then
runs each command as a process of its own. Prints one JSON object: the median of the repeats and the
largest peak memory of a process.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import click
from _about import about, measured, toolkit, write_report

HEADS = (
    *("prototype", "prototype:pooling=ordered", "prototype:center=true,pooling=ordered"),
    *("nearest", "prototype:pooling=mean"),
)
SHOTS = (1, 5)


def make_runs(work: Path, episodes: int) -> list[Path]:
    """Run folders: one for each head and number of shots."""
    flags = [part for head in HEADS for part in ("--head", head)]
    flags += [part for shot in SHOTS for part in ("--shot", str(shot))]
    command = toolkit(
        *("evaluate", "quickstart", "--adapter", "frozen", *flags),
        *("--episodes", str(episodes), "--output", str(work), "--quiet"),
    )
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return sorted(path.parent for path in work.glob("*/run.json"))


@click.command(context_settings={"show_default": True})
@click.option(
    "--work", type=click.Path(path_type=Path), required=True, help="Folder of the runs to read."
)
@click.option("--episodes", type=click.IntRange(min=100), default=10_000, help="Of each run.")
@click.option("--repeats", type=click.IntRange(min=1), default=5, help="Of each command.")
@click.option("--record", type=click.Path(path_type=Path), help="File to write the figures to.")
def main(*, work: Path, episodes: int, repeats: int, record: Path | None) -> None:
    """Time and memory of reading long runs."""
    runs = make_runs(work, episodes)
    first = [str(run) for run in runs if run.name.endswith("1shot")]
    commands = {
        "show of one run": ("show", first[0]),
        "compare of two runs": ("compare", *first[:2], "--baseline", first[0]),
        "plan from one run": ("plan", first[0]),
        "report of all runs": ("report", str(work), "--out", str(work / "report.html")),
        "report of all runs as a table": ("report", str(work), "--out", str(work / "report.tex")),
    }
    found = {name: measured(toolkit(*args), repeats) for name, args in commands.items()}
    page = (work / "report.html").stat().st_size
    result = {
        "about": about(libraries=("numpy", "matplotlib")),
        "setting": {"runs": len(runs), "episodes": episodes, "repeats": repeats},
        "page_mib": round(page / 2**20, 2),
        "commands": found,
    }
    click.echo(json.dumps(result, indent=1))
    write_report(record, result)


if __name__ == "__main__":
    main()
