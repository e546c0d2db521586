"""The table of adapters against heads."""

from __future__ import annotations

from fewshot_i2v.report.tables.matrix import render_matrix
from tests.report.tables.test_accuracy_table import row


def six(*values: float) -> dict[int, float]:
    """Accuracies of six episodes, the fewest with an interval."""
    return {i: values[i % len(values)] for i in range(6)}


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_adapters_down_heads_across_and_a_dash_where_nothing_ran() -> None:
    rows = [
        row("frozen", "linear", accuracies=six(0.5)),
        row("frozen", "otam", accuracies=six(0.25, 0.75)),
        row("m-adapter", "linear", accuracies=six(1.0), note="reconstruction"),
    ]
    lines = render_matrix(rows, way=4).splitlines()
    assert lines[0] == "1-shot"
    assert _cells(lines[2]) == ["adapter", "linear", "otam"]
    assert _cells(lines[4]) == ["frozen", "50.0 ± 36.2", "50.0 ± 25.9"]
    assert _cells(lines[5]) == ["m-adapter (reconstruction)", "100.0 [47.6, 100.0]", "-"]
    assert "over 6 episodes; guessing gives 25.0" in lines[7]


def test_one_table_for_each_shot_in_order() -> None:
    text = render_matrix([row(shot=5), row(shot=1)], way=5)
    assert text.index("1-shot") < text.index("5-shot")


def test_heads_that_read_names_and_failures_are_marked() -> None:
    rows = [
        row(head="zero-shot", uses_names=True),
        row("aim", "zero-shot", uses_names=True, accuracies={}, failed=3),
        row("full", "zero-shot", uses_names=True, accuracies={4: 0.5}, failed=1),
    ]
    text = render_matrix(rows, way=5)
    assert "zero-shot†" in text
    assert "read the class names" in text
    assert "| aim | failed |" in text
    assert "| full | 50.0* |" in text


def test_no_mark_without_need_and_bars_in_names_do_not_break_the_table() -> None:
    text = render_matrix([row("a|b")], way=5)
    assert "†" not in text
    assert "a\\|b" in text


def test_starts_are_rows_of_their_own() -> None:
    rows = [
        row("frozen", accuracies=six(0.5)),
        row("aim", accuracies=six(0.25)),
        row(
            "aim",
            accuracies=six(1.0),
            start="base-trained",
            start_name="b",
            seen=True,
        ),
        row(
            "aim",
            "otam",
            accuracies=six(0.75),
            start="base-trained",
            start_name="b",
        ),
        row("aim", shot=5, start="meta-trained", start_name="m"),
    ]
    text = render_matrix(rows, way=4)
    first, second = (part.splitlines() for part in text.split("\n\n5-shot\n\n"))
    assert _cells(first[2]) == ["adapter", "start", "linear", "otam"]
    assert _cells(first[3]) == ["---", "---", "--:", "--:"]
    assert [_cells(line) for line in first[4:]] == [
        ["frozen", "-", "50.0 ± 36.2", "-"],
        ["aim", "fresh", "25.0 [4.1, 72.1]", "-"],
        ["aim", "base-trained, seen", "100.0 [47.6, 100.0]", "-"],
        ["aim", "base-trained", "-", "75.0 [27.9, 95.9]"],
    ]
    assert _cells(second[2])[:2] == ["aim", "meta-trained"]
    assert "start: what each episode" in text
    assert "seen: the starting point" in text
    assert "| start |" not in render_matrix(rows[:2], way=4)


def test_labels_that_differ_behind_the_cut_keep_their_own_cells() -> None:
    long = "text-prototype:templates=a video of a person who is doing {},weight="
    rows = [
        row(head=long + "0.25", accuracies={0: 0.2}),
        row(head=long + "0.75", accuracies={0: 0.9}),
    ]
    lines = render_matrix(rows, way=5).splitlines()
    heads = _cells(lines[2])[1:]
    assert len(set(heads)) == 2
    assert _cells(lines[4])[1:] == ["20.0", "90.0"]


def test_the_legend_speaks_for_every_cell() -> None:
    equal, other = (
        row(accuracies=six(0.5)),
        row("aim", accuracies=six(0.2, 0.8)),
    )
    for rows in ([equal, other], [other, equal]):
        said = render_matrix(rows, way=5)
        assert "Student t on the logit scale or Wilson bound for equal values" in said


def test_a_row_without_any_record_is_not_called_failed() -> None:
    assert "failed" not in render_matrix([row(accuracies={})], way=5)


def test_the_legend_says_what_two_sides_are_and_that_episodes_differ() -> None:
    rows = [
        row("frozen", accuracies=six(1.0)),
        row("aim", accuracies={0: 0.4, 7: 0.6}),
    ]
    said = render_matrix(rows, way=5)
    assert "| frozen | 100.0 [47.6, 100.0] |" in said
    assert "it is not the same on both sides" in said
    assert "Rows have different episodes, the least 2 of 7" in said
    assert "different episodes" not in render_matrix(rows[:1], way=5)


def test_starts_that_differ_behind_the_cut_keep_their_own_rows() -> None:
    long = "a-name-that-is-cut-before-it-says-which-one-of-the-two-it-is-of-"
    rows = [
        row("aim", accuracies={0: 0.1 * i}, start="base-trained", start_name=f"{long}{i}")
        for i in (1, 2)
    ]
    lines = render_matrix(rows, way=5).splitlines()
    assert [_cells(line)[2] for line in lines[4:6]] == ["10.0", "20.0"]
    assert len({_cells(line)[1] for line in lines[4:6]}) == 2


def test_no_cell_is_written_over() -> None:
    """Rows that nothing tells apart are numbered, those of one number in one line."""
    rows = [
        row("aim", head, accuracies={0: 0.1 * number}, start="base-trained", start_name="s")
        for number in (1, 2, 3)
        for head in ("linear", "otam")
    ]
    rows.append(row("aim (2)", accuracies={0: 0.9}, start="base-trained", start_name="s"))
    lines = render_matrix(rows, way=5).splitlines()
    assert [_cells(line) for line in lines[4:8]] == [
        ["aim", "base-trained", "10.0", "10.0"],
        ["aim (3)", "base-trained", "20.0", "20.0"],
        ["aim (4)", "base-trained", "30.0", "30.0"],
        ["aim (2)", "base-trained", "90.0", "-"],
    ]
