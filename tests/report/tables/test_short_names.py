"""Short names of heads and adapters: shorter, and never two for one."""

from __future__ import annotations

import pytest

from fewshot_i2v.report.tables.short_names import short_adapter_names, short_head_names

ORDERED = "prototype:center=true,pooling=ordered"


def test_heads_show_what_not_all_have_and_above_the_table_what_they_share() -> None:
    first, second, third = short_head_names([ORDERED, f"{ORDERED},tokens=motion"])
    assert first.cells == ["-", "tokens=motion"]
    assert first.legend == (f"head {ORDERED}, and the column head",)
    assert second.cells == ["-", "motion"]
    assert third.cells == ["A", "B"]
    assert third.legend == [f"head A: {ORDERED}", f"head B: {ORDERED},tokens=motion"]


def test_an_option_that_is_on_is_named_by_its_key() -> None:
    *_, values, _letters = short_head_names(["prototype:center=true", "prototype:pooling=mean"])
    assert values.cells == ["center", "mean"]


def test_heads_of_several_names_keep_them() -> None:
    first, *_ = short_head_names(["linear", "otam:scale=2", "linear"])
    assert first.cells == ["linear", "otam:scale=2", "linear"]
    assert not first.legend


@pytest.mark.parametrize(
    "labels",
    [
        ["h:a=1,b=2", "h:a=2,b=1"],
        ["h:a=1", "h:b=1"],
        ["h", "h:a=1", "h:a=1,b=1"],
        ['h:layers=[1,2],x="a,b"', 'h:layers=[1,2],x="a"'],
        [f"h:a={i}" for i in range(40)],
    ],
)
def test_different_heads_have_different_names(labels: list[str]) -> None:
    for names in short_head_names([*labels, labels[0]]):
        assert len(set(names.cells)) == len(labels)
        assert names.cells[0] == names.cells[-1]


def test_values_that_would_be_equal_are_not_shown_alone() -> None:
    variants = [names.cells for names in short_head_names(["h:a=1", "h:b=1"])]
    assert ["1", "1"] not in variants


def test_adapters_with_long_options_are_numbered() -> None:
    long = ["aim:scale=0.25,width=192", "aim:scale=0.75,width=192"]
    names = short_adapter_names(["frozen", *long, long[0]])
    assert names.cells == ["frozen", "aim #1", "aim #2", "aim #1"]
    assert names.legend == [f"aim #1: {long[0]}", f"aim #2: {long[1]}"]
