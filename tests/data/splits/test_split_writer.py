"""What is written as a split file reads back as the same split."""

from __future__ import annotations

import dataclasses
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot_i2v.data.splits.split import Clip, Draw, Generator, Split
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.data.splits.split_writer import format_split, write_split
from fewshot_i2v.errors import SplitError

SPLIT = Split(
    name="hands: all",
    subsets={
        "train": {
            "wave": tuple(Clip(f"Wave/w {i}_g{i}_", str(i)) for i in range(3)),
            "no": tuple(Clip(f"{i:06d}", None) for i in range(40)),
        },
        "test": {"wave": (Clip("Wave/x_g9_", "other"),), "no": (Clip("77"),)},
    },
    version=2,
    source="a paper, 2020",
    licence="none: names only",
    description="Hands that " + "move " * 40,
    citation="@misc{a,\n  title = {B: c},\n}\n",
    defects=("one: two", "# three"),
    class_ids={"wave": "0", "no": "train1"},
    group_scope="global",
    find="name",
    draws={"a b": (Draw(1, {"wave": ("Wave/w 0_g0_",), "no": ("000003",)}),)},
)


def back(text: str, folder: Path) -> Split:
    path = folder / "split.yaml"
    path.write_text(text, encoding="utf-8")
    return load_split(path)


def test_all_that_a_split_holds_comes_back(tmp_path: Path) -> None:
    read = back(format_split(SPLIT, comments=["why " * 50, "a\n  b"], with_digest=True), tmp_path)
    assert dataclasses.replace(read, path=None) == SPLIT
    assert read.digest == SPLIT.digest


def test_groups_that_the_pattern_gives_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "given.yaml"
    path.write_text(
        "name: a\ngroup: '_(g\\d)'\nsubsets:\n  novel: {c: [x_g1, {clip: y_g2, group: z}]}\n"
    )
    split = load_split(path)
    text = format_split(split)
    assert "group: 'z'" in text
    assert "'g1'" not in text
    assert back(text, tmp_path).digest == split.digest


def test_lists_are_compact_and_lines_short() -> None:
    lines = format_split(SPLIT).splitlines()
    assert any(line.split()[:3] == ["000000", "000001", "000002"] for line in lines)
    assert max(map(len, lines)) <= 110


NAMES = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters="/\\:"),
    min_size=1,
    max_size=12,
).filter(
    lambda text: (
        text.strip() and text not in {".", ".."} and unicodedata.normalize("NFC", text) == text
    )  # two spellings of one text are refused
)


@given(st.dictionaries(NAMES, st.lists(NAMES, min_size=1, max_size=4, unique=True), min_size=1))
def test_any_names_come_back(tmp_path_factory: pytest.TempPathFactory, classes: object) -> None:
    if not isinstance(classes, dict):
        raise TypeError
    subsets = {
        "novel": {
            name: tuple(Clip(f"f{i}/{clip}") for clip in clips)
            for i, (name, clips) in enumerate(classes.items())
        }
    }
    split = Split(name="x", subsets=subsets)
    folder = tmp_path_factory.mktemp("any")
    assert back(format_split(split), folder).digest == split.digest


def test_generated_splits_keep_their_generator(tmp_path: Path) -> None:
    split = load_split("motions")
    read = back(format_split(split), tmp_path)
    assert read.digest == split.digest
    assert isinstance(read.generator, Generator)


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "new" / "split.yaml"
    write_split(SPLIT, path)
    with pytest.raises(SplitError, match="is already there"):
        write_split(SPLIT, path)
    write_split(dataclasses.replace(SPLIT, name="other"), path, overwrite=True)
    assert load_split(path).name == "other"
    assert [file.name for file in path.parent.iterdir()] == ["split.yaml"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SplitError, match=r"split\.yaml: cannot be written"):
        write_split(SPLIT, tmp_path / "file" / "split.yaml")
