"""All benchmarks of speed, one after the other, each with a JSON file of its figures.

    python scripts/benchmarks/bench_all.py --out FOLDER
    python scripts/benchmarks/bench_all.py --quick --out FOLDER

With --quick each does little: it shows that everything runs, and its figures are rough. Generated
clips are decoded once, into FOLDER/cache; only `bench_frozen.py` needs an empty one. Benchmarks
that need a folder of clips (`bench_reading.py`), or minutes of a quiet machine (`bench_engines.py`,
`bench_reports.py`), are run alone.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from time import perf_counter

import click

FOLDER = Path(__file__).parent
NAMES = ("tuning", "train", "frozen", "decode", "scale", "merge", "long")
SHARE_CLIPS = ("tuning", "train", "scale", "merge")


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--only", multiple=True, type=click.Choice(NAMES), default=NAMES)
@click.option("--quick", is_flag=True, help="A minute on two quiet cores for all.")
def main(out: Path, only: tuple[str, ...], quick: bool) -> None:
    """Run the benchmarks; the module's docstring is its help."""
    out.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in only:
        start = perf_counter()
        command = [sys.executable, str(FOLDER / f"bench_{name}.py")]
        command += ["--quick"] if quick else []
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
