"""Hostile and careless input: types, names, links, tables; what is wrong is named."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot_i2v.data.splits.builder.build import make_split, write_new_split
from fewshot_i2v.data.splits.builder.folder_importer import import_folders
from fewshot_i2v.data.splits.builder.list_importer import import_csv
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.data.splits.split_fields import SPLIT_FIELDS
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.errors import ConfigError, SplitError
from tests.data.splits.folders import touch

# What a key may be, of the values below; those that are missing are wrong for it.
VALUES: dict[str, object] = {
    "text": "some text",
    "whole": 3,
    "number": 1.5,
    "truth": True,
    "null": None,
    "list": ["a"],
    "mapping": {"a": "b"},
}
RIGHT = {
    "name": {"text"},
    "version": {"whole"},
    "source": {"text"},
    "licence": {"text"},
    "description": {"text"},
    "citation": set(),
    "defects": {"list"},
    "digest": set(),
    "root": {"text", "null"},
    "find": set(),
    "links": set(),
    "group": {"text", "null"},
    "group_scope": set(),
    "generator": {"mapping"},
    "subsets": {"mapping"},
    "draws": {"mapping"},
}
WRONG = [(key, kind) for key, right in RIGHT.items() for kind in VALUES if kind not in right]
CLIPS: dict[str, object] = {"train": {"a": ["x"]}, "test": {"a": ["y"]}}


def refused(folder: Path, data: object) -> str:
    """The message for a split file with this content, which YAML can read as it can JSON."""
    path = folder / "bad.yaml"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises((SplitError, ConfigError)) as caught:
        load_split(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    return message


def test_every_key_is_tried() -> None:
    assert set(RIGHT) == set(SPLIT_FIELDS)


@pytest.mark.parametrize(("key", "kind"), WRONG)
def test_a_value_of_a_wrong_type_is_named_with_what_was_expected(
    tmp_path: Path, key: str, kind: str
) -> None:
    data = {"name": "bad", "subsets": CLIPS, key: VALUES[kind]}
    message = refused(tmp_path, data)
    assert f"{key}: " in message
    assert repr(VALUES[kind]) in message
    assert "expected" in message or (key == "digest" and "this list's is" in message)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (key, value)
        for key in ("seed", "size", "frames", "fps", "clips", "name")
        for value in (-1, True, None, ["a"], {"a": 1}, 3 if key == "name" else "x")
    ],
)
def test_a_wrong_value_of_the_generator(tmp_path: Path, key: str, value: object) -> None:
    generator = {"name": "motions", key: value}
    message = refused(tmp_path, {"name": "x", "generator": generator, "subsets": {"novel": ["a"]}})
    assert f"generator.{key}: got {value!r}; expected" in message


@pytest.mark.parametrize(
    "value", [3, 1.5, True, None, [], [None], [3], [["x"]], [{"clip": 3}], [{"clip": None}], {}]
)
@pytest.mark.parametrize("form", ["list", "mapping"])
def test_wrong_clips_of_a_class(tmp_path: Path, value: object, form: str) -> None:
    clips = value if form == "list" else {"clips": value}
    if form == "mapping" and value == {}:
        return
    message = refused(tmp_path, {"name": "x", "subsets": {"novel": {"wave": clips}}})
    assert "subsets.novel.wave" in message
    assert "expected" in message


@pytest.mark.parametrize("clips", ["", " \n\t ", "a a", "a ../b", "a /b", "a b/", "a \u0007"])
def test_wrong_names_in_a_text(tmp_path: Path, clips: str) -> None:
    message = refused(tmp_path, {"name": "x", "subsets": {"novel": {"wave": {"clips": clips}}}})
    assert "subsets.novel.wave: " in message


@pytest.mark.parametrize("key", ["id", "folder"])
@pytest.mark.parametrize("value", [3, True, ["a"], {"a": "b"}, "", "a\nb"])
def test_wrong_id_and_folder_of_a_class(tmp_path: Path, key: str, value: object) -> None:
    given = {"clips": ["x"], key: value}
    message = refused(tmp_path, {"name": "x", "subsets": {"novel": {"wave": given}}})
    assert f"subsets.novel.wave: {key}: " in message


@pytest.mark.parametrize("folder", ["..", "a/..", "/a", "a//b", ".", "C:\\a", "a\\..\\b"])
def test_a_folder_that_leads_out(tmp_path: Path, folder: str) -> None:
    given = {"clips": ["x"], "folder": folder}
    message = refused(tmp_path, {"name": "x", "subsets": {"novel": {"wave": given}}})
    assert f"subsets.novel.wave: folder: {folder!r} is not a plain relative path" in message


@pytest.mark.parametrize(
    "line",
    ["novel: &a {wave: [x]}", "novel: !!python/object:os.system {}", "novel: {<<: {a: [x]}}"],
)
def test_no_more_than_plain_yaml(tmp_path: Path, line: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(f"name: x\nsubsets:\n  {line}\n")
    with pytest.raises(ConfigError, match=r"bad.yaml:3:\d+: .* is not allowed"):
        load_split(path)


SHELL = ["$(touch x)", "`touch x`", "a; rm -rf *", "a|b", "a & b", "'", '"', "*?[a]", "-rf"]
SHELL += ["a#b", "~", "%s {0}", "a,b", ": x", "- x", "{x}", "!x", "@x", "null", "0x10", "1e5", "="]


@pytest.mark.parametrize("name", SHELL)
def test_names_that_a_shell_or_yaml_would_change_stay_as_they_are(
    tmp_path: Path, name: str
) -> None:
    touch(tmp_path, f"clips/{name}/{name}.mp4")
    listing = import_folders(tmp_path / "clips")
    split = make_split(listing, {"novel": (name,)}, name=name)
    write_new_split(split, tmp_path / "x.yaml", "class folders")
    read = load_split(tmp_path / "x.yaml", root=tmp_path / "clips")
    assert (read.name, read.digest) == (name, split.digest)
    assert read.clip_path(f"{name}/{name}.mp4").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "x.yaml"]


def test_a_class_folder_with_a_backslash_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a\\b/x.mp4")
    with pytest.raises(SplitError, match=r"class .*: expected the name of one folder"):
        import_folders(tmp_path)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("name", ["caf\u00e9", "\u624b\u3092\u632f\u308b", "\u0645\u0648\u062c"])
def test_names_in_other_scripts_lead_to_the_files_as_they_are_spelled(
    tmp_path: Path, form: str, name: str
) -> None:
    spelled = unicodedata.normalize(form, name)  # type: ignore[arg-type]
    touch(tmp_path, f"{spelled}/{spelled}.mp4")
    (spelling,) = (path.name for path in tmp_path.iterdir())
    split = make_split(import_folders(tmp_path), {"novel": (spelling,)}, name="x")
    write_new_split(split, tmp_path / "x.yaml", "class folders")
    read = load_split(tmp_path / "x.yaml", root=tmp_path)
    assert all(read.clip_path(clip).is_file() for clip in read.clip_names())


def test_two_spellings_of_one_clip_are_one(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("path,class\ncaf\u00e9.mp4,a\ncafe\u0301.mp4,b\n", encoding="utf-8")
    with pytest.raises(SplitError, match=r"line 3: clip 'cafe\u0301.mp4' is already in line 2"):
        import_csv(path)
    subsets = {"base": {"caf\u00e9": ["x"]}, "novel": {"cafe\u0301": ["y"]}}
    message = refused(tmp_path, {"name": "x", "subsets": subsets})
    assert "same text in Unicode" in message


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="file names there are Unicode")
def test_a_file_name_that_is_not_unicode_is_named(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path / "wave")
    os.mkdir(folder)  # noqa: PTH102 - a name in bytes
    with open(folder + b"/caf\xe9.mp4", "wb"):  # noqa: PTH123
        pass
    listing = import_folders(tmp_path)
    with pytest.raises(SplitError, match=r"subsets.novel.wave: .*contains the .* U\+DCE9"):
        make_split(listing, {"novel": ("wave",)}, name="x")


def _linked(folder: Path) -> Split:
    """A split of a folder with links to a class and to a clip outside of it."""
    touch(folder, "outside/sit/b.mp4", "outside/c.mp4", "root/wave/a.mp4")
    (folder / "root/sit").symlink_to(folder / "outside/sit")
    (folder / "root/wave/c.mp4").symlink_to(folder / "outside/c.mp4")
    (folder / "root/wave/gone.mp4").symlink_to(folder / "outside/gone.mp4")
    (folder / "root/wave/loop.mp4").symlink_to(folder / "root/wave/loop.mp4")
    (folder / "x.yaml").write_text("name: x\nroot: root\nsubsets: {novel: {folder: .}}\n")
    return load_split(folder / "x.yaml")


@pytest.mark.parametrize("name", ["sit/b.mp4", "wave/c.mp4"])
def test_links_that_lead_out_of_the_root_are_refused_unless_allowed(
    tmp_path: Path, name: str
) -> None:
    split = _linked(tmp_path)
    assert split.clip_names() == ["sit/b.mp4", "wave/a.mp4", "wave/c.mp4"]
    assert split.clip_path("wave/a.mp4") == tmp_path / "root/wave/a.mp4"
    with pytest.raises(SplitError, match=f"clip '{name}' is a link out of .*links: follow"):
        split.clip_path(name)
    allowed = dataclasses.replace(split, links="follow")
    assert allowed.clip_path(name).resolve().is_relative_to(tmp_path / "outside")


def test_a_folder_that_links_to_its_parent_does_not_hang(tmp_path: Path) -> None:
    touch(tmp_path, "root/wave/a.mp4")
    (tmp_path / "root/wave/up").symlink_to(tmp_path / "root")
    (tmp_path / "root/again").symlink_to(tmp_path / "root")
    listing = import_folders(tmp_path / "root")
    assert list(listing.classes()) == ["wave"]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("path,class\n" + "a" * 200_000 + ",b\n", "field larger than field limit"),
        ('path,class\n"a\nb",c\n', "U+000A"),
        ("path;class\na;b\n", "x.csv:1: header ['path;class']; expected path,class"),
        ("path\tclass\na\tb\n", "x.csv:1: header"),
        ("path,class,group\na,b\n", "x.csv:2: not 3 fields"),
        ("PATH,CLASS\na,b\n", "x.csv:1: header ['PATH', 'CLASS']"),
        ('path,class\n"a"b,c\n', "cannot be read as a CSV"),
        ("path,class\na,b\na,b\n", "clip 'a' is already in subsets.novel.b"),
        ("path,class\na/../../b,c\n", "'a/../../b' is not a plain relative path"),
        ("path,class,group\na,b,\x1b[31m\n", "U+001B"),
        ("path,class\n\u202ea,b\nx,\u2028\n", "empty name"),
    ],
)
def test_tables_of_a_split(tmp_path: Path, table: str, words: str) -> None:
    (tmp_path / "x.csv").write_text(table, encoding="utf-8")
    assert words in refused(tmp_path, {"name": "x", "subsets": {"novel": {"csv": "x.csv"}}})


def test_tables_with_line_ends_of_windows(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"path,class\r\na,b\r\nc,b\r\n")
    (tmp_path / "x.yaml").write_text("name: x\nsubsets: {novel: {csv: x.csv}}\n")
    assert load_split(tmp_path / "x.yaml").clip_names() == ["a", "c"]


@pytest.mark.parametrize("kind", ["folder", "fifo", "loop"])
def test_tables_that_are_no_files(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.csv"
    if kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    else:
        os.mkfifo(path)
    message = refused(tmp_path, {"name": "x", "subsets": {"novel": {"csv": "x.csv"}}})
    assert "x.csv; expected a CSV with the columns" in message


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*SPLIT_FIELDS, "other"]), PLAIN, max_size=6), PLAIN)
def test_any_content_is_a_split_or_an_error_that_names_the_file(
    tmp_path_factory: pytest.TempPathFactory, data: dict[str, object], clips: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    content = {"name": "x", "subsets": {"novel": {"wave": clips}}} | data
    path.write_text(json.dumps(content), encoding="utf-8")
    message, names = "", []
    try:
        names = load_split(path).clip_names()
    except (SplitError, ConfigError) as error:
        message = str(error)
    assert names or message.startswith(str(path))
