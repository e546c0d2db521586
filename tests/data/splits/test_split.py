"""Reading a split file: its forms, its digest, its lookups."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from fewshot_i2v.data.splits.split import Clip, Generator, Split
from fewshot_i2v.data.splits.split_file import load_split, read_split_origin
from fewshot_i2v.errors import ConfigError, SplitError, UnknownNameError
from fewshot_i2v.utils import resources
from tests.data.splits.folders import touch
from tests.data.splits.published import published
from tests.data.splits.samples import run_python

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a split file and gives its path."""

    def write_text(text: str) -> Path:
        path = tmp_path / "split.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_text


DIGEST = "a410e2ec9ffded9e582bea99f8ed6ccaaab2596c6097613b117c368b7e6b57b8"
FULL = """
name: gestures
version: 3
source: https://example.org
licence: CC0-1.0
description: Hands.
citation: |
  @misc{doe2024, title = {Hands}}
group: '_p(\\d+)_'
group_scope: global
subsets:
  novel:
    wave: [wave/a_p1_x.mp4, {clip: wave/other.mp4, group: 7}, wave/a_p2_x.mp4]
  base:
    point: [point/a_p1_x.mp4]
    'no': [no/a_p1_x.mp4]
"""


def test_every_key_of_a_listed_split(write: Write) -> None:
    path = write(FULL)
    split = load_split(path)
    assert (split.name, split.version, split.licence) == ("gestures", 3, "CC0-1.0")
    assert (split.source, split.description) == ("https://example.org", "Hands.")
    assert split.citation == "@misc{doe2024, title = {Hands}}\n"
    assert (split.group_scope, split.generator, split.root) == ("global", None, None)
    assert split.path == path
    assert split.classes("base") == ("no", "point")
    assert split.clips("novel", "wave") == (
        Clip("wave/a_p1_x.mp4", "1"),
        Clip("wave/a_p2_x.mp4", "2"),
        Clip("wave/other.mp4", "7"),
    )
    assert pickle.loads(pickle.dumps(split)) == split  # noqa: S301 - our own bytes


def test_where_a_split_is_from_is_read_without_its_clips(write: Write) -> None:
    path = write(FULL.replace("point: [point/a_p1_x.mp4]", "point: {folder: gone}"))
    citation = "@misc{doe2024, title = {Hands}}\n"
    assert read_split_origin(path) == (citation, "https://example.org", False)
    assert read_split_origin("motions").generated
    with pytest.raises(SplitError, match="citation: got 'doe2024'; expected BibTeX entries: "):
        read_split_origin(write(FULL.replace("@misc{doe2024, title = {Hands}}", "doe2024")))


def test_digest_depends_on_content_alone(write: Write, tmp_path: Path) -> None:
    digest = load_split(write(FULL)).digest
    assert digest == DIGEST
    same = FULL.replace("gestures", "x").replace("version: 3\n", "").replace("Hands", "Feet")
    same = same.replace("citation: |\n  @misc{doe2024, title = {Feet}}\n", "")
    assert "citation" not in same
    same = same.replace("wave/a_p1_x.mp4, ", "").replace(
        "x.mp4]\n  base", "x.mp4, wave/a_p1_x.mp4]\n  base"
    )
    assert load_split(write(same), root=tmp_path).digest == digest
    for old, new in (
        ("wave/other", "wave/another"),
        ("group: 7", "group: 8"),
        ("scope: global", "scope: class"),
        ("point:", "pointing:"),
        ("base:", "val:"),
    ):
        assert load_split(write(FULL.replace(old, new))).digest != digest


def test_generated_clips(write: Write, tmp_path: Path) -> None:
    text = "name: g\ngenerator: {name: motions, size: 32, clips: 3}\n"
    text += "subsets: {novel: [grows, shrinks]}"
    split = load_split(write(text), root=tmp_path / "not yet there")
    assert split.generator == Generator("motions", seed=0, size=32, frames=16, fps=8, clips=3)
    assert [clip.name for clip in split.clips("novel", "grows")] == [
        "grows/grows-000.mp4",
        "grows/grows-001.mp4",
        "grows/grows-002.mp4",
    ]
    digests = {load_split(write(text.replace("size: 32", f"size: {n}"))).digest for n in (32, 64)}
    assert len(digests | {split.digest}) == 2
    with pytest.raises(SplitError, match="clips are generated"):
        load_split(write(text)).clip_path("grows/grows-000.mp4")


def _video(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_class_folders(write: Write, tmp_path: Path) -> None:
    for name in ("b.mp4", "a.AVI", ".hidden.mp4", "notes.txt", "c.webm", "d.mkv", "e.gif", "f.mov"):
        _video(tmp_path / "clips/train/jump up" / name)
    (tmp_path / "clips/train/jump up/folder.mp4").mkdir()
    _video(tmp_path / "clips/train/sit/x.mp4")
    _video(tmp_path / "clips/train/.cache/x.mp4")
    _video(tmp_path / "clips/wave/x.mp4")
    split = load_split(
        write("name: f\nroot: clips\nsubsets:\n  base: {folder: train/}\n  novel: [wave]")
    )
    assert split.classes("base") == ("jump up", "sit")
    names = [clip.name for clip in split.clips("base", "jump up")]
    expected = ("a.AVI", "b.mp4", "c.webm", "d.mkv", "e.gif", "f.mov")
    assert names == [f"train/jump up/{n}" for n in expected]
    assert split.clips("novel", "wave") == (Clip("wave/x.mp4"),)
    assert split.clip_path(names[0]) == tmp_path / "clips" / names[0]
    assert split.clip_path(names[0]).is_file()
    chosen = write("name: f\nsubsets: {novel: {folder: train, classes: [sit]}}")
    assert load_split(chosen, root=tmp_path / "clips").classes("novel") == ("sit",)
    every = write("name: f\nsubsets: {novel: {folder: .}}")
    assert load_split(every, root=tmp_path / "clips/train").classes("novel") == ("jump up", "sit")


def test_csv(write: Write, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    table = tmp_path / "lists/novel.csv"
    table.write_text(
        '\ufeffclass,path,group\nsit,"s/a, b.mp4",p1\nwave,w/1.mp4,\n\nsit,s/c.mp4,p2\n'
    )
    path = write("name: c\nsubsets: {novel: {csv: lists/novel.csv}}")
    split = load_split(path)
    assert split.clips("novel", "sit") == (Clip("s/a, b.mp4", "p1"), Clip("s/c.mp4", "p2"))
    assert split.clips("novel", "wave") == (Clip("w/1.mp4"),)
    table.write_text("path,class\ns/a.mp4,sit\n")
    assert load_split(path).clips("novel", "sit") == (Clip("s/a.mp4"),)
    table.write_text(" path , class \n s/a.mp4 , sit \n")
    assert load_split(path).clips("novel", "sit") == (Clip("s/a.mp4"),)


def test_class_folders_hold_videos_or_folders_of_frames(write: Write, tmp_path: Path) -> None:
    touch(tmp_path, "sit/a/1.jpg", "sit/b/1.png", "sit/c/x.jpg", "wave/1.mp4", "wave/a/1.jpg")
    split = load_split(write("name: c\nroot: .\nsubsets: {novel: {folder: .}}"))
    assert split.clip_names() == ["sit/a", "sit/b", "wave/1.mp4"]


def test_lookups_name_what_exists(write: Write) -> None:
    split = load_split(write(FULL))
    with pytest.raises(UnknownNameError, match="unknown subset 'val'; known: base, novel"):
        split.classes("val")
    with pytest.raises(UnknownNameError, match="unknown class 'wav'; did you mean 'wave'"):
        split.clips("novel", "wav")
    with pytest.raises(SplitError, match=r"has no root for clip 'a\.mp4'; give one with --root"):
        split.clip_path("a.mp4")


@pytest.mark.parametrize("name", ["../a.mp4", "/a.mp4", "a/../../b", "C:\\a.mp4", "a\\..\\b", ""])
def test_file_stays_below_the_root(write: Write, tmp_path: Path, name: str) -> None:
    with pytest.raises(SplitError):
        load_split(write(FULL), root=tmp_path).clip_path(name)


def test_root_given_replaces_the_root_of_the_file(write: Write, tmp_path: Path) -> None:
    path = write(FULL + "root: mine\n")
    with pytest.raises(SplitError, match=r"root: no folder .*mine"):
        load_split(path)
    assert load_split(path, root=tmp_path).root == tmp_path
    (tmp_path / "mine").mkdir()
    assert load_split(path).root == tmp_path / "mine"


def test_names_and_paths(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(FULL)
    monkeypatch.chdir(tmp_path)
    assert load_split("split.yaml").name == load_split("./split.yaml").name == "gestures"
    with pytest.raises(UnknownNameError, match="unknown split 'motion'; did you mean 'motions'"):
        load_split("motion")
    with pytest.raises(ConfigError, match="no such file"):
        load_split("folder/motions")
    with pytest.raises(ConfigError, match="no such file"):
        load_split("motions.yml")


@pytest.mark.parametrize("name", resources.data_names("episodes"))
def test_every_shipped_split_loads(name: str) -> None:
    split = published()[name]
    assert split.name == name
    assert split.source
    assert split.licence
    assert split.description
    asked = "test" if "test" in split.subsets else "novel"
    assert len(split.classes(asked)) >= 5
    assert all(len(split.clips(asked, c)) >= 10 for c in split.classes(asked))


def test_shipped_splits_are_plain_files_of_the_folder() -> None:
    assert {"motions", "shapes", "egogestar"} <= set(resources.data_names("episodes"))


def test_a_split_made_in_code_is_ordered_too() -> None:
    clips = (Clip("b"), Clip("a"))
    split = Split(name="s", subsets={"novel": {"z": clips, "y": (Clip("c"),)}})
    assert split.classes("novel") == ("y", "z")
    assert split.clips("novel", "z") == (Clip("a"), Clip("b"))


def test_import_is_light() -> None:
    code = (
        "import sys, fewshot_i2v.data.episodes.sampler, fewshot_i2v.data.splits.split_file; "
        "print('torch' in sys.modules, 'av' in sys.modules)"
    )
    assert run_python(code).split() == ["False", "False"]
