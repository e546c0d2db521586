"""LaTeX tables: what is in them, that they are well formed, and that pdflatex takes them."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fewshot_i2v.report.analysis.report_data import ReportRow, ReportSection
from fewshot_i2v.report.exports import render_tables
from fewshot_i2v.report.tables.latex import label_slug, latex_table
from fewshot_i2v.report.tables.table import Table, TableCell, number_cell
from fewshot_i2v.statistics import Interval
from tests.report.page.page_samples import row, section

NASTY = r"[a]|b_c&d%e#f$g{h}~i^j\k<l>*`"
DOCUMENT = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage{booktabs,graphicx}
\begin{document}
%s
\end{document}
"""


def tex_of(*rows: ReportRow, **changes: object) -> str:
    return render_tables([section(*rows, **changes)], ".tex")  # type: ignore[arg-type]


def first_table(tex: str) -> str:
    start = tex.index(r"\begin{table}")
    return tex[start : tex.index(r"\end{table}")]


def body_of(table: str) -> list[list[str]]:
    lines = table.partition(r"\midrule")[2].partition(r"\bottomrule")[0].strip().splitlines()
    return [re.split(r"(?<!\\) & ", line.strip().removesuffix(r" \\")) for line in lines]


def check(tex: str) -> None:
    """Check a file as a strict reader would.

    Raises:
        ValueError: for an unbalanced brace or formula, a special character in text, an environment
            that is not closed, a line with another number of cells than columns, or a label twice.
    """
    lines = (line for line in tex.splitlines() if not line.startswith("%"))
    text = "\n".join(re.sub(r"(?<!\\)%$", "", line) for line in lines)
    _check_groups(text)
    _check_environments(text)
    for alignments, lines in re.findall(
        r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", text, re.DOTALL
    ):
        for line in filter(None, map(str.strip, lines.splitlines())):
            rule = re.sub(r"\\cmidrule\(lr\)\{\d+-\d+\}", "", line).strip()
            if rule and line not in (r"\toprule", r"\midrule", r"\bottomrule"):
                _check_line(line, len(alignments))
    labels = re.findall(r"\\label\{([^}]*)\}", text)
    if len(set(labels)) < len(labels):
        raise ValueError(f"a label twice: {labels}")
    if not all(re.fullmatch(r"tab:[a-z0-9-]+", label) for label in labels):
        raise ValueError(f"labels {labels}")


def _check_environments(text: str) -> None:
    environments: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            environments.append(name)
        elif not environments or environments.pop() != name:
            raise ValueError(f"{name} is closed, but was not the last one opened")
    if environments:
        raise ValueError(f"{environments} are not closed")


def _check_line(line: str, n_columns: int) -> None:
    if not line.endswith(r"\\"):
        raise ValueError(f"{line}: no end of line")
    n_cells = 1 + len(re.findall(r"(?<!\\)&", line))
    n_cells += sum(int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}\{c\}\{", line))
    if n_cells != n_columns:
        raise ValueError(f"{line}: {n_cells} cells in {n_columns} columns")
    if line.startswith(("[", "*")):
        raise ValueError(f"{line}: read as an option of the line before")


def _check_groups(text: str) -> None:
    """Check braces, formulas and special characters, one character after the other."""
    depth, formula, i = 0, False, 0
    while i < len(text):
        character = text[i]
        if character == "\\":
            i += 2
            continue
        depth += (character == "{") - (character == "}")
        formula ^= character == "$"
        if depth < 0:
            raise ValueError(f"a brace too many at {text[max(0, i - 20) : i + 1]!r}")
        if not formula and character in "^_#%~":
            raise ValueError(f"{character} in text at {text[max(0, i - 20) : i + 1]!r}")
        if formula and character == "\n":
            raise ValueError("a formula over the end of a line")
        i += 1
    if depth or formula:
        raise ValueError("a group or formula is not closed")


@pytest.mark.parametrize(
    "wrong",
    [
        r"\begin{table}",
        "a_b",
        "{",
        "$1",
        "\\begin{tabular}{ll}\n a \\\\\n\\end{tabular}",
        "\\begin{tabular}{l}\n [a] \\\\\n\\end{tabular}",
        "\\begin{tabular}{ll}\n \\multicolumn{3}{c}{a} \\\\\n\\end{tabular}",
        r"\label{tab:a}\label{tab:a}",
    ],
)
def test_the_reader_is_strict(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        check(wrong)


def sections() -> list[ReportSection]:
    generator = random.Random(0)
    nasty = section(row(NASTY, 0.5), row("frozen", 0.4), title=NASTY)
    many = [row(f"a-{i}", generator.random(), head=NASTY if i % 2 else "linear") for i in range(9)]
    few = section(row("frozen", 0.4, count=1), row("aim", count=0))
    shots = [row(NASTY, 0.5, head=head, shot=n) for head in (NASTY, "b:c=1") for n in (1, 5, "2-4")]
    uneven = section(*shots, row("frozen", 0.4, head=NASTY), title=NASTY)
    return [nasty, nasty, section(row("frozen", 0.4), *many), few, section(), uneven]


def test_all_kinds_of_tables_are_well_formed() -> None:
    for made in sections():
        check(render_tables([made], ".tex", title=f"{NASTY}\n%"))
    check(render_tables(sections(), ".tex"))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_pdflatex_takes_them(tmp_path: Path) -> None:
    text = DOCUMENT % render_tables(sections(), ".tex")
    (tmp_path / "t.tex").write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "t.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def test_a_table_is_made_as_narrow_as_the_text_where_it_is_wider() -> None:
    tex = render_tables(sections(), ".tex")
    shrink = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
    table = r"\n\s*\\begin\{tabular\}.*?\\end\{tabular\}\}\n"
    tables = re.findall(re.escape(shrink) + table, tex, re.DOTALL)
    assert len(tables) == tex.count(r"\begin{tabular}") > 6
    assert tex.startswith("% needs \\usepackage{booktabs,graphicx};")


def test_the_caption_is_one_sentence_and_there_is_a_label() -> None:
    table = first_table(tex_of(row("frozen", 0.4), row("aim", 0.9)))
    (caption,) = re.findall(r"\\caption\{(.*)\}\n", table)
    assert caption.startswith(r"Accuracy in percent with 95 \% intervals: ")
    assert re.findall(r"\. |\.$", caption) == ["."]
    assert "60 episodes" in caption
    assert "head linear" in caption
    assert r"\label{tab:motions-novel-3-way}" in table
    assert label_slug("Motions (novel), 5-way!") == "motions-novel-5-way"


def test_only_columns_that_vary_are_shown() -> None:
    table = first_table(tex_of(row("frozen", 0.4), row("aim", 0.9)))
    head = table.partition(r"\toprule")[2].partition(r"\midrule")[0].strip()
    assert head == r"adapter & accuracy \% & over frozen & parameters \\"
    heads = first_table(tex_of(row("frozen", 0.4), row("frozen", 0.5, head="otam")))
    assert r"adapter & head & accuracy \% \\" in heads


def test_means_are_formulas_with_their_interval() -> None:
    def interval(mean: float, low: float | None, high: float | None) -> Interval:
        return Interval(mean, low, high, 0.95, 12, "m", "c")

    cells = [
        number_cell("90.3 [81.9, 95.1]", 90, interval(0.903, 0.818, 0.951)),
        number_cell("84.0 [77.6, 90.4]", 84, interval(0.84, 0.776, 0.904)),
        number_cell("50.0", 50, interval(0.5, None, None)),
        TableCell("-"),
    ]
    gains = [
        number_cell("+28.0 ± 9.3", 28, interval(0.28, 0.187, 0.373)),
        number_cell("-1.0 (few differ)", -1, interval(-0.01, None, None)),
        TableCell("-"),
        TableCell("x-1"),
    ]
    adapters = [TableCell(name) for name in "abcd"]
    table = Table({"adapter": adapters, "accuracy % [95 %]": cells, "g": gains}, [])
    tex = latex_table(table, caption="C.", label="l")
    check(tex)
    assert body_of(tex) == [
        ["a", "$90.3^{+4.8}_{-8.5}$", r"$+28.0 \pm 9.3$"],
        ["b", r"$84.0 \pm 6.4$", "$-1.0$"],
        ["c", "$50.0$", "--"],
        ["d", "--", "x-1"],
    ]


def test_the_best_row_is_bold_only_where_it_beats_all_others() -> None:
    clear = first_table(tex_of(row("frozen", 0.3), row("aim", 0.95)))
    assert [r"\mathbf" in line[1] for line in body_of(clear)] == [False, True]
    close = first_table(tex_of(row("frozen", 0.3), row("aim", 0.9), row("lora", 0.9)))
    assert r"\mathbf" not in close
    alone = first_table(tex_of(row("aim", 0.9)))
    assert r"\mathbf" not in alone


def test_what_intervals_cover_stands_in_comments() -> None:
    tex = tex_of(row("frozen", 0.4), row("aim", 0.9))
    notes = [line for line in tex.splitlines() if line.startswith("% ")]
    assert any("does not cover new clips" in note for note in notes)
    assert "does not cover" not in first_table(tex)
