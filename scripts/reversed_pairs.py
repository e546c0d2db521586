"""How well each row of a run on `motions` tells a class from the same motion played backwards.

    python scripts/reversed_pairs.py runs/started

Counted are the query clips in whose episode the reverse of their class is too: the share of them to
which the reverse looks less likely than their own class. Without the order of frames it is 50 %.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.runs.run_folder import read_run

PAIRS = (
    ("appears-bottom-then-top", "appears-top-then-bottom"),
    ("come-together", "move-apart"),
    ("grows-then-moves", "moves-then-shrinks"),
    ("moves-down", "moves-up"),
    ("spirals-in", "spirals-out"),
)
"""The novel classes of `motions`."""
REVERSE = {a: b for pair in PAIRS for a, b in (pair, pair[::-1])}


def told_apart(records: Iterable[EpisodeRecord]) -> tuple[int, int]:
    """Query clips that look more like their class than like its reverse, and all that count."""
    right = total = 0
    for record in records:
        if record.status != "ok":
            continue
        place = {name: i for i, name in enumerate(record.classes)}
        for label, scores in zip(record.labels, record.probabilities, strict=True):
            other = place.get(REVERSE[record.classes[label]])
            if other is not None:
                total += 1
                right += scores[label] > scores[other]
    return right, total


@click.command(help=__doc__)
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(run: Path) -> None:
    """Prints a line per row."""
    for folder in sorted(path.parent for path in run.glob("*/run.json")):
        right, total = told_apart(read_run(folder).records.values())
        click.echo(f"{100 * right / total:5.1f} % of {total}  {folder.name}")


if __name__ == "__main__":
    main()
