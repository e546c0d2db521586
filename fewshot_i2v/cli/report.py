"""`fewshot-i2v report`: write a page, a table or references for a paper, from records of runs."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import click

from fewshot_i2v.cli._common import runs_argument
from fewshot_i2v.cli._help import help_command
from fewshot_i2v.cli._next import command_line, echo_next
from fewshot_i2v.utils.sizes import format_size
from fewshot_i2v.utils.text_table import wrap_notes

_FOLDER_PATH = click.Path(path_type=Path)


@help_command(
    "Write a page, or a table or references for a paper, of one or several runs.",
    ("report runs/mine", "the page report.html"),
    ("report runs/mine --out table.tex", "a table for a paper"),
    ("report runs/mine --out table.bib", "what that paper cites: adapters, heads, data, encoder"),
)
@runs_argument
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="What to write; its ending decides: .html, .md, .tex, .csv, .json or .bib. Folders "
    "that are missing are made.",
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
def command(runs: tuple[Path, ...], out: Path, **options: Any) -> None:
    """Write a report of RUN..., run folders or folders of run folders.

    The page holds everything it shows, so that it can be sent to others: the answer in words, the
    tables, figures, classes, the hardest and easiest episodes with their frames, and how to run it
    again. Rows of the same episodes share a table, whichever folder they are in. Of several runs
    that differ in --frame-order alone it says what rows lose.

    Frames come from the clips that the run had decoded; nothing is decoded. The other kinds of file
    hold the tables alone, and .bib the BibTeX entries of what the rows used: adapters, heads, data,
    encoder and protocol. What has none is named at its top.
    """
    from fewshot_i2v.evaluation.run_report import write_report
    from fewshot_i2v.report.tables.recommendation_text import (
        paragraph_lines,
        section_recommendation,
    )

    replaced = "; the file that was there is replaced" if out.exists() else ""
    sections = write_report(*runs, out=out, **options)
    click.echo(f"{out}: {format_size(out.stat().st_size)}{replaced}")
    kind = out.suffix.lower()
    if kind == ".bib":
        click.echo("\n" + _top_comment(out.read_text(encoding="utf-8")))
    for section in sections if kind != ".bib" else ():
        title = wrap_notes([f"{section.title}:"] if len(sections) > 1 else [])
        lines = paragraph_lines(section_recommendation(section))
        click.echo("\n" + "\n".join([*title, *lines]))
    references = command_line("report", *runs, "--out", out.with_suffix(".bib"))
    echo_next(
        *([references] if kind == ".tex" else []),
        command_line("compare", *runs),
        command_line("show", runs[0], "--intervals"),
    )


def _top_comment(text: str) -> str:
    """The comment at the top of a BibTeX file, without its signs."""
    lines = itertools.takewhile(lambda line: line.startswith("%"), text.splitlines())
    return "\n".join(line.removeprefix("% ").removeprefix("%") for line in lines)
