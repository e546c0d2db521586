"""Tables for papers and spreadsheets: the numbers of the table, and names that stay names."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from fewshot_i2v.errors import UsageError
from fewshot_i2v.report.exports import KINDS, render, write_whole
from fewshot_i2v.report.terminal import render_table
from fewshot_i2v.statistics import mean_interval, paired_difference
from tests.report.page_samples import row, section

NASTY = r"a|b_c&d%e#f$g{h}~i^j\k<l>*`"


def test_markdown_has_the_cells_of_the_terminal() -> None:
    made = section()
    text = render([made], ".md", title="Of *mine*")
    assert text.startswith("# Of \\*mine\\*\n\n## motions (novel), 3-way\n")
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(lines) == 2 + len(made.rows)
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
    assert len(widths) == 1
    table = render_table(made.table_rows, way=made.way, chance=made.chance)
    lines = [re.sub(r"\\(.)", r"\1", line) for line in lines]
    for cells in (re.split(r" {2,}", line.strip()) for line in table.splitlines()[2:8]):
        assert any(all(cell in line for cell in cells) for line in lines)
    assert "- Guessing among 3 classes gives 33.3 %." in text
    assert "beats frozen by" in text


def test_latex_is_a_booktabs_table_with_what_the_intervals_cover() -> None:
    text = render([section()], ".tex")
    for part in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{llrrrrrrrr}"):
        assert part in text
    body = text.partition(r"\midrule")[2].partition(r"\bottomrule")[0]
    rows = [line for line in body.splitlines() if line.strip()]
    assert len(rows) == 6
    assert all(line.endswith(r"\\") and line.count(" & ") == 9 for line in rows)
    assert r"$\pm$" in text
    assert "Student t over episodes" in text


def test_names_with_special_characters_stay_names() -> None:
    made = section(row(NASTY, 0.5), row("frozen", 0.4), title=NASTY)
    tex = render([made], ".tex")
    escaped = (
        r"a\textbar{}b\_c\&d\%e\#f\$g\{h\}\textasciitilde{}i\textasciicircum{}j"
        r"\textbackslash{}k\textless{}l\textgreater{}*`"
    )
    assert tex.count(escaped) == 2
    table = [line for line in render([made], ".md").splitlines() if line.startswith("| ")]
    assert r"a\|b\_c&d%e\#f$g{h}~i^j\\k\<l\>\*\`" in table[2]


def test_csv_has_numbers_and_no_formulas() -> None:
    made = section(row("=1+1", 0.8), row("frozen", 0.4), row("@cmd", 0.5))
    text = render([made], ".csv")
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [line["adapter"] for line in lines] == ["'=1+1", "frozen", "'@cmd"]
    first, frozen = (r.table for r in made.rows[:2])
    interval = mean_interval(list(first.accuracies.values()))
    gain = paired_difference(list(first.accuracies.values()), list(frozen.accuracies.values()))
    assert float(lines[0]["accuracy"]) == pytest.approx(interval.mean)
    assert float(lines[0]["accuracy_low"]) == pytest.approx(interval.low)
    assert float(lines[0]["over_frozen"]) == pytest.approx(gain.mean)
    assert lines[1]["over_frozen"] == ""
    assert lines[0]["method"] == "Student t"


def test_a_negative_number_is_a_number() -> None:
    made = section(row("frozen", 0.9), row("aim", 0.1))
    gain = list(csv.DictReader(io.StringIO(render([made], ".csv"))))[1]["over_frozen"]
    assert float(gain) < 0


def test_json_has_everything_and_says_what_intervals_cover() -> None:
    data = json.loads(render([section(), replace(section(), title="two")], ".json", title="t"))
    assert data["title"] == "t"
    assert [table["title"] for table in data["tables"]] == ["motions (novel), 3-way", "two"]
    rows = data["tables"][0]["rows"]
    assert len(rows) == 6
    assert "new classes" in rows[0]["interval_covers"]
    assert data["tables"][0]["summary"][0].startswith("With 1 clip per class")
    assert rows[0]["episodes"] == 60


@pytest.mark.parametrize("kind", list(KINDS))
def test_rows_without_an_episode_are_written_too(kind: str) -> None:
    assert "aim" in render([section(row("aim", count=0), row("frozen"))], kind)


def test_another_ending_is_refused() -> None:
    with pytest.raises(UsageError, match=r"expected one of \.md, \.tex, \.csv, \.json"):
        render([section()], ".pdf")


def test_files_are_written_whole_in_folders_that_are_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.md"
    write_whole(path, "é \ud800\n")
    assert path.read_bytes() == "é \\ud800\n".encode()
    assert [p.name for p in path.parent.iterdir()] == ["table.md"]
    with pytest.raises(UsageError, match="cannot be written"):
        write_whole(path / "below", "x")
