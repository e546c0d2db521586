"""`fewshot-i2v compare`: which of several rows is better, over the same episodes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fewshot_i2v.cli._common import echo_json
from fewshot_i2v.cli._runs import (
    Header,
    facts_of,
    group_key,
    place_of,
    run_folders,
    several_runs,
    title_of,
)
from fewshot_i2v.cli._same_rows import check_seeds, names_of_starts, row_key

if TYPE_CHECKING:
    from fewshot_i2v.report._answers import Answer, Episode
    from fewshot_i2v.report._contenders import Contender, Pair
    from fewshot_i2v.report.comparison import Comparison


@dataclass(frozen=True)
class Read:
    """A run folder as read.

    Attributes:
        folder: the run folder.
        header: content of its `run.json`.
        answers: by episode number.
    """

    folder: Path
    header: Header
    answers: dict[int, Answer]

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Labels of adapter and head, shot and training seed."""
        return facts_of(self.header)

    @property
    def start(self) -> dict[str, Any]:
        """The starting point, as the header marks it; empty for a fresh one."""
        return self.header.get("marks", {}).get("start") or {}

    def order(self) -> tuple[str, int, bool, Path]:
        """Where it stands among others."""
        place = place_of(self.header, self.facts["adapter"], self.folder)
        return str(self.folder.parent), *place

    @property
    def but_for_the_seed(self) -> tuple[object, ...]:
        """Equal for runs that differ in the training seed alone."""
        if self.facts["training_seed"] is None:
            return (self.folder,)
        return (row_key(self.header, self.folder),)


@click.command(short_help="Say which rows differ, and whether that could be chance.")
@several_runs
@click.option(
    "--baseline",
    metavar="NAME|FOLDER",
    help="Compare with this row: an adapter, a name from the table, or a folder. [default: the "
    "adapter frozen with the same head and shot]",
)
@click.option("--all-pairs", is_flag=True, help="Compare every two rows of the same shot.")
@click.option("--common", is_flag=True, help="Compare the episodes that both rows have.")
@click.option(
    "--across",
    multiple=True,
    metavar="KEY",
    help="Compare although this key differs, such as encoder or video.frames.",
)
@click.option(
    "--level",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Of the intervals, and of all verdicts together.",
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def command(
    runs: tuple[Path, ...],
    baseline: str | None,
    all_pairs: bool,
    common: bool,
    across: tuple[str, ...],
    level: float,
    as_json: bool,
) -> None:
    """Compare the rows of RUN..., run folders or folders of run folders, episode by episode.

    Each row is compared with its baseline over the same episodes: difference with interval, p of a
    sign-flip test, and p adjusted for the number of comparisons (Holm). Rows that were not asked
    the same episodes are refused.
    """
    if all_pairs and baseline is not None:
        raise click.UsageError("--all-pairs needs no baseline: give either it or --baseline")
    from fewshot_i2v.report import _contenders as rows
    from fewshot_i2v.report.comparison import compare_rows

    folder = _folder(baseline)
    contenders = _contenders([*runs, *([folder] if folder else [])])
    alone: list[Contender] = []
    pairs: list[Pair]
    if all_pairs:
        pairs = rows.all_pairs(contenders)
    elif baseline is None:
        pairs, alone = rows.against_frozen(contenders)
    else:
        pairs, alone = rows.against(contenders, baseline, folder)
    names = rows.names_of(contenders)
    found = compare_rows(pairs, names, level=level, common=common, across=across)
    _show(found, alone, level, as_json=as_json)


def _show(
    found: Sequence[Comparison], alone: Sequence[Contender], level: float, *, as_json: bool
) -> None:
    from fewshot_i2v.report._comparison_text import render_comparisons, sentence

    if not as_json:
        click.echo(render_comparisons(found, alone, level=level))
        return
    echo_json(
        {
            "level": level,
            "comparisons": [c.to_dict() | {"sentence": sentence(c, level)} for c in found],
            "not_compared": [str(c.folder) for c in alone],
        }
    )


def _folder(baseline: str | None) -> Path | None:
    """The folder that a baseline is, if it is one with runs."""
    if baseline is None:
        return None
    place = Path(baseline)
    return place if place.is_dir() and next(place.rglob("run.json"), None) else None


def _contenders(places: Sequence[Path]) -> list[Contender]:
    """The rows of the folders, each once; those that differ in the training seed alone are one."""
    from fewshot_i2v.report._answers import read_answers

    known: dict[bytes, Episode] = {}
    done: set[Path] = set()
    alike: dict[tuple[object, ...], list[Read]] = defaultdict(list)
    for place in places:
        reads = [
            Read(folder, *read_answers(folder, known))
            for folder in run_folders(place)
            if folder.resolve() not in done
        ]
        done |= {read.folder.resolve() for read in reads}
        check_seeds([(read.header, read.folder) for read in reads])
        for read in sorted(reads, key=Read.order):
            alike[read.but_for_the_seed].append(read)
    found = [*alike.values()]
    names = names_of_starts([(reads[0].header, reads[0].folder) for reads in found])
    return [_contender(reads, name) for reads, name in zip(found, names, strict=True)]


def _contender(reads: Sequence[Read], start_name: str) -> Contender:
    from fewshot_i2v.report._answers import over_seeds
    from fewshot_i2v.report._contenders import Contender
    from fewshot_i2v.report.rows import FRESH, TableRow

    first = reads[0]
    answers = over_seeds([read.answers for read in reads])
    marks, start = first.header.get("marks", {}), first.start
    row = TableRow(
        adapter=first.facts["adapter"],
        head=first.facts["head"],
        shot=first.facts["shot"],
        accuracies={i: a.accuracy for i, a in answers.items() if a.accuracy is not None},
        note=marks.get("note", ""),
        uses_names=marks.get("uses_names", False),
        start=start.get("kind", FRESH),
        start_name=start_name,
        seen=bool(start.get("seen")),
        training_seed=None if len(reads) > 1 else first.facts["training_seed"],
    )
    identity = first.header["identity"]
    return Contender(
        row=row,
        folder=first.folder,
        identity=identity,
        answers=answers,
        title=title_of(first.header, identity["config"]["way"]),
        group=group_key(first.header),
        seeds=len(reads),
        apart=marks.get("disjoint", False),
    )
