"""Tables, lists and counts for a terminal of 80 columns."""

from __future__ import annotations

import pytest

from fewshot_i2v.utils.text_table import (
    WIDTH,
    align_columns,
    count_text,
    display_width,
    wrap_last_column,
)


@pytest.mark.parametrize(
    ("count", "noun", "said"),
    [
        (0, "clip", "0 clips"),
        (1, "class", "1 class"),
        (2, "class", "2 classes"),
        (1200, "query clip", "1,200 query clips"),
        (2, "box", "2 boxes"),
    ],
)
def test_counts_have_their_plural(count: int, noun: str, said: str) -> None:
    assert count_text(count, noun) == said


def test_a_plural_can_be_named() -> None:
    assert count_text(2, "entry", "entries") == "2 entries"


def test_long_names_go_on_in_lines_below() -> None:
    columns = {"row": ["aim", "st-adapter from demo-motions (untuned)"], "shot": ["1", "15"]}
    assert align_columns(columns, {"row"}, 22) == [
        "row              shot",
        "---------------  ----",
        "aim                 1",
        "st-adapter from    15",
        " demo-motions",
        " (untuned)",
    ]


def test_the_first_of_equally_wide_columns_is_made_narrower_first() -> None:
    columns = {"row": ["linear head"], "against": ["linear head"]}
    for left_aligned in (["row", "against"], ["against", "row"]):
        assert align_columns(columns, left_aligned, 23) == [
            "row     against",
            "------  -----------",
            "linear  linear head",
            " head",
        ]


def test_no_name_makes_a_table_wider() -> None:
    names = ["adapter:option=" + "x" * 90, "a/b" * 40, "\u5f20" * 60]
    columns = {"row": names, "against": names, "mean": ["12.3"] * 3}
    lines = align_columns(columns, {"row", "against"}, WIDTH)
    assert max(map(display_width, lines)) <= WIDTH
    for column in (slice(0, 36), slice(36, 74)):
        text = "".join(line[column].strip() for line in lines if "\u5f20" not in line)
        assert "x" * 90 in text
    assert sum(line.count("\u5f20") for line in lines) == 120


def test_a_table_without_a_width_is_as_wide_as_its_names() -> None:
    assert display_width(align_columns({"row": ["x " * 99 + "x"]}, {"row"})[2]) == 199


def test_the_last_column_is_wrapped_beside_or_below() -> None:
    text = "word " * 30
    beside = wrap_last_column([("name", text), ("a", "short")])
    assert beside[0].startswith("name  word")
    assert beside[1].startswith("      word")
    assert beside[-1] == "a     short"
    below = wrap_last_column([("n" * 70, text), ("a", "short")], "  ")
    assert below[0] == "  " + "n" * 70
    assert below[1].startswith("      word")
    assert below[-2:] == ["  a", "      short"]
    assert max(map(len, beside + below)) <= WIDTH
    assert wrap_last_column([]) == []
