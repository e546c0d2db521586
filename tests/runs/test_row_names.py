"""What starting points are called, where several have the same name."""

from __future__ import annotations

from fewshot_i2v.runs.row_names import start_names


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
