"""Time and memory to load a split whose clips are in a CSV.

    python scripts/benchmarks/bench_split_loading.py --clips 1000000

The CSV is made up, in a temporary folder. Prints one JSON object with the setting, the seconds to
load the split (with its digest) and to draw one episode, and the peak memory of the process, beside
that before loading. With --new the CSV also goes through the steps of `episodes new`.
"""

from __future__ import annotations

import json
import platform
import resource
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import click

from fewshot_i2v.data.episodes.sampler import EpisodeSampler
from fewshot_i2v.data.splits.builder.build import make_split, write_new_split
from fewshot_i2v.data.splits.builder.class_selection import select_classes
from fewshot_i2v.data.splits.builder.list_importer import import_csv
from fewshot_i2v.data.splits.split_file import load_split


def write_table(path: Path, clips: int, classes: int) -> None:
    """A CSV of `clips` clips, dealt out to `classes` classes, with groups of ten."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("path,class,group\n")
        for i in range(clips):
            label = i % classes
            file.write(f"class-{label:04d}/clip_{i:08d}.mp4,class-{label:04d},g{i // 10}\n")


def peak_mib() -> float:
    """Most memory that this process has had so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)


def load_steps(folder: Path) -> dict[str, object]:
    """Loads the split and draws one episode."""
    start = perf_counter()
    split = load_split(folder / "split.yaml")
    digest = split.digest
    loaded = perf_counter()
    episode = EpisodeSampler(split, seed=0, way=5, shot=5, query=5)[0]
    drawn = perf_counter()
    return {
        "load_seconds": round(loaded - start, 2),
        "first_episode_seconds": round(drawn - loaded, 2),
        "split_digest": digest,
        "episode_digest": episode.digest,
    }


def new_steps(folder: Path) -> dict[str, object]:
    """What `episodes new` does with the CSV."""
    start = perf_counter()
    listing = import_csv(folder / "clips.csv")
    read = perf_counter()
    chosen = select_classes(list(listing.classes()), base=0.6)
    split = make_split(listing, chosen, name="made-up")
    made = perf_counter()
    files = write_new_split(split, folder / "new.yaml", "a CSV")
    return {
        "new_read_seconds": round(read - start, 2),
        "new_make_seconds": round(made - read, 2),
        "new_write_seconds": round(perf_counter() - made, 2),
        "new_files": [file.name for file in files],
    }


@click.command(context_settings={"show_default": True})
@click.option("--clips", type=click.IntRange(min=100), default=1_000_000, help="Lines of the CSV.")
@click.option("--classes", type=click.IntRange(min=5), default=100, help="Classes of the split.")
@click.option("--new", is_flag=True, help="Also make a new split of it.")
def main(*, clips: int, classes: int, new: bool) -> None:
    """Time and memory to load a split whose clips are in a CSV."""
    if clips < 10 * classes:
        raise click.UsageError(f"--clips {clips}: expected 10 for each of {classes} classes")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_table(folder / "clips.csv", clips, classes)
        (folder / "split.yaml").write_text("name: made-up\nsubsets: {novel: {csv: clips.csv}}\n")
        size, before = (folder / "clips.csv").stat().st_size, peak_mib()
        result: dict[str, object] = {
            "setting": {"clips": clips, "classes": classes},
            "csv_mib": round(size / 2**20, 1),
            **load_steps(folder),
            "peak_mib": peak_mib(),
            "peak_mib_before": before,
        }
        if new:
            result |= {**new_steps(folder), "new_peak_mib": peak_mib()}
    result |= {"python": platform.python_version(), "machine": platform.machine()}
    click.echo(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
