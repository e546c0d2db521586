"""What is wrong in a split file is named with file and key, all of it at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.errors import SplitError

_GENERATED = "generator: {name: motions}\n"


def problems(tmp_path: Path, text: str, *, named: bool = True) -> str:
    """The message that a split file with this text gives."""
    path = tmp_path / "bad.yaml"
    path.write_text(("name: bad\n" if named else "") + text, encoding="utf-8")
    with pytest.raises(SplitError) as caught:
        load_split(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    return message.removeprefix(str(path)).removeprefix(": ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("subset: {}\nsubsets: {base: {a: [x]}}", "split: unknown key 'subset'; did you mean"),
        ("subsets: {novell: {a: [x]}}", "subsets: unknown key 'novell'; did you mean 'novel'"),
        ("subsets: {}", "subsets: got {}; expected some of base, val, novel, or train and test"),
        ("source: x", "subsets: got None"),
        ("subsets: {base: 3}", "subsets.base: got 3; expected a list of class names, a mapping"),
        ("subsets: {base: {}}", "subsets.base: got {}"),
        ("subsets: {base: {a: x.mp4}}", "subsets.base.a: got 'x.mp4'; expected a list"),
        ("subsets: {base: {a: []}}", "subsets.base.a: no clips"),
        (
            "subsets: {base: {a: [1.5]}}",
            "subsets.base.a[0]: got 1.5; expected a clip's name (in quotes",
        ),
        (
            "subsets: {base: {a: [{clip: x, grup: y}]}}",
            "a[0]: unknown key 'grup'; did you mean 'group'",
        ),
        ("subsets: {base: {a: [{group: y}]}}", "subsets.base.a[0]: clip: got None"),
        ("subsets: {base: {a: [{clip: x, group: [y]}]}}", "a[0]: group: got ['y']"),
        ("subsets: {base: {a: [x, x]}}", "clip 'x' is already in subsets.base.a"),
        ("subsets: {base: {a: [x], b: [x]}}", "b: clip 'x' is already in subsets.base.a"),
        ("subsets: {base: {a: [x]}, val: {a: [y]}}", "subsets.val.a: the class is in 'base' too"),
        (
            "subsets: {base: {a: [x]}, val: {b: [x]}}",
            "subsets.val.b: clip 'x' is already in subsets.base.a",
        ),
        ("subsets: {base: {a: [/x]}}", "'/x' is not a plain relative path"),
        ("subsets: {base: {a: [b/../../x]}}", "'b/../../x' is not a plain relative path"),
        ("subsets: {base: {a: ['..\\x']}}", "is not a plain relative path"),
        ("subsets: {base: {a: ['C:/x']}}", "'C:/x' is not a plain relative path"),
        ("subsets: {base: {a: [./x]}}", "'./x' is not a plain relative path"),
        ("subsets: {base: {a: [b//x]}}", "'b//x' is not a plain relative path"),
        ("subsets: {base: {a: ['']}}", "empty name"),
        ('subsets: {base: {a: ["x\\0y"]}}', "U+0000"),
        ('subsets: {base: {a: ["x\\ny"]}}', "U+000A"),
        ('subsets: {base: {"a\\nb": [x]}}', "class name: 'a\\nb' contains the control character"),
        ("subsets: {base: {'': [x]}}", "class name: empty name"),
        ('subsets: {base: {a: [{clip: x, group: "\\t"}]}}', "subsets.base.a: empty name"),
        ('subsets: {base: {a: ["caf\\u00e9", "cafe\\u0301"]}}', "there spelled"),
        ('subsets: {base: {"\\u00e9": [x]}, val: {"e\\u0301": [y]}}', "same text in Unicode"),
        ("group: '(a'\nsubsets: {base: {a: [x]}}", "group: '(a' is not a regular expression"),
        ("group: 'a'\nsubsets: {base: {a: [x]}}", "group: 'a' has no capture group"),
        ("group: 1\nsubsets: {base: {a: [x]}}", "group: got 1"),
        (
            "group: '(\\d)'\nsubsets: {base: {a: [x, 'y1', z]}}",
            "2 of 3 names do not match the `group` pattern",
        ),
        (
            "group_scope: all\nsubsets: {base: {a: [x]}}",
            "group_scope: got 'all'; expected class or global",
        ),
        ("version: 0\nsubsets: {base: {a: [x]}}", "version: got 0; expected a whole number from 1"),
        ("version: true\nsubsets: {base: {a: [x]}}", "version: got True"),
        ("source: 1\nsubsets: {base: {a: [x]}}", "source: got 1; expected text"),
        ("root: 1\nsubsets: {base: {a: [x]}}", "root: got 1"),
        ("subsets: {base: [a]}", "subsets.base: class folders need a root: give --root"),
        ("root: nowhere\nsubsets: {base: [a]}", "root: no folder"),
        ("root: .\nsubsets: {base: [a]}", "for class 'a' (--root sets the root)"),
        ("root: .\nsubsets: {base: [..]}", "class '..': expected the name of one folder"),
        ("root: .\nsubsets: {base: {folder: none}}", "expected class folders there"),
        ("root: .\nsubsets: {base: {folder: ../..}}", "'../..' is not a plain relative path"),
        ("root: .\nsubsets: {base: {folder: .}}", "has no class folders"),
        ("root: .\nsubsets: {base: {folder: ., clases: [a]}}", "did you mean 'classes'"),
        ("root: .\nsubsets: {base: [a, 1]}", "subsets.base[1]: got 1; expected a class name"),
        ("root: .\nsubsets: {base: [a, a]}", "subsets.base[1]: class 'a' is there twice"),
        ("subsets: {base: {csv: none.csv}}", "none.csv; expected a CSV with the columns"),
        ("subsets: {base: {csv: ../x.csv}}", "subsets.base.csv: '../x.csv' is not a plain"),
        ("subsets: {base: {csv: x.csv, root: y}}", "subsets.base: unknown key 'root'"),
        (_GENERATED + "subsets: {base: {a: [x]}}", "the clips are generated; expected a list"),
        ("generator: motions\nsubsets: {base: [a]}", "generator: got 'motions'"),
        ("generator: {seed: 1}\nsubsets: {base: [a]}", "generator.name: got None"),
        (
            "generator: {name: m, clip: 1}\nsubsets: {base: [a]}",
            "unknown key 'clip'; did you mean 'clips'",
        ),
        (
            "generator: {name: motionz}\nsubsets: {base: [a]}",
            "unknown generator 'motionz'; did you",
        ),
        (
            "generator: {name: motion-world}\nsubsets: {val: [claps, raises-arms]}",
            "subsets.val: the generator 'motion-world' has no class 'raises-arms'; did you mean "
            "'raises-both-arms'",
        ),
        (
            f"{_GENERATED}subsets: {{base: [qqq, grows]}}",
            "has no class 'qqq'. `fewshot-i2v episodes show motions --all-classes` lists its",
        ),
        (
            "generator: {name: shapes, size: 33}\nsubsets: {base: [a]}",
            "generator.size: got 33; exp",
        ),
        ("generator: {name: m, fps: 0}\nsubsets: {base: [a]}", "generator.fps: got 0"),
        ("generator: {name: m, size: 6.5}\nsubsets: {base: [a]}", "generator.size: got 6.5"),
        ("generator: {name: m, seed: -1}\nsubsets: {base: [a]}", "generator.seed: got -1"),
        ("generator: {name: ' '}\nsubsets: {base: [a]}", "generator.name: got ' '"),
        (
            f"generator: {{name: m, clips: {10**30}}}\nsubsets: {{base: [a]}}",
            f"generator.clips: got {10**30}; expected a whole number from 1 to 100,000",
        ),
    ],
)
def test_each_problem_is_named(tmp_path: Path, text: str, words: str) -> None:
    assert words in problems(tmp_path, text)


def test_a_name_is_required(tmp_path: Path) -> None:
    text = "subsets: {base: {a: [x]}}"
    assert problems(tmp_path, text, named=False) == "name: missing; expected the split's name"
    assert "name: empty name" in problems(tmp_path, text + "\nname: ' '", named=False)


def test_a_file_that_is_no_mapping(tmp_path: Path) -> None:
    assert "expected the keys name, version" in problems(tmp_path, "- a", named=False)
    assert "found 'None'" in problems(tmp_path, "", named=False)


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    text = "version: x\ngroup: '('\nsubsets: {base: {a: [/x, ../y]}, val: {a: []}}\nlicense: y"
    message = problems(tmp_path, text)
    assert message.startswith("7 problems\n")
    for key in ("split: unknown key 'license'", "group:", "version:", "'/x'", "'../y'", "no clips"):
        assert key in message


def test_many_problems_are_cut_short(tmp_path: Path) -> None:
    clips = ", ".join(f"/c{i}" for i in range(500))
    message = problems(tmp_path, f"subsets: {{base: {{a: [{clips}]}}}}")
    assert message.startswith("500 problems\n")
    assert message.endswith("... and 480 more")
    assert message.count("\n") == 21


def test_a_class_folder_without_videos(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/readme.txt").touch()
    message = problems(tmp_path, "root: .\nsubsets: {base: [a]}")
    assert message == "subsets.base.a: no clips; expected at least one"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (b"", "x.csv:1: header []; expected path,class or path,class,group"),
        (b"file,label\na,b\n", "x.csv:1: header ['file', 'label']"),
        (b"path,class,path\na,b,c\n", "x.csv:1: header"),
        (b"path,class,groups\na,b,c\n", "x.csv:1: header"),
        (b"path,class\na,b\nc\n", "x.csv:3: not 2 fields as in the header"),
        (b"path,class\na,b,c\n", "x.csv:2: not 2 fields"),
        (b"path,class\n/a,b\n", "'/a' is not a plain relative path"),
        (b"path,class\na,\n", "class name: empty name"),
        (b'path,class\n"a,b\n', "cannot be read as a CSV in UTF-8"),
        (b"path,class\ncaf\xe9,b\n", "cannot be read as a CSV in UTF-8"),
        (b"path,class\na\x00b,c\n", "U+0000"),
    ],
)
def test_csv_problems_name_file_and_line(tmp_path: Path, table: bytes, words: str) -> None:
    (tmp_path / "x.csv").write_bytes(table)
    assert words in problems(tmp_path, "subsets: {base: {csv: x.csv}}")
