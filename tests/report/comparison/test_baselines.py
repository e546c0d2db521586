"""Which rows meet, and what they are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewshot_i2v.errors import UnknownNameError, UsageError
from fewshot_i2v.report.comparison.baselines import (
    RowPair,
    all_pairs,
    names_by_row,
    pairs_with_baseline,
    pairs_with_frozen,
)
from fewshot_i2v.report.comparison.compare import compare_rows
from fewshot_i2v.report.comparison.text import render_comparisons
from fewshot_i2v.runs.row_names import name_rows
from tests.report.comparison.contenders import contender


def met(pairs: list[RowPair]) -> list[tuple[str, str]]:
    return [(row.summary.folder.name, other.summary.folder.name) for row, other in pairs]


def test_the_baseline_is_frozen_with_the_same_head_and_shot() -> None:
    rows = [
        contender("aim"),
        contender(),
        contender(head="trx"),
        contender("aim", head="trx"),
        contender(shot=5),
        contender("aim", shot=5, head="otam"),
    ]
    pairs, alone = pairs_with_frozen(rows)
    assert met(pairs) == [
        ("aim-linear-1shot", "frozen-linear-1shot"),
        ("aim-trx-1shot", "frozen-trx-1shot"),
    ]
    assert alone == [rows[-1], rows[4]], "what nothing was compared with is not passed over"
    shown = render_comparisons(compare_rows(pairs, names_by_row(rows)), alone)
    assert "head, shot and episodes: runs/aim-otam-5shot" in " ".join(shown.split())
    assert "aim with trx" in shown


def test_the_frozen_row_of_the_same_run_is_nearer_than_that_of_another() -> None:
    rows = [
        contender(name, folder=f"{run}/{name}", encoder=run)
        for run in ("b16", "b32")
        for name in ("frozen", "aim")
    ]
    pairs, _ = pairs_with_frozen(rows)
    assert [(a.summary.folder, b.summary.folder) for a, b in pairs] == [
        (Path("b16/aim"), Path("b16/frozen")),
        (Path("b32/aim"), Path("b32/frozen")),
    ]
    assert names_by_row(rows)[rows[0]] == "frozen (b16)"
    twice = [contender(folder="x/1"), contender(folder="x/2"), contender("aim", folder="x/3")]
    with pytest.raises(UsageError, match=r"several rows could be its baseline: 'frozen \(1\)'"):
        pairs_with_frozen(twice)


def test_two_rows_alone_are_compared_with_each_other() -> None:
    rows = [contender("aim"), contender("bitfit")]
    assert pairs_with_frozen(rows) == ([(rows[1], rows[0])], [])
    frozen = [contender(folder="a/f"), contender(folder="b/f")]
    assert pairs_with_frozen(frozen)[0] == [(frozen[1], frozen[0])]
    for wrong in ([*rows, contender("lora")], rows[:1], [rows[0], contender("lora", shot=5)]):
        with pytest.raises(UsageError, match=r"no row of the adapter frozen.*--all-pairs"):
            pairs_with_frozen(wrong)
    with pytest.raises(UsageError, match="nothing to compare with runs/frozen-linear-1shot"):
        pairs_with_frozen([contender()])


def test_a_baseline_can_be_named() -> None:
    begun = {"start": "base-trained", "start_name": "mine"}
    rows = [
        contender(),
        contender("aim"),
        contender("aim", folder="runs/aim-from-mine", row=begun),
        contender("lora:rank=4"),
    ]
    assert list(names_by_row(rows).values()) == [
        "frozen",
        "aim fresh",
        "aim from mine",
        "lora:rank=4",
    ]
    for name in ("lora", "lora:rank=4", "lora:rank=4-linear-1shot"):
        pairs, _ = pairs_with_baseline(rows, name, None)
        assert [other for _, other in pairs] == [rows[3]] * 3
    assert pairs_with_baseline(rows, "aim fresh", None)[0][0] == (rows[0], rows[1])
    assert pairs_with_baseline(rows, "x", Path("runs/aim-from-mine"))[0][-1] == (rows[3], rows[2])
    with pytest.raises(UsageError, match=r"several rows.*'aim fresh'.*'aim from mine'"):
        pairs_with_baseline(rows, "aim", None)
    with pytest.raises(UnknownNameError, match=r"unknown baseline 'lorra'.*did you mean"):
        pairs_with_baseline(rows, "lorra", None)


def test_rows_of_a_folder_meet_their_likes_of_another() -> None:
    rows = [
        contender(name, folder=f"{run}/{name}", frame_order=run)
        for run in ("natural", "shuffled")
        for name in ("frozen", "aim")
    ]
    pairs, _ = pairs_with_baseline(rows, "natural", Path("natural"))
    assert [(a.summary.folder, b.summary.folder) for a, b in pairs] == [
        (Path("shuffled/frozen"), Path("natural/frozen")),
        (Path("shuffled/aim"), Path("natural/aim")),
    ]


def test_all_pairs_are_of_one_shot() -> None:
    rows = [contender(), contender("aim"), contender("lora"), contender("aim", shot=5)]
    assert met(all_pairs(rows)) == [
        ("aim-linear-1shot", "frozen-linear-1shot"),
        ("lora-linear-1shot", "frozen-linear-1shot"),
        ("lora-linear-1shot", "aim-linear-1shot"),
    ]
    with pytest.raises(UsageError, match="expected two rows of one shot"):
        all_pairs(rows[2:])


def test_rows_of_one_adapter_that_were_tuned_in_other_ways_are_told_apart_by_it() -> None:
    usual = {"steps": 30, "lr": 0.1, "clip_norm": 1.0}
    rows = [
        contender(tuning=usual),
        contender("aim", tuning=usual),
        contender("aim", folder="other/aim", tuning={**usual, "steps": 4}),
        contender("aim", folder="more/aim", shot=5, tuning={**usual, "batch": 2}),
        contender("lora", tuning={**usual, "lr": 0.5}),
    ]
    assert list(names_by_row(rows).values()) == [
        "frozen",
        "aim (batch all, steps 30)",
        "aim (batch all, steps 4)",
        "aim (batch 2, steps 30)",
        "lora",
    ]
    assert pairs_with_baseline(rows, "aim (batch all, steps 4)", None)[0][0] == (rows[0], rows[2])
    assert list(names_by_row(rows[:2]).values()) == ["frozen", "aim"]


def test_rows_that_the_tuning_does_not_tell_apart_are_told_by_their_folders() -> None:
    rows = [
        contender("aim", folder=f"{run}/aim", tuning={"steps": steps})
        for run, steps in (("a", 1), ("b", 1), ("c", 4))
    ]
    assert list(names_by_row(rows).values()) == [
        "aim (steps 1) (a)",
        "aim (steps 1) (b)",
        "aim (steps 4)",
    ]


def test_where_much_of_the_tuning_differs_it_is_counted() -> None:
    one = {"steps": 1, "lr": 0.1, "head_lr": 0.1, "flip": "on"}
    other = {"steps": 2, "lr": 0.2, "head_lr": 0.2, "flip": "off"}
    rows = [contender("aim", folder=f"{t['steps']}/aim", tuning=t) for t in (one, other)]
    assert list(names_by_row(rows).values()) == [
        "aim (flip on, head_lr 0.1, lr 0.1 and 1 more)",
        "aim (flip off, head_lr 0.2, lr 0.2 and 1 more)",
    ]


def test_a_row_without_steps_is_named_untuned_beside_tuned_ones() -> None:
    steps_of_recipe = {"recipe": "auto", "steps": 20, "lr": 0.1, "flip": "auto"}
    untuned = {"recipe": "none", "steps": 0, "lr": 0.001, "flip": "off"}
    begun = {"start": "base-trained", "start_name": "x"}
    rows = [
        contender("aim", tuning=steps_of_recipe),
        contender("aim", folder="runs/b", tuning=untuned, row=begun),
        contender("aim", folder="runs/c", tuning={**steps_of_recipe, "lr": 0.2}, row=begun),
        contender("lora", tuning=untuned),
    ]
    # the recipe has a rate of its own for the start, which is no difference
    assert list(names_by_row(rows).values()) == [
        "aim fresh",
        "aim from x (untuned)",
        "aim from x",
        "lora",
    ]
    assert [row.note for row in name_rows([row.summary for row in rows])] == ["", "untuned", "", ""]
