"""`fewshot-i2v report`: a page, or a table for a paper, made from the records of runs."""

from __future__ import annotations

import gc
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fewshot_i2v.runs.run_index import (
    Header,
    check_seeds,
    group_key,
    names_of_starts,
    place_of,
    row_of,
    run_folders,
    several_runs,
    stopped_of,
    title_of,
    told_apart,
)
from fewshot_i2v.version import __version__

if TYPE_CHECKING:
    from fewshot_i2v.report.analysis.report_data import Recipe, Row, Section
    from fewshot_i2v.report.page.filmstrips import Places

_PAGES = (".html", ".htm")
_STRIPS = 3_200_000
"""Bytes that the film strips of a page may have together."""
_FOLDER = click.Path(path_type=Path)


@dataclass(frozen=True, eq=False)
class Read:
    """A run folder as read: its row, and what its section needs."""

    row: Row
    ways: tuple[int, int]
    chance: float | None
    last: int

    @property
    def header(self) -> Header:
        """Content of its `run.json`."""
        return dict(self.row.header)


@click.command(short_help="Write a page, or a table for a paper, of one or several runs.")
@several_runs
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="What to write; its ending decides: .html, .md, .tex, .csv or .json.",
)
@click.option("--title", default="", help="Of the page or table.")
@click.option(
    "--detail",
    metavar="FOLDER",
    help="Name of the run folder whose classes and episodes are shown. [default: the best row]",
)
@click.option(
    "--clips/--no-clips",
    default=True,
    show_default=True,
    help="Show frames of the hardest and easiest episodes.",
)
@click.option("--split", help="The runs' split by name or path, if it is not where it was.")
@click.option("--root", type=_FOLDER, help="Folder of the split's clips.")
@click.option("--cache", type=_FOLDER, help="Folder of decoded clips.")
def command(
    runs: tuple[Path, ...],
    out: Path,
    title: str,
    detail: str | None,
    clips: bool,
    split: str | None,
    root: Path | None,
    cache: Path | None,
) -> None:
    """Write a report of RUN..., run folders or folders of run folders.

    The page holds everything it shows, so that it can be sent to others: the answer in words, the
    tables, figures, classes, the hardest and easiest episodes with their frames, and how to run it
    again. Rows that were asked the same episodes share a table, whichever folder they are in. Of
    runs that differ in --frame-order alone, given together, it says what rows lose.

    Frames come from the clips that the run had decoded; nothing is decoded. The other kinds of file
    hold the tables alone.
    """
    from fewshot_i2v.errors import UsageError
    from fewshot_i2v.report import exports

    kinds = [*_PAGES, *exports.KINDS]
    if out.suffix.lower() not in kinds:
        raise UsageError(f"--out {out}: expected a file that ends in {', '.join(kinds)}")
    sections = _sections(runs, detail)
    replaced = "; the file that was there is replaced" if out.exists() else ""
    if out.suffix.lower() not in _PAGES:
        exports.write_whole(out, exports.render(sections, out.suffix.lower(), title=title))
    else:
        from fewshot_i2v.report.page.filmstrips import Places

        places = Places(split, root, cache) if clips else None
        exports.write_whole(out, _page(sections, title, places))
    click.echo(f"{out}: {out.stat().st_size / 1e6:.2f} MB{replaced}")


def _page(sections: Sequence[Section], title: str, places: Places | None) -> str:
    from fewshot_i2v.report.page.page import render_page

    if places is not None:
        sections = list(_with_clips(sections, places))
    return render_page(sections, title=title, version=__version__)


def _with_clips(sections: Sequence[Section], places: Places) -> Iterator[Section]:
    """The sections with film strips of the clips that they show."""
    from fewshot_i2v.report.page.filmstrips import film_strips
    from fewshot_i2v.report.page.page import shown_clips

    left = _STRIPS
    for section in sections:
        names, place = shown_clips(section), section.detailed()
        if place is None or not names:
            yield section
            continue
        strips = film_strips(names, section.rows[place].header, places, budget=left)
        left -= sum(map(len, strips.images.values()))
        yield replace(section, clips=strips.images, clips_note=strips.note)


def _sections(runs: Sequence[Path], detail: str | None) -> list[Section]:
    """One section for each set of rows that were asked the same episodes.

    Raises:
        UsageError: when there is no run, or none has the name of `detail`.
    """
    groups: dict[str, list[Read]] = defaultdict(list)
    done: set[Path] = set()
    for folder in (folder for run in runs for folder in run_folders(run)):
        if folder.resolve() not in done:
            done.add(folder.resolve())
            with _no_collection():
                read = _read(folder)
            groups[group_key(read.header)].append(read)
    reads = [read for group in groups.values() for read in group]
    check_seeds([(read.header, Path(read.row.folder)) for read in reads])
    _check_detail(detail, reads)
    sections = [_section(group, detail) for group in groups.values()]
    titles = Counter(section.title for section in sections)
    # evaluations that differ in what the setting alone says are told apart by their folders
    return [
        s if titles[s.title] == 1 else replace(s, title=f"{s.title}: {_above(s)}") for s in sections
    ]


def _above(section: Section) -> str:
    return str(Path(section.rows[0].folder).parent)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Millions of small objects without a cycle: looking for cycles would take twice the time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _check_detail(detail: str | None, reads: Sequence[Read]) -> None:
    from fewshot_i2v.errors import UnknownNameError

    names = {Path(read.row.folder).name for read in reads}
    if detail is not None and detail not in names:
        raise UnknownNameError("run folder", detail, names)


def _read(folder: Path) -> Read:
    from fewshot_i2v.report.analysis.report_data import Row
    from fewshot_i2v.report.analysis.run_analysis import Findings
    from fewshot_i2v.runs.row_summary import Sums, TableRow
    from fewshot_i2v.runs.run_folder import read_run

    run = read_run(folder)
    sums = Sums(run.header.get("marks", {}))
    findings = Findings.from_records(run.records, also=sums.add)
    result = row_of(run.header, folder, sums)
    same = {field.name for field in fields(TableRow)} & vars(result).keys()
    known = {name: getattr(result, name) for name in same}
    table = TableRow(**known, macs_per_clip=run.header.get("macs_per_clip"))
    return Read(
        Row(table, findings, run.header, str(folder)),
        result.ways,
        result.chance,
        max(run.records, default=0),
    )


def _way(group: Sequence[Read]) -> int | str:
    """Classes of an episode, a number where it is known to be one."""
    way: int | str = group[0].header["identity"]["config"]["way"]
    low, high = group[0].ways
    if isinstance(way, str) and high:
        return low if low == high else f"{low}-{high}"
    return way


def _section(group: Sequence[Read], detail: str | None) -> Section:
    from fewshot_i2v.report.analysis.report_data import Section, in_order, merged

    reads = sorted(group, key=_place)
    config, way = reads[0].header["identity"]["config"], _way(reads)
    order = config.get("frame_order")
    named = f", frames {order}" if order else ""
    return Section(
        title=f"{config['split']} ({config['subset']}), {way}-way{named}",
        setting=f"{title_of(reads[0].header, way)}{named}",
        way=way,
        chance=next((read.chance for read in reads if read.chance is not None), None),
        rows=merged(in_order(_told_apart(_with_start_names([read.row for read in reads])))),
        recipes=_recipes(reads),
        detail=detail if detail in {Path(read.row.folder).name for read in reads} else None,
        stopped=tuple(_stopped(reads)),
    )


def _stopped(reads: Sequence[Read]) -> Iterator[str]:
    """How each evaluation ended that drew episodes until its means were known well enough."""
    folders: dict[Path, list[tuple[Path, int]]] = defaultdict(list)
    for read in reads:
        folder, t = Path(read.row.folder), read.row.table
        folders[folder.parent].append((folder, len(t.accuracies) + t.failed))
    for parent, rows in folders.items():
        end = stopped_of(rows)
        if end is not None:
            yield end.sentence() if len(folders) == 1 else f"{parent}: {end.sentence()}"


def _recipes(reads: Sequence[Read]) -> tuple[Recipe, ...]:
    from fewshot_i2v.evaluation.reproduce import recipes_of

    folders: dict[str, list[Read]] = defaultdict(list)
    for read in reads:
        folders[str(Path(read.row.folder).parent)].append(read)
    return tuple(
        recipe
        for folder, own in folders.items()
        for recipe in recipes_of(
            folder, [r.header for r in own], episodes=1 + max(r.last for r in own)
        )
    )


def _place(read: Read) -> tuple[str, tuple[int, bool, Path]]:
    """Where a row stands in the order of its run, those of a folder together."""
    folder = Path(read.row.folder)
    return str(folder.parent), place_of(read.header, read.row.table.adapter, folder)


def _with_start_names(rows: Sequence[Row]) -> list[Row]:
    names = names_of_starts([(dict(row.header), Path(row.folder)) for row in rows])
    return [
        replace(row, table=replace(row.table, start_name=name))
        for row, name in zip(rows, names, strict=True)
    ]


def _told_apart(rows: Sequence[Row]) -> list[Row]:
    """The rows; those that a table would call the same are noted with what tells them apart."""

    def _name(row: Row) -> tuple[object, ...]:
        t = row.table
        return t.adapter, t.note, t.head, t.start, t.start_name, t.shot

    notes = told_apart([(_name(row), dict(row.header), Path(row.folder)) for row in rows])
    return [
        replace(row, table=replace(row.table, note=", ".join(filter(None, [row.table.note, note]))))
        for row, note in zip(rows, notes, strict=True)
    ]
