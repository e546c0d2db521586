"""The table of a paper: shots side by side, short names, and notes in plain words."""

from __future__ import annotations

import re
from dataclasses import replace

from fewshot_i2v.report.analysis.report_data import ReportRow
from fewshot_i2v.report.exports import render_tables
from fewshot_i2v.report.tables.paper_table import paper_table
from tests.report.page.page_samples import row, section
from tests.report.tables.test_latex import body_of, check, first_table

LONG = "prototype:center=true,pooling=ordered,tokens=grid4+motion"


def nearly(of: ReportRow, adapter: str, n_changed: int) -> ReportRow:
    """Another adapter that differs from the row in a few episodes."""
    accuracies = dict(of.summary.accuracies)
    for i in list(accuracies)[:n_changed]:
        accuracies[i] = 1 - accuracies[i]
    summary = replace(of.summary, adapter=adapter, accuracies=accuracies, parameters=7)
    return replace(of, summary=summary)


def test_numbers_of_shots_are_groups_of_columns() -> None:
    made = section(
        *(row(adapter, skill, shot=shot, head=head)
          for adapter, skill in (("frozen", 0.4), ("aim", 0.9))
          for head in ("linear", LONG)
          for shot in (5, 1)),
        row("lora", 0.8, shot=5),
    )  # fmt: skip
    table = paper_table(made)
    assert [title for title, _ in table.groups] == ["1 shot", "5 shots"]
    cells = [cell.text for cell in table.names["adapter"]]
    assert cells == ["frozen", "frozen", "aim", "aim", "lora"]
    assert [cell.text for cell in table.names["head"]] == ["A", "B", "A", "B", "A"]
    assert "Heads are A: linear; B: prototype (center, pooling ordered, tokens grid4+motion)." in (
        table.notes
    )
    tex = render_tables([made], ".tex")
    check(tex)
    main = first_table(tex)
    assert r"&  & \multicolumn{2}{c}{1 shot} & \multicolumn{2}{c}{5 shots} & \\" in main
    assert r"\cmidrule(lr){3-4} \cmidrule(lr){5-6}" in main
    *_, lora = body_of(main)
    assert lora[:4] == ["lora", "A", "--", "--"], "not run at 1 shot"
    assert re.fullmatch(r"\$\d\d\.\d( \\pm \d+\.\d|\^\{.*)\$", lora[4])
    assert LONG not in main


def test_every_number_is_that_of_its_row() -> None:
    made = section()
    table = paper_table(made)
    for (_, group), shot in zip(table.groups, (1, 5), strict=True):
        rows = [r for r in made.rows if r.summary.shot == shot]
        for cell, of in zip(group["accuracy %"], rows, strict=True):
            assert cell.interval is not None
            assert of.summary.interval is not None
            assert cell.interval.mean == of.summary.interval.mean


def test_marks_and_dashes_are_explained_where_they_stand() -> None:
    frozen = row("frozen", 0.5)
    made = section(frozen, nearly(frozen, "few", 3), nearly(frozen, "same", 0), row("aim", 0.9))
    tex = render_tables([made], ".tex")
    check(tex)
    main = first_table(tex)
    body = {line[0]: line for line in body_of(main)}
    assert body["few"][2].endswith(r"$\dag{}")
    assert body["same"][2] == r"$0.0$\ddag{}"
    assert r"\dag{}" not in body["aim"][2]
    assert body["frozen"][2] == "--"
    note = main.partition(r"\begin{minipage}")[2]
    for said in (
        r"\dag{} few differ: the two differ in fewer than 12 episodes",
        r"\ddag{} all equal: ",
        "A dash: ",
        r"$\pm$: half the width of a 95 \% interval, Student t",
        "Mean accuracy over 60 episodes of 3 classes, drawn from 4, with 6 query clips in each",
        "for these clips and classes, not for others",
    ):
        assert said in note
    plain = first_table(render_tables([section(frozen, row("aim", 0.9))], ".tex"))
    assert r"\dag" not in plain, "only what is in the table is explained"


def test_a_head_that_all_rows_have_is_in_the_caption_in_words() -> None:
    made = section(row("frozen", 0.4, head=LONG), row("aim", 0.9, head=LONG))
    tex = render_tables([made], ".tex")
    captions = re.findall(r"\\caption\{(.*)\}\n", tex)
    assert all(
        "head prototype (center, pooling ordered, tokens grid4+motion)" in c for c in captions
    )
    assert not any("center=true" in caption for caption in captions)


def test_two_rows_of_one_name_and_shot_are_two_lines() -> None:
    first = row("aim", 0.5)
    made = section(row("frozen", 0.4), first, first, row("aim", 0.5, shot=5))
    table = paper_table(made)
    assert [cell.text for cell in table.names["adapter"]] == ["frozen", "aim", "aim"]
    assert [cell.text == "-" for cell in table.groups[1][1]["accuracy %"]] == [True, False, True]


def test_markdown_has_the_same_table_where_there_are_several_shots() -> None:
    frozen = row("frozen", 0.5)
    text = render_tables([section(frozen, nearly(frozen, "few", 3), row("aim", shot=5))], ".md")
    block = text.partition("### Shots side by side")[2].partition("\n### ")[0]
    lines = [line for line in block.splitlines() if line.startswith("| ")]
    assert len({line.count("|") for line in lines}) == 1
    assert re.search(r"\| few \| \d\d\.\d ± \d+\.\d \| [-+]\d\.\d † \| - \|", block)
    assert "- † few differ: " in block
    assert "Shots side by side" not in render_tables([section(frozen)], ".md")
