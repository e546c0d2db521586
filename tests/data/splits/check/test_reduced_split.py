"""A smaller split of the clips that are right."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from fewshot_i2v.data.splits.check.check import ClipCheck
from fewshot_i2v.data.splits.check.reduced_split import (
    ReducedSplit,
    check_output_path,
    remove_problem_clips,
    write_reduced_split,
)
from fewshot_i2v.data.splits.split import Draw, Split
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.errors import SplitError
from tests.data.splits.check.samples import check, listed


def smaller(
    found: ClipCheck, folder: Path, *, drop: bool = False
) -> tuple[ReducedSplit, Split, str]:
    removal = write_reduced_split(found, folder / "smaller.yaml", drop_classes=drop)
    text = (folder / "smaller.yaml").read_text(encoding="utf-8")
    return removal, load_split(folder / "smaller.yaml", root=found.split.root), text


def test_a_smaller_split_says_what_it_lacks(root: Path, tmp_path: Path) -> None:
    split = listed(root, base={"wave": "abcd"}, novel={"run": "ab"})
    found = check(split, tmp_path, frames=5)
    removal, loaded, text = smaller(found, tmp_path)
    assert removal.removed_clips == {"wave/c": "empty", "wave/d": "missing", "run/b": "unreadable"}
    assert loaded.name == "sample-minus-3"
    assert loaded.digest == removal.split.digest != split.digest
    assert loaded.clip_names() == ["wave/a", "wave/b", "run/a"]
    assert loaded.find == "name"
    assert f"Made from digest {split.digest}" in loaded.description
    assert "wave 2 of 4 (base); run 1 of 2 (novel)." in loaded.description
    assert loaded.description.endswith("Three movements.")
    assert "#   wave/d: missing\n" in text
    assert f"digest: {loaded.digest}" in text
    assert check(loaded, tmp_path, frames=5).problems == ()


def test_a_class_is_only_left_out_when_asked(root: Path, tmp_path: Path) -> None:
    split = listed(root, base={"wave": "ab", "jump": "ab"}, novel={"run": "ab"})
    found = check(split, tmp_path, frames=5)
    with pytest.raises(SplitError, match=r"no clip would be left of 'jump'; .*--drop-classes"):
        remove_problem_clips(found)
    removal, loaded, _ = smaller(found, tmp_path, drop=True)
    assert removal.removed_classes == ("jump",)
    assert loaded.classes("base") == ("wave",)
    assert loaded.name == "sample-minus-3"
    assert "Classes left out: jump." in loaded.description


def test_no_subset_is_left_empty(root: Path, tmp_path: Path) -> None:
    found = check(listed(root, base={"wave": "ab"}, novel={"jump": "ab"}), tmp_path, quick=True)
    with pytest.raises(SplitError, match="no class would be left of 'novel'"):
        remove_problem_clips(found, drop_classes=True)


def all_way(root: Path) -> Split:
    split = listed(root, train={"wave": "ab", "run": "az"}, test={"wave": "z", "run": "b"})
    draws = {
        "good": (Draw(1, {"wave": ("wave/b",), "run": ("run/a",)}),),
        "bad": (
            Draw(1, {"wave": ("wave/b",), "run": ("run/a",)}),
            Draw(1, {"wave": ("wave/b",), "run": ("run/z",)}),
        ),
    }
    return Split(
        "sample", split.subsets, draws=draws, class_ids={"wave": "0"}, root=root, find="name"
    )


def test_draws_that_lose_a_clip_are_left_out(root: Path, tmp_path: Path) -> None:
    shutil.copy(root / "wave/a.mp4", root / "wave/z.mkv")
    os.truncate(root / "wave/z.mkv", 900)
    found = check(all_way(root), tmp_path, quick=True)
    removal, loaded, _ = smaller(found, tmp_path)
    assert removal.removed_clips == {"run/z": "missing"}
    assert removal.removed_draws == ("bad",)
    assert set(loaded.draws) == {"good"}
    assert "Draws left out, since they had such clips: bad." in loaded.description


def test_a_class_is_left_out_of_train_and_test(root: Path, tmp_path: Path) -> None:
    found = check(all_way(root), tmp_path, quick=True)
    removal, loaded, _ = smaller(found, tmp_path, drop=True)
    assert removal.removed_clips == {
        **{"wave/a": "its class is left out", "wave/b": "its class is left out"},
        **{"wave/z": "missing", "run/z": "missing"},
    }
    assert loaded.classes("train") == loaded.classes("test") == ("run",)
    assert (loaded.class_ids, loaded.draws) == ({}, {})


def test_a_smaller_split_replaces_no_file(root: Path, tmp_path: Path) -> None:
    found = check(listed(root, base={"wave": "abc"}), tmp_path, quick=True)
    smaller(found, tmp_path)
    with pytest.raises(SplitError, match="is already there"):
        smaller(found, tmp_path)
    with pytest.raises(SplitError, match="is already there"):
        check_output_path(tmp_path / "smaller.yaml")
    with pytest.raises(SplitError, match=r"ends in \.yaml"):
        check_output_path(tmp_path / "smaller.txt")
