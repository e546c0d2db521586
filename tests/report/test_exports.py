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
from fewshot_i2v.report.analysis.frame_order import frame_order_losses
from fewshot_i2v.report.exports import RENDERERS, render_tables, write_text_file
from fewshot_i2v.report.tables.accuracy_table import accuracy_table
from fewshot_i2v.statistics import mean_interval, paired_difference
from tests.report.page.page_samples import orders, row, section

NASTY = r"a|b_c&d%e#f$g{h}~i^j\k<l>*`"


def test_markdown_has_the_cells_of_the_terminal() -> None:
    made = section()
    text = render_tables([made], ".md", title="Of *mine*")
    assert text.startswith("# Of \\*mine\\*\n\n## motions (novel), 3-way\n")
    first, shots, beyond, far = text.split("\n### ")
    assert shots.startswith(
        "Shots side by side\n\n| adapter | 1 shot: accuracy % | 1 shot: over frozen | 5 shots: "
    )
    assert "\n- ±: half the width of a 95 % interval, Student t" in shots
    assert beyond.startswith("Beyond accuracy\n\n| adapter | head | shot | balanced % | ECE % |")
    assert len([line for line in beyond.splitlines() if line.startswith("| ")]) == 2 + 6
    assert far.startswith(
        "How far it reaches\n\n| adapter | head | shot | accuracy % [95 %] | these clips |"
    )
    assert "- other clips: jackknife over clips" in text
    lines = [line for line in first.splitlines() if line.startswith("| ")]
    assert len(lines) == 2 + len(made.rows)
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
    assert len(widths) == 1
    table = accuracy_table(made.summaries, way=made.way, chance=made.chance).to_text()
    lines = [re.sub(r"\\(.)", r"\1", line) for line in lines]
    for cells in (re.split(r" {2,}", line.strip()) for line in table.splitlines()[2:8]):
        assert any(all(cell in line for cell in cells) for line in lines)
    assert "- Guessing among 3 classes gives 33.3 %." in text
    assert "beats frozen on these clips" in text


def test_latex_has_a_table_of_each_kind() -> None:
    text = render_tables([section()], ".tex")
    for part in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{lrrrrr}"):
        assert part in text
    assert r" \pm " in text
    assert "Student t over episodes" in text
    assert text.count(r"\begin{table}") == 3
    assert r"\caption{Balanced accuracy and calibration of every row: " in text
    assert r"ECE \% & 95 \% interval & " in text


def test_names_with_special_characters_stay_names() -> None:
    made = section(row(NASTY, 0.5), row("frozen", 0.4), title=NASTY)
    tex = render_tables([made], ".tex")
    escaped = (
        r"a\textbar{}b\_c\&d\%e\#f\$g\{h\}\textasciitilde{}i\textasciicircum{}j"
        r"\textbackslash{}k\textless{}l\textgreater{}*`"
    )
    assert tex.count(escaped) == 3, "in a row of each table"
    table = [line for line in render_tables([made], ".md").splitlines() if line.startswith("| ")]
    assert r"a\|b\_c&d%e\#f$g{h}~i^j\\k\<l\>\*\`" in table[2]


def test_csv_has_numbers_and_no_formulas() -> None:
    made = section(row("=1+1", 0.8), row("frozen", 0.4), row("@cmd", 0.5))
    text = render_tables([made], ".csv")
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [line["adapter"] for line in lines] == ["'=1+1", "frozen", "'@cmd"]
    first, frozen = (r.summary for r in made.rows[:2])
    interval = mean_interval(list(first.accuracies.values()))
    gain = paired_difference(list(first.accuracies.values()), list(frozen.accuracies.values()))
    assert float(lines[0]["accuracy"]) == pytest.approx(interval.mean)
    assert float(lines[0]["accuracy_low"]) == pytest.approx(interval.low)
    assert float(lines[0]["over_frozen"]) == pytest.approx(gain.mean)
    assert lines[1]["over_frozen"] == ""
    assert lines[0]["method"] == "Student t"


def test_csv_and_json_have_the_measures_of_every_row() -> None:
    made = section(row("frozen", 0.5), row("aim", count=0))
    data = json.loads(render_tables([made], ".json"))["tables"][0]
    first, empty = data["rows"]
    lines = list(csv.DictReader(io.StringIO(render_tables([made], ".csv"))))
    measures = made.rows[0].metrics
    assert measures is not None
    for key, value in (
        ("ece", measures.ece.mean),
        ("ece_low", measures.ece.low),
        ("ece_high", measures.ece.high),
        ("ece_by_chance", measures.by_chance),
        ("balanced_accuracy", measures.balanced),
        ("log_loss", measures.log_loss),
        ("brier", measures.brier),
        ("over_confident", measures.over_confident),
    ):
        assert first[key] == pytest.approx(value)
        assert float(lines[0][key]) == pytest.approx(value)
        assert empty[key] is None
        assert lines[1][key] == ""
    assert sum(one["count"] for one in first["reliability"]) == first["predictions"] == 360
    assert "reliability" not in lines[0]
    assert any(note.startswith("ECE %: expected calibration error") for note in data["notes"])


def test_what_rows_lose_in_other_orders_is_exported() -> None:
    made = orders({"natural": 0.9, "shuffled": 0.5})
    first, second = (
        table["rows"][0] for table in json.loads(render_tables(made, ".json"))["tables"]
    )
    assert (first["frame_order"], second["frame_order"]) == ("natural", "shuffled")
    found = frame_order_losses(made, 0.95)[made[0].rows[0]]["shuffled"]
    assert first["lost_shuffled"] == pytest.approx(found.mean)
    assert first["lost_shuffled_high"] == pytest.approx(found.high)
    assert first["lost_single"] is second["lost_shuffled"] is None
    markdown = render_tables(made, ".md")
    assert markdown.count("### Order of frames") == 1
    assert "| lost when shuffled |" in markdown
    assert (
        render_tables(made, ".tex").count("What rows lose with their frames in another order") == 1
    )


def test_a_negative_number_is_a_number() -> None:
    made = section(row("frozen", 0.9), row("aim", 0.1))
    gain = list(csv.DictReader(io.StringIO(render_tables([made], ".csv"))))[1]["over_frozen"]
    assert float(gain) < 0


def test_json_has_everything_and_says_what_intervals_cover() -> None:
    data = json.loads(
        render_tables([section(), replace(section(), title="two")], ".json", title="t")
    )
    assert data["title"] == "t"
    assert [table["title"] for table in data["tables"]] == ["motions (novel), 3-way", "two"]
    rows = data["tables"][0]["rows"]
    assert len(rows) == 6
    assert "new classes" in rows[0]["interval_covers"]
    assert data["tables"][0]["summary"][0].startswith("With 1 clip per class")
    assert data["tables"][0]["recommendation"][0].startswith("Use aim: it beats frozen by ")
    assert "What would change that:" in data["tables"][0]["recommendation"]
    assert rows[0]["episodes"] == 60


@pytest.mark.parametrize("kind", list(RENDERERS))
def test_rows_without_an_episode_are_written_too(kind: str) -> None:
    assert "aim" in render_tables([section(row("aim", count=0), row("frozen"))], kind)


def test_another_ending_is_refused() -> None:
    with pytest.raises(UsageError, match=r"expected one of \.md, \.tex, \.csv, \.json"):
        render_tables([section()], ".pdf")


def test_files_are_written_whole_in_folders_that_are_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.md"
    write_text_file(path, "é \ud800\n")
    assert path.read_bytes() == "é \\ud800\n".encode()
    assert [p.name for p in path.parent.iterdir()] == ["table.md"]
    with pytest.raises(UsageError, match="cannot be written"):
        write_text_file(path / "below", "x")


def test_numbers_below_zero_have_a_minus_in_latex_and_names_do_not() -> None:
    text = render_tables([section(row("frozen", 0.8), row("st-adapter-2", 0.4))], ".tex")
    lines = [line for line in text.splitlines() if "st-adapter-2 & " in line]
    assert re.search(r"& \$-\d\d\.\d \\pm ", lines[0])
    assert "[$-$" in lines[2]
    assert not any(" -" in line.replace(" & -- ", " & ") for line in lines)
