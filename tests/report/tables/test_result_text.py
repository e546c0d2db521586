"""The table of the terminal: 80 columns, what all rows share above it, few notes, the decision."""

from __future__ import annotations

import random
import re

import pytest

from fewshot_i2v.errors import UnknownNameError
from fewshot_i2v.report.tables.accuracy_table import accuracy_table
from fewshot_i2v.report.tables.result_text import render_table
from fewshot_i2v.report.tables.table_notes import short_notes
from fewshot_i2v.runs.row_summary import RowSummary
from tests.report.tables.test_accuracy_table import row

SETTING = "split motions (novel), 5-way, 5 query clips per class, seed 0, encoder demo, 8 frames"
HEAD = "prototype:center=true,pooling=ordered"


def around(mean: float, seed: int, count: int = 12) -> dict[int, float]:
    generator = random.Random(seed)
    return {i: mean + generator.uniform(-0.05, 0.05) for i in range(count)}


def quickstart(head: str = HEAD) -> list[RowSummary]:
    """Two adapters, fresh and base-trained, at 1 and 5 shots; only the start gains anything."""
    rows = []
    for shot in (1, 5):
        rows.append(row("frozen", head, shot=shot, accuracies=around(0.6, shot)))
        for i, adapter in enumerate(("st-adapter", "aim")):
            fresh = around(0.6, shot) | {0: 0.62 + i / 100}
            rows.append(row(adapter, head, shot=shot, accuracies=fresh))
            start = {"start": "base-trained", "start_name": "demo-motions"}
            better = around(0.88, 10 + 2 * shot + i)
            rows.append(row(adapter, head, shot=shot, accuracies=better, **start))
    return rows


def blocks(rows: list[RowSummary], **options: object) -> list[list[str]]:
    """Header, table, decision and notes, each as its lines."""
    text = render_table(rows, way=5, setting=SETTING, **options)  # type: ignore[arg-type]
    return [block.splitlines() for block in text.split("\n\n")]


def test_what_all_rows_share_stands_above_and_rows_have_the_rest() -> None:
    header, table, *_ = blocks(quickstart())
    said = " ".join(header)
    assert said.startswith(SETTING)
    for fact in (f"head {HEAD}", "12 episodes", "guessing gives 20.0 %", "from demo-motions"):
        assert fact in said
    headings = re.split(r" {2,}", table[0].strip())
    assert headings == ["adapter", "start", "shot", "accuracy % [95 %]", "over frozen"]
    assert re.search(r"^frozen +- +1 +\d\d\.\d \[\d\d\.\d, \d\d\.\d\] +-$", table[2])


def test_it_says_what_is_decided_and_what_is_not() -> None:
    said = " ".join(blocks(quickstart())[2])
    beats = r"(aim and st-adapter|st-adapter and aim) from base training beat frozen by "
    assert re.match(beats + r"\d\d( to \d\d)? points at 1 shot and by .* at 5 shots; ", said)
    assert "; they cannot be told apart. " in said
    assert re.search(r"No gain is shown for fresh (st-adapter and aim|aim and st-adapter)\.$", said)


def test_at_most_three_notes_and_warnings_first() -> None:
    rows = quickstart()
    rows[1] = row("st-adapter", HEAD, accuracies=around(0.6, 1), failed=2)
    rows[2] = row("st-adapter", HEAD, accuracies=around(0.9, 3), start="base-trained", seen=True)
    *_, notes = blocks(rows)
    assert len(notes) == 3
    assert notes[0].startswith("2 episodes failed")
    assert notes[1].startswith("seen: ")
    full = " ".join(blocks(rows, all_notes=True)[3])
    assert "does not cover new clips, new classes or another trained start" in full
    assert len(full) > 5 * sum(map(len, notes))


def test_an_accuracy_clearly_below_guessing_has_a_reason() -> None:
    low = row("frozen", "linear", accuracies=around(0.12, 1, 40))
    rows = [low, row("frozen", HEAD, accuracies=around(0.9, 2, 40))]
    notes = blocks(rows)[-1]
    assert "Below guessing: clips of one scene may be in different classes" in notes[0]
    assert max(map(len, notes)) <= 80
    full = " ".join(blocks(rows, all_notes=True)[-1])
    assert "Below guessing, with the complete interval: frozen, head linear, 1 shot. Your" in full
    assert "the support clip that is nearest to a query is often of another class" in full
    page = accuracy_table(rows, way=5).notes
    assert any(note.startswith("Below guessing") for note in page)
    # an interval that holds the accuracy of guessing, and a row that knows its own
    for other in (
        [row(accuracies=around(0.19, 1, 8))],
        [row(accuracies=around(0.17, 1, 40), chance=0.1)],
        [row(accuracies=around(0.05, 1, 3))],
    ):
        assert "Below guessing" not in " ".join(blocks(other, all_notes=True)[-1])


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_episodes_have_neither_interval_nor_verdict(count: int) -> None:
    rows = [row(accuracies=around(0.3, 1, count)), row("aim", accuracies=around(0.9, 2, count))]
    _, table, decision, notes = blocks(rows)
    assert not any("[" in line or "±" in line for line in table[2:])
    assert "no verdict on 1 comparison, however large the difference" in " ".join(decision)
    assert "it takes at least 6." in " ".join(decision)
    assert ("`fewshot-i2v compare` tests the clips" in " ".join(decision)) is (count == 1)
    assert f"{count} episode" in notes[0]
    assert "add --episodes 50" in notes[0]


def test_notes_are_lines() -> None:
    """Every note that warns fits a line, so that three notes are three lines."""
    changes: dict[str, object] = {
        "failed": 1234, "seen": True, "uses_names": True, "toy_encoder": True,
        "learns_nothing": True, "note": "read unlike its start", "start": "base-trained",
    }  # fmt: skip
    for key in changes:
        rows = [row(), row("aim", accuracies=around(0.9, 1, 3), **{key: changes[key]})]
        for notes in (short_notes([rows[1]], []), short_notes(rows, [])):
            assert 1 <= len(notes) <= 3
            assert max(map(len, notes)) <= 80, notes


def test_six_episodes_are_enough_for_both() -> None:
    rows = [row(accuracies=around(0.3, 1, 6)), row("aim", accuracies=around(0.9, 2, 6))]
    _, table, decision, _ = blocks(rows)
    assert all("[" in line for line in table[2:])
    assert decision[0].startswith("aim beats frozen by 6")


WIDE_ROWS = [
    *quickstart(f"{HEAD},tokens=summary+grid4+motion"),
    *quickstart(f"{HEAD},tokens=motion,weights=loo"),
    row("m-adapter", HEAD, note="reconstruction", accuracies=around(0.7, 5)),
    row(
        "adaptformer:scale=0.25,width=192",
        HEAD,
        note="spatial only, read unlike its start",
        accuracies=around(0.7, 5),
        start="base-trained",
        start_name="demo-motions",
        seen=True,
    ),
]


@pytest.mark.parametrize(
    "rows", [quickstart(), WIDE_ROWS, WIDE_ROWS[:10], [row()], [row(), row(head="otam")]]
)
def test_it_fits_80_columns(rows: list[RowSummary]) -> None:
    text = render_table(rows, way=5, setting=SETTING)
    assert max(map(len, text.splitlines())) <= 80
    assert all(line == line.rstrip() for line in text.splitlines())


def test_what_is_shortened_is_written_out_above() -> None:
    header, table, *_ = blocks(WIDE_ROWS)
    said = "\n".join(header)
    assert "m-adapter: reconstruction" in said
    letters = re.findall(r"head ([A-Z]): (\S+)", said.replace("\n", " "))
    assert {head for _, head in letters} == {row.head for row in WIDE_ROWS}
    assert len(table) == 2 + len(WIDE_ROWS)
    assert len(set(table[2:])) == len(WIDE_ROWS)


@pytest.mark.parametrize(
    ("shared", "scope"), [(True, "these clips and classes"), (False, "these classes")]
)
def test_what_the_interval_covers_is_a_note(shared: bool, scope: str) -> None:
    *_, notes = blocks([row(shared=shared)])
    assert notes == [f"[ ]: 95 % interval for {scope}, not for others."]
    *_, notes = blocks([row(shared=shared)], all_notes=True)
    said = "No clip is in two episodes" if not shared else "episodes share clips"
    assert said in " ".join(notes)


def test_further_columns_are_shown_on_request() -> None:
    table = blocks(quickstart(), further=("parameters", "seconds"))[1]
    assert re.split(r" {2,}", table[0].strip())[-2:] == ["parameters", "s/episode"]
    wide = blocks(quickstart(), wide=True)[1]
    assert {"head", "ok/failed", "parameters", "peak MiB"} <= set(re.split(r" {2,}", wide[0]))
    assert HEAD in wide[2]
    with pytest.raises(UnknownNameError, match="unknown column 'second'; did you mean 'seconds'"):
        blocks(quickstart(), further=("second",))


def test_several_frozen_rows_are_one_baseline_the_best_of_them() -> None:
    """A row that only beats the weaker readout of the frozen encoder has gained nothing."""
    rows = [
        row("frozen", "prototype:tokens=summary", accuracies=around(0.5, 1)),
        row("frozen", "prototype:tokens=motion", accuracies=around(0.9, 2)),
        row("aim", "prototype:tokens=summary", accuracies=around(0.7, 3)),
    ]
    _, table, decision, _ = blocks(rows)
    assert re.search(r"aim .* \+\d\d\.\d ± \d", table[4]), "over frozen with the same head"
    assert " ".join(decision) == (
        "aim (tokens=summary) did worse than the best of 2 frozen rows (tokens=motion)."
    )


def test_the_best_frozen_row_is_named() -> None:
    rows = [
        row("frozen", "prototype:tokens=summary", accuracies=around(0.5, 1)),
        row("frozen", "prototype:tokens=motion", accuracies=around(0.7, 2)),
        row("aim", "prototype:tokens=motion", accuracies=around(0.9, 3)),
    ]
    said = " ".join(blocks(rows)[2])
    assert re.match(
        r"aim \(tokens=motion\) beats the best of 2 frozen rows \(tokens=motion\) by \d\d points "
        r"at 1 shot\.$",
        said,
    )


def test_without_a_frozen_row_the_highest_is_named() -> None:
    rows = [row("aim", accuracies=around(0.9, 1)), row("lora", accuracies=around(0.5, 2))]
    said = " ".join(blocks(rows)[2])
    assert said == "aim is the highest at 1 shot and beats the others."
    rows[1] = row("lora", accuracies=around(0.9, 3))
    assert "cannot be told apart from" in " ".join(blocks(rows)[2])


def test_a_single_row_decides_nothing() -> None:
    assert len(blocks([row()])) == 3


def test_rows_that_saw_their_classes_decide_nothing() -> None:
    seen = row("aim", accuracies=around(0.9, 1), start="base-trained", start_name="m", seen=True)
    text = render_table([row(accuracies=around(0.5, 2)), seen], way=5, setting=SETTING)
    assert "beats" not in text
    assert "seen: the start was trained or chosen on these classes" in text


def test_names_cannot_control_the_terminal() -> None:
    text = render_table([row("\x1b[31m\u202e", "h\x9b", note="\x00")], way=5)
    assert all(c.isprintable() or c == "\n" for c in text)


def test_nothing_at_all_is_still_a_table() -> None:
    assert "adapter" in render_table([], way=5)
    assert "No episode has succeeded so far." in render_table([row(accuracies={}, failed=3)], way=5)
