"""`fewshot-i2v report`: write a page, or a table for a paper, from the records of runs."""

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
    RunHeader,
    check_duplicate_seeds,
    distinguishing_notes,
    find_run_folders,
    row_order,
    runs_argument,
    start_display_names,
    stopping_record_of,
    summarize_row,
    table_key,
    table_title,
)
from fewshot_i2v.version import __version__

if TYPE_CHECKING:
    from fewshot_i2v.report.analysis.report_data import ReportRow, ReportSection, ReproductionRecipe
    from fewshot_i2v.report.page.filmstrips import ClipSources

_PAGE_SUFFIXES = (".html", ".htm")
_MAX_STRIP_BYTES = 3_200_000
"""Bytes that the film strips of a page may have together."""
_FOLDER_PATH = click.Path(path_type=Path)


@dataclass(frozen=True, eq=False)
class ReportedRun:
    """A run folder: its row, and what its section needs."""

    row: ReportRow
    way_range: tuple[int, int]
    chance: float | None
    last_episode: int

    @property
    def header(self) -> RunHeader:
        """Content of its `run.json`."""
        return dict(self.row.header)


@click.command(short_help="Write a page, or a table for a paper, of one or several runs.")
@runs_argument
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
@click.option("--root", type=_FOLDER_PATH, help="Folder of the split's clips.")
@click.option("--cache", type=_FOLDER_PATH, help="Folder of decoded clips.")
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

    kinds = [*_PAGE_SUFFIXES, *exports.RENDERERS]
    if out.suffix.lower() not in kinds:
        raise UsageError(f"--out {out}: expected a file that ends in {', '.join(kinds)}")
    sections = _read_sections(runs, detail)
    replaced = "; the file that was there is replaced" if out.exists() else ""
    if out.suffix.lower() not in _PAGE_SUFFIXES:
        exports.write_report(out, exports.render_tables(sections, out.suffix.lower(), title=title))
    else:
        from fewshot_i2v.report.page.filmstrips import ClipSources

        sources = ClipSources(split, root, cache) if clips else None
        exports.write_report(out, _render_page_with_clips(sections, title, sources))
    click.echo(f"{out}: {out.stat().st_size / 1e6:.2f} MB{replaced}")


def _render_page_with_clips(
    sections: Sequence[ReportSection], title: str, sources: ClipSources | None
) -> str:
    from fewshot_i2v.report.page.page import render_page

    if sources is not None:
        sections = list(_with_film_strips(sections, sources))
    return render_page(sections, title=title, version=__version__)


def _with_film_strips(
    sections: Sequence[ReportSection], sources: ClipSources
) -> Iterator[ReportSection]:
    """Add film strips of the shown clips to the sections."""
    from fewshot_i2v.report.page.filmstrips import film_strips
    from fewshot_i2v.report.page.page import shown_clips

    remaining_bytes = _MAX_STRIP_BYTES
    for section in sections:
        clip_names, detailed_row = shown_clips(section), section.detail_position()
        if detailed_row is None or not clip_names:
            yield section
            continue
        strips = film_strips(
            clip_names, section.rows[detailed_row].header, sources, budget=remaining_bytes
        )
        remaining_bytes -= sum(map(len, strips.images.values()))
        yield replace(section, clips=strips.images, clips_note=strips.note)


def _read_sections(runs: Sequence[Path], detail: str | None) -> list[ReportSection]:
    """Read one section for each set of rows with the same episodes.

    Raises:
        UsageError: when there is no run, or none has the name of `detail`.
    """
    groups: dict[str, list[ReportedRun]] = defaultdict(list)
    read_folders: set[Path] = set()
    for folder in (folder for run in runs for folder in find_run_folders(run)):
        if folder.resolve() not in read_folders:
            read_folders.add(folder.resolve())
            with _garbage_collection_paused():
                reported_run = _read_reported_run(folder)
            groups[table_key(reported_run.header)].append(reported_run)
    reported_runs = [reported_run for group in groups.values() for reported_run in group]
    check_duplicate_seeds(
        [(reported_run.header, Path(reported_run.row.folder)) for reported_run in reported_runs]
    )
    _check_detail(detail, reported_runs)
    sections = [_build_section(group, detail) for group in groups.values()]
    title_counts = Counter(section.title for section in sections)
    # evaluations that differ in what the setting alone says are told apart by their folders
    return [
        s if title_counts[s.title] == 1 else replace(s, title=f"{s.title}: {_parent_folder(s)}")
        for s in sections
    ]


def _parent_folder(section: ReportSection) -> str:
    return str(Path(section.rows[0].folder).parent)


@contextmanager
def _garbage_collection_paused() -> Iterator[None]:
    """Pause garbage collection: millions of small objects without a cycle take twice the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _check_detail(detail: str | None, runs: Sequence[ReportedRun]) -> None:
    from fewshot_i2v.errors import UnknownNameError

    names = {Path(run.row.folder).name for run in runs}
    if detail is not None and detail not in names:
        raise UnknownNameError("run folder", detail, names)


def _read_reported_run(folder: Path) -> ReportedRun:
    from fewshot_i2v.report.analysis.report_data import ReportRow
    from fewshot_i2v.report.analysis.run_analysis import RunAnalysis
    from fewshot_i2v.runs.row_summary import RowTotals, TableRow
    from fewshot_i2v.runs.run_folder import read_run

    run = read_run(folder)
    sums = RowTotals(run.header.get("marks", {}))
    findings = RunAnalysis.from_records(run.records, on_record=sums.add)
    result = summarize_row(run.header, folder, sums)
    common_fields = {field.name for field in fields(TableRow)} & vars(result).keys()
    row_values = {name: getattr(result, name) for name in common_fields}
    table = TableRow(**row_values, macs_per_clip=run.header.get("macs_per_clip"))
    return ReportedRun(
        ReportRow(table, findings, run.header, str(folder)),
        result.ways,
        result.chance,
        max(run.records, default=0),
    )


def _resolve_way(runs: Sequence[ReportedRun]) -> int | str:
    """Classes of an episode, a number if it is constant."""
    way: int | str = runs[0].header["identity"]["config"]["way"]
    low, high = runs[0].way_range
    if isinstance(way, str) and high:
        return low if low == high else f"{low}-{high}"
    return way


def _build_section(runs: Sequence[ReportedRun], detail: str | None) -> ReportSection:
    from fewshot_i2v.report.analysis.report_data import ReportSection, merge_rows, sort_rows

    ordered_runs = sorted(runs, key=_row_sort_key)
    config, way = ordered_runs[0].header["identity"]["config"], _resolve_way(ordered_runs)
    order = config.get("frame_order")
    order_note = f", frames {order}" if order else ""
    return ReportSection(
        title=f"{config['split']} ({config['subset']}), {way}-way{order_note}",
        setting=f"{table_title(ordered_runs[0].header, way)}{order_note}",
        way=way,
        chance=next((run.chance for run in ordered_runs if run.chance is not None), None),
        rows=merge_rows(
            sort_rows(
                _with_distinguishing_notes(_with_start_names([run.row for run in ordered_runs]))
            )
        ),
        recipes=_reproduction_recipes_of(ordered_runs),
        detail=detail if detail in {Path(run.row.folder).name for run in ordered_runs} else None,
        stopping_notes=tuple(_stopping_sentences(ordered_runs)),
    )


def _stopping_sentences(runs: Sequence[ReportedRun]) -> Iterator[str]:
    """Yield how each evaluation ended that drew episodes to a half-width."""
    folders: dict[Path, list[tuple[Path, int]]] = defaultdict(list)
    for run in runs:
        folder, table = Path(run.row.folder), run.row.table
        folders[folder.parent].append((folder, len(table.accuracies) + table.failed))
    for parent, rows in folders.items():
        stopping_record = stopping_record_of(rows)
        if stopping_record is not None:
            yield (
                stopping_record.sentence()
                if len(folders) == 1
                else f"{parent}: {stopping_record.sentence()}"
            )


def _reproduction_recipes_of(runs: Sequence[ReportedRun]) -> tuple[ReproductionRecipe, ...]:
    from fewshot_i2v.evaluation.reproduce import reproduction_recipes

    folders: dict[str, list[ReportedRun]] = defaultdict(list)
    for run in runs:
        folders[str(Path(run.row.folder).parent)].append(run)
    return tuple(
        recipe
        for folder, folder_runs in folders.items()
        for recipe in reproduction_recipes(
            folder,
            [folder_run.header for folder_run in folder_runs],
            episodes=1 + max(folder_run.last_episode for folder_run in folder_runs),
        )
    )


def _row_sort_key(run: ReportedRun) -> tuple[str, tuple[int, bool, Path]]:
    """Sort key of a row: by folder, then in the order of its run."""
    folder = Path(run.row.folder)
    return str(folder.parent), row_order(run.header, run.row.table.adapter, folder)


def _with_start_names(rows: Sequence[ReportRow]) -> list[ReportRow]:
    names = start_display_names([(dict(row.header), Path(row.folder)) for row in rows])
    return [
        replace(row, table=replace(row.table, start_name=name))
        for row, name in zip(rows, names, strict=True)
    ]


def _with_distinguishing_notes(rows: Sequence[ReportRow]) -> list[ReportRow]:
    """Add distinguishing notes to rows with the same name in a table."""

    def _name(row: ReportRow) -> tuple[object, ...]:
        table = row.table
        return table.adapter, table.note, table.head, table.start, table.start_name, table.shot

    notes = distinguishing_notes([(_name(row), dict(row.header), Path(row.folder)) for row in rows])
    return [
        replace(row, table=replace(row.table, note=", ".join(filter(None, [row.table.note, note]))))
        for row, note in zip(rows, notes, strict=True)
    ]
