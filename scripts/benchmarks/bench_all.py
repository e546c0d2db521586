"""All benchmarks of speed, one after the other, each with a JSON file of its figures.

    python scripts/benchmarks/bench_all.py --out FOLDER
    python scripts/benchmarks/bench_all.py --quick --out FOLDER

With --quick each does little: it shows that everything runs, and its figures are rough. On a GPU
each does what `_device_plan.py` says, which is reckoned to take less than ten minutes for all;
--full does all that their defaults say, which would take more than half an hour there. Generated
clips are decoded once, into FOLDER/cache; only `bench_frozen.py` needs an empty one. Benchmarks
that need a folder of clips (`bench_reading.py`), or minutes of a quiet machine (`bench_engines.py`,
`bench_reports.py`), are run alone. `on_device.py` runs the most important ones within a budget,
after a smoke run and the tests of the device.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from time import perf_counter

import click
from _about import default_device
from _device_plan import TRIMMED

FOLDER = Path(__file__).parent
NAMES = ("tuning", "train", "frozen", "decode", "scale", "merge", "long")
SHARE_CLIPS = ("tuning", "train", "scale", "merge")


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--only", multiple=True, type=click.Choice(NAMES), default=NAMES)
@click.option("--quick", is_flag=True, help="A minute on two quiet cores for all.")
@click.option("--full", is_flag=True, help="On a GPU, too, what the defaults say.")
def main(out: Path, only: tuple[str, ...], quick: bool, full: bool) -> None:
    """Run the benchmarks; the module's docstring is its help."""
    if quick and full:
        raise click.UsageError("--quick and --full exclude each other")
    is_trimmed = not quick and not full and default_device().type == "cuda"
    out.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in only:
        start = perf_counter()
        command = [sys.executable, str(FOLDER / f"bench_{name}.py")]
        command += ["--quick"] if quick else TRIMMED[name] if is_trimmed else []
        command += ["--work", str(out / "frozen-runs")] if name == "frozen" else []
        command += ["--cache", str(out / "cache")] if name in SHARE_CLIPS else []
        status = subprocess.run([*command, "--json", str(out / f"{name}.json")], check=False)
        click.echo(f"== bench_{name}: {perf_counter() - start:.0f} s", err=True)
        if status.returncode:
            failed.append(name)
    if failed:
        raise click.ClickException(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
