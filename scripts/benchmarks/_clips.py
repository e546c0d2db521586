"""Generated clips that benchmarks run on, and may share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import yaml

from fewshot_i2v.data.splits.split_file import load_split

QUICK_CLIPS = 8
_FEW = "few-motions.yaml"

cache_option = click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of decoded clips, for several benchmarks; a temporary one by default.",
)


@contextmanager
def work_folder(*, quick: bool, cache: Path | None) -> Iterator[Path]:
    """Make a temporary folder for a benchmark, with its split and its `cache`.

    Args:
        quick: whether the split is a copy of `motions` with a few clips of each class.
        cache: what `cache` in the folder leads to; None: a folder of its own.
    """
    with TemporaryDirectory() as name:
        work = Path(name)
        choose_split(work, quick=quick)
        if cache is not None:
            cache.mkdir(parents=True, exist_ok=True)
            (work / "cache").symlink_to(cache.resolve(), target_is_directory=True)
        yield work


def choose_split(work: Path, *, quick: bool) -> None:
    """Write the copy of `motions` with a few clips of each class into a folder, or remove it."""
    if not quick:
        (work / _FEW).unlink(missing_ok=True)
        return
    content = yaml.safe_load(Path(load_split("motions").path or "").read_text(encoding="utf-8"))
    content["generator"]["clips"] = QUICK_CLIPS
    (work / _FEW).write_text(yaml.safe_dump(content | {"name": "few-motions"}), encoding="utf-8")


def split_of(work: Path) -> str:
    """Return the split of the benchmarks in a folder: `motions`, or the copy that lies there."""
    few = work / _FEW
    return str(few) if few.exists() else "motions"
