"""`fewshot-i2v report`: write a page, or a table for a paper, from the records of runs."""

from __future__ import annotations

import gc
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fewshot_i2v.cli._common import runs_argument
from fewshot_i2v.cli._help import HelpCommand
from fewshot_i2v.cli._next import command_line, echo_next
from fewshot_i2v.runs.row_names import name_rows
from fewshot_i2v.runs.row_summary import RowSummary, check_duplicate_seeds
from fewshot_i2v.runs.run_index import (
    find_run_folders,
    row_order,
    stopping_record_of,
    table_key,
    table_title,
    way_of,
)
from fewshot_i2v.utils.text_table import wrap_notes
from fewshot_i2v.version import __version__

if TYPE_CHECKING:
    from fewshot_i2v.report.analysis.report_data import ReportRow, ReportSection, ReproductionRecipe
    from fewshot_i2v.report.page.filmstrips import ClipSources

_PAGE_SUFFIXES = (".html", ".htm")
_MAX_STRIP_BYTES = 3_200_000
"""Bytes that the film strips of a page may have together."""
_FOLDER_PATH = click.Path(path_type=Path)


_EXAMPLES = (
    ("report runs/mine", "the page report.html"),
    ("report runs/mine --out table.tex", "a table for a paper"),
)


@click.command(
    cls=HelpCommand,
    examples=_EXAMPLES,
    short_help="Write a page, or a table for a paper, of one or several runs.",
)
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
    from fewshot_i2v.report.tables.recommendation_text import section_recommendation

    kinds = [*_PAGE_SUFFIXES, *exports.RENDERERS]
    if out.suffix.lower() not in kinds:
        raise UsageError(f"--out {out}: expected a file that ends in {', '.join(kinds)}")
    sections = read_sections(runs, detail)
    replaced = "; the file that was there is replaced" if out.exists() else ""
    if out.suffix.lower() not in _PAGE_SUFFIXES:
        exports.write_report(out, exports.render_tables(sections, out.suffix.lower(), title=title))
    else:
        from fewshot_i2v.report.page.filmstrips import ClipSources
        from fewshot_i2v.report.page.page import render_page

        if clips:
            sections = list(_with_film_strips(sections, ClipSources(split, root, cache)))
        exports.write_report(out, render_page(sections, title=title, version=__version__))
    click.echo(f"{out}: {out.stat().st_size / 1e6:.2f} MB{replaced}")
    for section in sections:
        lines = [f"{section.title}:"] if len(sections) > 1 else []
        click.echo("\n" + "\n".join(wrap_notes([*lines, *section_recommendation(section)])))
    echo_next(command_line("compare", *runs), command_line("show", runs[0], "--intervals"))


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
            clip_names, section.summaries[detailed_row].header, sources, budget=remaining_bytes
        )
        remaining_bytes -= sum(map(len, strips.images.values()))
        yield replace(section, clips=strips.images, clips_note=strips.note)


def read_sections(runs: Sequence[Path], detail: str | None) -> list[ReportSection]:
    """Read one section for each set of rows with the same episodes.

    Args:
        runs: run folders, or folders of some.
        detail: name of the run folder that is shown in detail; None: the best row.

    Raises:
        UsageError: when there is no run, or none has the name of `detail`.
    """
    from fewshot_i2v.errors import UnknownNameError
    from fewshot_i2v.report.analysis.report_data import read_report_row

    groups: dict[str, list[ReportRow]] = defaultdict(list)
    read_folders: set[Path] = set()
    for folder in (folder for run in runs for folder in find_run_folders(run)):
        if folder.resolve() not in read_folders:
            read_folders.add(folder.resolve())
            with _garbage_collection_paused():
                row = read_report_row(folder)
            groups[table_key(row.summary)].append(row)
    summaries = [row.summary for rows in groups.values() for row in rows]
    check_duplicate_seeds(summaries)
    folder_names = {row.folder.name for row in summaries}
    if detail is not None and detail not in folder_names:
        raise UnknownNameError("run folder", detail, folder_names)
    sections = [_build_section(rows, detail) for rows in groups.values()]
    title_counts = Counter(section.title for section in sections)
    # evaluations that differ in what the setting alone says are told apart by their folders
    return [
        s
        if title_counts[s.title] == 1
        else replace(s, title=f"{s.title}: {s.summaries[0].folder.parent}")
        for s in sections
    ]


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


def _build_section(rows: Sequence[ReportRow], detail: str | None) -> ReportSection:
    from fewshot_i2v.report.analysis.report_data import ReportSection, merge_rows, sort_rows

    ordered_rows = sorted(
        rows, key=lambda row: (str(row.summary.folder.parent), row_order(row.summary))
    )
    summaries = [row.summary for row in ordered_rows]
    config, way = summaries[0].config, way_of(summaries[0])
    order = config.get("frame_order")
    order_note = f", frames {order}" if order else ""
    evaluations: dict[Path, list[RowSummary]] = defaultdict(list)
    for summary in summaries:
        evaluations[summary.folder.parent].append(summary)
    named_rows = [
        replace(row, summary=summary)
        for row, summary in zip(ordered_rows, name_rows(summaries), strict=True)
    ]
    return ReportSection(
        title=f"{config['split']} ({config['subset']}), {way}-way{order_note}",
        setting=f"{table_title(summaries[0], way)}{order_note}",
        way=way,
        chance=next((row.chance for row in summaries if row.chance is not None), None),
        rows=merge_rows(sort_rows(named_rows)),
        recipes=tuple(_reproduction_recipes_of(evaluations)),
        detail=detail if detail in {row.folder.name for row in summaries} else None,
        stopping_notes=tuple(
            record.sentence() if len(evaluations) == 1 else f"{folder}: {record.sentence()}"
            for folder, evaluation_rows in evaluations.items()
            if (record := stopping_record_of(evaluation_rows)) is not None
        ),
    )


def _reproduction_recipes_of(
    evaluations: Mapping[Path, Sequence[RowSummary]],
) -> Iterator[ReproductionRecipe]:
    from fewshot_i2v.evaluation.reproduce import reproduction_recipes

    for folder, rows in evaluations.items():
        headers = [dict(row.header) for row in rows]
        episodes = 1 + max(row.last_episode for row in rows)
        yield from reproduction_recipes(str(folder), headers, episodes=episodes)
