"""What starting points are called, where several have the same name."""

from __future__ import annotations

from pathlib import Path

from fewshot_i2v.runs.row_names import display_names, shorten_head, start_names
from fewshot_i2v.runs.row_summary import RowSummary


def test_names_stay_where_nothing_is_called_the_same() -> None:
    starts = [
        ("aim", "", ""),
        ("aim", "a", "/runs/a/aim"),
        ("aim", "b", "/runs/b"),
        ("aim", "b", "/runs/b"),
        ("other adapter", "a", "/elsewhere/a"),
    ]
    assert start_names(starts) == ["", "a", "b", "b", "a"]


def test_equal_names_are_followed_up_as_far_as_is_needed() -> None:
    folders = ["/x/seed-0/aim", "/x/seed-1/aim", "/y/seed-1/aim"]
    found = start_names([("aim", "aim", folder) for folder in folders])
    assert found == ["seed-0/aim", "x/seed-1/aim", "y/seed-1/aim"]


def test_a_folder_of_several_is_called_by_its_own_path() -> None:
    found = start_names([("aim", "mine", "/x/mine/aim"), ("aim", "mine", "/y/mine")])
    assert found == ["x/mine", "y/mine"]


def test_a_path_that_is_not_known_leaves_the_name() -> None:
    assert start_names([("aim", "a", ""), ("aim", "a", "/x/a")]) == ["a", "a"]


def test_links_and_folders_within_each_other_are_told_apart() -> None:
    found = start_names([("aim", "aim", folder) for folder in ("/aim", "/x/aim", "/x/last")])
    assert found == ["/aim", "x/aim", "last"]


def test_long_heads_are_cut_only_where_that_keeps_them_apart() -> None:
    """A folder that all rows have tells nothing, and long labels may differ at their end."""
    start = "prototype:center=true,pooling=ordered,tokens=summary+grid4+motion"
    heads = [start, f"{start},weights=loo"]
    about = {"identity": {"config": {}}}
    rows = [
        RowSummary(adapter, head, 1, {0: 1.0}, folder=Path(f"runs/ti/{adapter}-{i}"), header=about)
        for adapter in ("frozen", "aim")
        for i, head in enumerate(heads)
    ]
    names = display_names(rows)
    assert names == [f"{a} with {head}" for a in ("frozen", "aim") for head in heads]
    assert shorten_head(names[1], heads[1], "B") == "frozen with head B"
    assert shorten_head(names[0], heads[0], "") == "frozen"
    other = [rows[0], RowSummary("frozen", "linear", 1, {0: 1.0}, header=about)]
    assert display_names(other)[0].endswith("…"), "still cut where nothing else is like it"


def test_a_key_that_is_absent_is_shown_with_its_default() -> None:
    """A default of nothing reads as a switch."""
    tunings = ({"steps": 5}, {"steps": 5, "optimizer": "start-rates", "untuned_weight": 0.5})
    rows = [
        RowSummary("aim", "otam", 1, {0: 1.0}, header={"identity": {"config": {"tuning": tuning}}})
        for tuning in tunings
    ]
    assert display_names(rows) == [
        "aim (optimizer adamw, untuned_weight off)",
        "aim (optimizer start-rates, untuned_weight 0.5)",
    ]
