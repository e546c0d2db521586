"""Reports and recommendations from the records of runs, in one call each."""

from __future__ import annotations

import gc
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot_i2v.errors import UnknownNameError, UsageError
from fewshot_i2v.evaluation.reproduce import reproduction_recipes
from fewshot_i2v.report import exports
from fewshot_i2v.report.analysis.recommendation import Recommendation
from fewshot_i2v.report.analysis.report_data import (
    ReportRow,
    ReportSection,
    ReproductionRecipe,
    merge_rows,
    read_report_row,
    sort_rows,
)
from fewshot_i2v.report.tables.recommendation_text import (
    Paragraph,
    paragraph_lines,
    paragraph_sentences,
    section_recommendation,
)
from fewshot_i2v.runs.repeated_rows import merge_repeated_frozen
from fewshot_i2v.runs.row_names import name_rows
from fewshot_i2v.runs.row_summary import RowSummary, check_duplicate_seeds
from fewshot_i2v.runs.run_index import (
    check_runs,
    find_run_folders,
    row_order,
    setting_text,
    stopping_record_of,
    table_key,
    way_of,
)
from fewshot_i2v.version import __version__

if TYPE_CHECKING:
    from fewshot_i2v.report.page.filmstrips import ClipSources

_PAGE_SUFFIXES = (".html", ".htm")
_REFERENCES_SUFFIX = ".bib"
_MAX_STRIP_BYTES = 3_200_000
"""Bytes that the film strips of a page may have together."""


@dataclass(frozen=True, eq=False)
class TableRecommendation:
    """What is recommended of one table.

    Attributes:
        section: the table, with the analysis of its rows.
    """

    section: ReportSection

    @property
    def recommendations(self) -> list[Recommendation]:
        """The row to use at each number of shots, as positions in `section.summaries`."""
        return self.section.recommendations

    @property
    def paragraphs(self) -> list[Paragraph]:
        """Which row to use, and a list of what would change that."""
        return section_recommendation(self.section)

    @property
    def sentences(self) -> list[str]:
        """The texts of the paragraphs and their points, one after another."""
        return paragraph_sentences(self.paragraphs)

    def text(self) -> str:
        """Returns the paragraphs as `fewshot-i2v recommend` shows them."""
        return "\n".join(paragraph_lines(self.paragraphs))

    def to_dict(self) -> dict[str, Any]:
        """Returns plain types, for JSON."""
        rows = self.section.summaries
        return {
            "title": self.section.title,
            "setting": self.section.setting,
            "sentences": self.sentences,
            "recommendations": [_recommendation_to_dict(r, rows) for r in self.recommendations],
        }


def _recommendation_to_dict(r: Recommendation, rows: Sequence[RowSummary]) -> dict[str, Any]:
    baseline = r.decision.baseline
    return {
        "shot": r.decision.shot,
        **{key: getattr(rows[r.row], key) for key in ("adapter", "start", "start_name")},
        "head": rows[r.row].head,
        "folder": str(rows[r.row].folder),
        "parameters": rows[r.row].parameters,
        "seconds_per_episode": rows[r.row].seconds_per_episode,
        "gain": None if r.gain is None else vars(r.gain.difference),
        "baseline_folder": None if baseline is None else str(rows[baseline].folder),
        "may_be_as_good": [str(rows[i].folder) for i in r.rivals],
        "episodes_to_tell_apart": r.episodes,
        "next_episodes": r.next_episodes,
    }


def recommend(*runs: str | Path) -> tuple[TableRecommendation, ...]:
    """Recommends a row of each table of runs, as `fewshot-i2v recommend` does.

    Args:
        runs: run folders, or folders of some.

    Raises:
        UsageError: when there is no run.
        RecordError: when a run folder is damaged.
    """
    return tuple(map(TableRecommendation, read_sections(check_runs(runs), None)))


def write_report(
    *runs: str | Path,
    out: str | Path = "report.html",
    title: str = "",
    detail: str | None = None,
    clips: bool = True,
    split: str | Path | None = None,
    root: str | Path | None = None,
    cache: str | Path | None = None,
) -> tuple[ReportSection, ...]:
    """Writes a page, a table for a paper or its references, as `fewshot-i2v report` does.

    Args:
        runs: run folders, or folders of some.
        out: what to write; its ending decides: .html, .md, .tex, .csv, .json, or .bib for the
            references of all that the rows used. A file that is there is replaced.
        title: of the page or table; "": the setting.
        detail: name of the run folder whose classes and episodes are shown; None: the best row.
        clips: show frames of the hardest and easiest episodes.
        split: the runs' split by name or path, if it is not where it was.
        root: folder of the split's clips; None: that of the split.
        cache: folder of decoded clips; None: the user's cache.

    Returns:
        What was written, one section for each table.

    Raises:
        UsageError: when there is no run, or for another ending.
        RecordError: when a run folder is damaged.
    """
    out = Path(out)
    kinds, suffix = [*_PAGE_SUFFIXES, *exports.RENDERERS, _REFERENCES_SUFFIX], out.suffix.lower()
    if suffix not in kinds:
        raise UsageError(f"--out {out}: expected a file that ends in {', '.join(kinds)}")
    sections = read_sections(check_runs(runs), detail)
    if suffix == _REFERENCES_SUFFIX:
        from fewshot_i2v.evaluation.references import format_references

        headers = [row.header for section in sections for row in section.summaries]
        title = title or "; ".join(dict.fromkeys(section.title for section in sections))
        text = format_references(headers, title=title, version=__version__, split=split)
    elif suffix not in _PAGE_SUFFIXES:
        text = exports.render_tables(sections, suffix, title=title)
    else:
        from fewshot_i2v.report.page.filmstrips import ClipSources
        from fewshot_i2v.report.page.page import render_page

        if clips:
            folders = [None if folder is None else Path(folder) for folder in (root, cache)]
            sources = ClipSources(None if split is None else str(split), *folders)
            sections = list(_with_film_strips(sections, sources))
        text = render_page(sections, title=title, version=__version__)
    exports.write_text_file(out, text)
    return tuple(sections)


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

    Raises:
        UsageError: when there is no run, or none has the name of `detail`.
    """
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
    ordered_rows = sorted(
        rows, key=lambda row: (str(row.summary.folder.parent), row_order(row.summary))
    )
    summaries = [row.summary for row in ordered_rows]
    merged = merge_repeated_frozen(summaries, [row.analysis.outcomes for row in ordered_rows])
    config, way = summaries[0].config, way_of(summaries[0])
    order = config.get("frame_order")
    order_note = f", frames {order}" if order else ""
    evaluations: dict[Path, list[RowSummary]] = defaultdict(list)
    for summary in summaries:
        evaluations[summary.folder.parent].append(summary)
    named_rows = [
        replace(ordered_rows[i], summary=summary)
        for i, summary in zip(merged, name_rows([*merged.values()]), strict=True)
    ]
    return ReportSection(
        title=f"{config['split']} ({config['subset']}), {way}-way{order_note}",
        setting=f"{setting_text(config, way)}{order_note}",
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
    for folder, rows in evaluations.items():
        headers = [dict(row.header) for row in rows]
        episodes = 1 + max(row.last_episode for row in rows)
        yield from reproduction_recipes(str(folder), headers, episodes=episodes)
