"""Tables as LaTeX for a paper: booktabs, a caption of one sentence, only columns that vary.

The document needs the packages of `PACKAGES`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from fewshot_i2v.report.tables.accuracy_table import ACCURACY_HEADING
from fewshot_i2v.report.tables.interval_text import EMPTY, is_asymmetric
from fewshot_i2v.report.tables.paper_table import (
    PAPER_ACCURACY_HEADING,
    PaperTable,
    gain_mark,
)
from fewshot_i2v.report.tables.table import LEFT_COLUMNS, Table, TableCell
from fewshot_i2v.statistics import Interval

_ESCAPES = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "^": r"\textasciicircum{}", "_": r"\_", "~": r"\textasciitilde{}", "%": r"\%",
    "±": r"$\pm$", "−": "$-$", "…": r"\ldots{}", "†": r"\dag{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "‡": r"\ddag{}",
}  # fmt: skip
PACKAGES = ("booktabs", "graphicx")
"""What the tables use: rules, and `\\resizebox`."""
# the width of a column of text is known to the document alone
_SHRINK = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
"""Begins what is made as narrow as the text where it is wider, and is else left as it is."""
_HEADINGS = {ACCURACY_HEADING: "accuracy %"}
"""Headings that are other ones in a paper."""


def latex_table(table: Table, *, caption: str, label: str) -> str:
    r"""Format a table as LaTeX.

    A mean is `$84.0 \pm 6.4$`, or `$90.3^{+4.8}_{-8.5}$` where the two sides differ. What the
    intervals cover stands in comments above it, for the text of the paper. The label is without
    "tab:".
    """
    columns = _varying_columns(table.columns)
    alignments = "".join("l" if heading in LEFT_COLUMNS else "r" for heading in columns)
    head = " & ".join(_escape(_HEADINGS.get(heading, heading)) for heading in columns)
    cells = [[_tex_cell(cell, bold=False) for cell in column] for column in columns.values()]
    return "\n".join(
        [
            *(f"% {_one_line(note)}" for note in table.notes),
            *_table_start(caption, label, alignments),
            rf"    {head} \\",
            *_body_lines(cells),
            r"\end{table}",
        ]
    )


def latex_paper_table(
    table: PaperTable, *, caption: str, label: str, comments: Sequence[str] = ()
) -> str:
    r"""Format the table of a paper as LaTeX.

    Means are as in `latex_table`; those of `table.best` are bold. What numbers and marks mean
    stands below the table, `comments` in comments above it.
    """
    grouped, n_names = len(table.groups) > 1, len(table.names)
    headings = [*table.names, *(h for _, group in table.groups for h in group), *table.further]
    alignments = "".join("l" if heading in LEFT_COLUMNS else "r" for heading in headings)
    columns = [[_tex_cell(cell, bold=False) for cell in cells] for cells in table.names.values()]
    for (_, group), best in zip(table.groups, table.best, strict=True):
        for heading, cells in group.items():
            is_accuracy = heading == PAPER_ACCURACY_HEADING
            columns.append(
                [_tex_cell(cell, bold=is_accuracy and i in best) + _escape(gain_mark(cell))
                 for i, cell in enumerate(cells)]
            )  # fmt: skip
    columns += [[_tex_cell(cell, bold=False) for cell in cells] for cells in table.further.values()]
    return "\n".join(
        [
            *(f"% {_one_line(note)}" for note in comments),
            *_table_start(caption, label, alignments),
            *(_group_lines(table, n_names) if grouped else ()),
            rf"    {' & '.join(map(_escape, headings))} \\",
            *_body_lines(columns),
            *_note_lines(table.notes),
            r"\end{table}",
        ]
    )


def _body_lines(columns: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table below its headings, from its columns of cells in LaTeX."""
    body = [_protected(" & ".join(line)) + r" \\" for line in zip(*columns, strict=True)]
    rows = (f"    {line}" for line in body)
    return [r"    \midrule", *rows, r"    \bottomrule", r"  \end{tabular}}"]


def _group_lines(table: PaperTable, n_names: int) -> list[str]:
    """Line of the titles of groups of columns, and the rules below them."""
    cells, rules, first = [""] * n_names, [], n_names + 1
    for title, group in table.groups:
        cells.append(rf"\multicolumn{{{len(group)}}}{{c}}{{{_escape(title)}}}")
        rules.append(rf"\cmidrule(lr){{{first}-{first + len(group) - 1}}}")
        first += len(group)
    cells += [""] * len(table.further)
    return [f"    {' & '.join(cells).strip()} \\\\", f"    {' '.join(rules)}"]


def _table_start(caption: str, label: str, alignments: str) -> list[str]:
    return [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{_escape(caption)}}}",
        rf"  \label{{tab:{label_slug(label)}}}",
        f"  {_SHRINK}",
        rf"  \begin{{tabular}}{{{alignments}}}",
        r"    \toprule",
    ]


def _note_lines(notes: Sequence[str]) -> list[str]:
    """Notes below a table, as wide as the text."""
    if not notes:
        return []
    return [
        r"  \par\smallskip",
        r"  \begin{minipage}{\linewidth}\footnotesize",
        *(f"    {_escape(note)}" for note in notes),
        r"  \end{minipage}",
    ]


def label_slug(text: str) -> str:
    """Make a label: small letters, digits and single hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "table"


def constant_columns(table: Table) -> dict[str, str]:
    """Text of the columns whose cells are all the same, by heading; none of a single row."""
    constant = table.columns.keys() - _varying_columns(table.columns).keys()
    return {
        heading: cells[0].text for heading, cells in table.columns.items() if heading in constant
    }


def _varying_columns(
    columns: Mapping[str, Sequence[TableCell]],
) -> dict[str, Sequence[TableCell]]:
    """Columns with different cells, and always the first one and the accuracies."""
    first = next(iter(columns), "")
    return {
        heading: cells
        for heading, cells in columns.items()
        if heading in (first, ACCURACY_HEADING)
        or len(cells) < 2
        or len({cell.text for cell in cells}) > 1
    }


def _tex_cell(cell: TableCell, *, bold: bool) -> str:
    """A cell; one of a mean with its interval is a formula."""
    if cell.interval is not None:
        return _formula(cell.interval, signed=cell.text.startswith(("+", "-")), bold=bold)
    if cell.text == EMPTY:
        return "--"
    # the hyphen before a number is a minus sign, that in a name is none
    return _escape(re.sub(r"(?<![\w.-])-(?=\d)", "−", cell.text))


def _protected(line: str) -> str:
    r"""Keep the start of a line from being read as an option of the `\\` before it."""
    return "{}" + line if line.startswith(("[", "*")) else line


def _formula(interval: Interval, *, signed: bool, bold: bool) -> str:
    form = "{:+z.1f}" if signed else "{:z.1f}"
    mean = form.format(100 * interval.mean)
    mean = rf"\mathbf{{{mean}}}" if bold else mean
    if interval.low is None or interval.high is None:
        return f"${mean}$"
    if is_asymmetric(interval):
        above, below = interval.high - interval.mean, interval.mean - interval.low
        return f"${mean}^{{+{100 * above:.1f}}}_{{-{100 * below:.1f}}}$"
    return rf"${mean} \pm {50 * (interval.high - interval.low):.1f}$"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _escape(text: str) -> str:
    return "".join(_ESCAPES.get(c, c) for c in _one_line(text))
