"""`fewshot-i2v episodes show`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.data.splits.summary import COMMON_SETTINGS
from tests.cli.conftest import Invoke
from tests.data.splits.folders import touch

NOVEL = ("carret", "circlecc", "del", "down", "right")
PAIR = """
name: pair
description: Two classes, to learn and to be recognised.
source: a list
defects: [The second class is small.]
find: name
subsets:
  train: {wave: {id: '7', clips: a b c d e}, sit: {id: '8', clips: f g}}
  test: {wave: {clips: h i j}, sit: {clips: k l m}}
draws:
  paper: [{wave: a, sit: f}, {wave: b, sit: g}, {wave: a b, sit: f g}]
"""


@pytest.fixture
def pair(tmp_path: Path) -> str:
    path = tmp_path / "pair.yaml"
    path.write_text(PAIR)
    return str(path)


def test_all_that_is_known_of_a_split_is_shown(invoke: Invoke, pair: str) -> None:
    result = invoke("episodes", "show", pair, "--way", "2", "--shot", "2", "--query", "1")
    assert result.exit_code == 0
    assert result.stderr == f"\nnext: fewshot-i2v episodes check {pair} --root CLIPS\n"
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    for line in (
        "pair, version 1",
        "Two classes, to learn and to be recognised.",
        "source a list",
        "licence not stated",
        f"digest {load_split(pair).digest}",
        "find name: names on disk may differ from those listed",
        "draws paper: 1 (2 draws), 2 clips per class",
        "defect The second class is small.",
        "train 2 7 2 to 5, median 3.5 none",
        "test 2 6 3 none",
        "2 sit [8] 5 wave [7]",
        "2-way episodes without a common clip",
        "2-shot, 1 query impossible any",
        "train, 2-shot, 1 query: too few clips in sit (2)",
    ):
        assert line in lines, result.stdout


def test_json_has_the_same_facts(invoke: Invoke, pair: str) -> None:
    facts = json.loads(invoke("episodes", "show", pair, "--json").stdout)
    assert facts["draws"] == {"paper": [1, 1, 2]}
    asked = [(s["shot"], s["query"]) for s in facts["subsets"]["train"]["episodes"]]
    assert asked == list(COMMON_SETTINGS)
    assert facts["subsets"]["train"]["class_sizes"][1] == {"name": "wave", "id": "7", "clips": 5}


def test_shots_and_queries_are_combined(invoke: Invoke, pair: str) -> None:
    given = ("--shot", "1", "--shot", "2", "--query", "3", "--query", "4")
    facts = json.loads(invoke("episodes", "show", pair, "--json", *given).stdout)
    asked = [(s["way"], s["shot"], s["query"]) for s in facts["subsets"]["test"]["episodes"]]
    assert asked == [(5, 1, 3), (5, 1, 4), (5, 2, 3), (5, 2, 4)]


def test_generated_clips_and_settings_of_papers(invoke: Invoke) -> None:
    text = invoke("episodes", "show", "motions").stdout
    assert "generated name motions, seed 0, size 64" in text
    assert "\n  5-shot, 15 query" in text
    numbers = next(line for line in text.splitlines() if line.startswith("  1-shot, 1 query"))
    assert numbers.split()[-1] == "60"


def test_long_lists_of_classes_stay_readable(invoke: Invoke, tmp_path: Path) -> None:
    classes = "".join(
        f"    class {i:03d}: [{', '.join(f'{i}_{j}' for j in range(i % 30 + 1))}]\n"
        for i in range(174)
    )
    path = tmp_path / "long.yaml"
    path.write_text(f"name: long\nsubsets:\n  novel:\n{classes}")
    short = invoke("episodes", "show", str(path)).stdout
    assert len(short.splitlines()) < 40
    assert "the 5 smallest and largest (all: --all-classes)" in short
    assert "... 164 more" in short
    assert "too few clips in class 000 (1), class 030 (1)," in short
    assert max(map(len, short.splitlines())) <= 100
    whole = invoke("episodes", "show", str(path), "--all-classes").stdout
    assert all(f"class {i:03d}" in whole for i in range(174))


def test_equal_classes_need_no_list(invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "even.yaml"
    classes = "".join(f"    c{i}: [{i}a, {i}b]\n" for i in range(30))
    path.write_text(f"name: even\nsubsets:\n  novel:\n{classes}")
    text = invoke("episodes", "show", str(path)).stdout
    assert "novel classes, all with 2 clips (names: --all-classes)" in text


def test_more_ways_than_classes(invoke: Invoke, pair: str) -> None:
    text = invoke("episodes", "show", pair, "--shot", "1").stdout
    assert "train, 1-shot, 1 query: 2 classes, fewer than 5" in text


def test_groups_are_counted(invoke: Invoke) -> None:
    text = invoke("episodes", "show", "egogestar").stdout
    assert r"group     testvideo_[a-z]+_(\d+)\.mp4" in text
    row = next(line for line in text.splitlines() if line.startswith("novel"))
    groups = {clip.group for name in NOVEL for clip in load_split("egogestar").clips("novel", name)}
    assert row.split()[:5] == ["novel", "5", "70", "14", str(len(groups))]


def test_class_folders_need_their_root(invoke: Invoke, tmp_path: Path) -> None:
    touch(tmp_path, "clips/wave/a.mp4")
    path = tmp_path / "x.yaml"
    path.write_text("name: x\nsubsets: {novel: [wave]}\n")
    result = invoke("episodes", "show", str(path))
    assert result.exit_code == 2
    assert "class folders need a root: give --root" in str(result.stderr or result.exception)
    result = invoke("episodes", "show", str(path), "--root", str(tmp_path / "clips"))
    assert "    1  wave" in result.stdout


@pytest.mark.parametrize("given", [("--way", "0"), ("--shot", "0"), ("--query", "-1")])
def test_numbers_below_one_are_wrong_use(invoke: Invoke, pair: str, given: tuple[str, ...]) -> None:
    result = invoke("episodes", "show", pair, *given)
    assert result.exit_code == 2
    assert given[0] in result.stderr
