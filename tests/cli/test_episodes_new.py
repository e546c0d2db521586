"""`fewshot-i2v episodes new`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from fewshot_i2v.data.episodes.sampler import EpisodeSampler
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.evaluation.row_expansion import expand_rows
from tests.cli.conftest import FakeEvaluation, Invoke
from tests.data.splits.folders import touch

CLASSES = ("clap", "jump", "nod", "point", "sit", "wave")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "my clips; $HOME"
    for name in CLASSES:
        touch(folder, *(f"{name}/{i:02d}_p{i % 3}.mp4" for i in range(10)))
    return folder


def test_class_folders_become_a_split_and_the_next_commands_are_said(
    invoke: Invoke, tmp_path: Path, root: Path
) -> None:
    out = tmp_path / "mine.yaml"
    result = invoke("episodes", "new", str(out), "--root", str(root))
    assert result.exit_code == 0
    assert "--disjoint-groups" not in result.stderr
    lines = result.stdout.splitlines() + result.stderr.partition("\nnext: ")[2].splitlines()
    assert lines[0] == f"{out}: split 'mine'"
    assert lines[1].split()[:5] == ["novel", "6", "classes", "60", "clips"]
    assert "smallest class: clap, 10 clips" in lines[1]
    assert shlex.split(lines[2])[1:] == ["episodes", "check", str(out), "--root", str(root)]
    evaluate, flags = ["fewshot-i2v", "evaluate"], ["--split", str(out), "--root", str(root)]
    assert shlex.split(lines[3]) == [*evaluate, "readouts", *flags]
    assert shlex.split(lines[4]) == [*evaluate, *flags]
    assert load_split(out, root=root).classes("novel") == CLASSES


@pytest.mark.parametrize(
    ("classes", "clips", "options"),
    [
        (6, 10, []),
        (3, 10, ["--way", "3"]),
        (6, 6, []),
        (6, 5, ["--query", "4"]),
        (6, 2, ["--query", "1"]),
    ],
)
def test_the_evaluation_that_is_proposed_can_be_drawn(
    invoke: Invoke,
    evaluation: FakeEvaluation,
    tmp_path: Path,
    classes: int,
    clips: int,
    options: list[str],
) -> None:
    for c in range(classes):
        touch(tmp_path / "clips", *(f"c{c}/{i}.mp4" for i in range(clips)))
    out = tmp_path / "x.yaml"
    result = invoke("episodes", "new", str(out), "--root", str(tmp_path / "clips"), "--json")
    _check, readouts, adapters = map(shlex.split, json.loads(result.stdout)["next"])
    assert readouts == [*adapters[:2], "readouts", *adapters[2:]]
    for proposed in (readouts, adapters):
        assert proposed[len(proposed) - len(options) :] == options
        _assert_it_can_be_drawn(invoke, evaluation, proposed, out, min(5, classes))


def _assert_it_can_be_drawn(
    invoke: Invoke, evaluation: FakeEvaluation, proposed: list[str], split: Path, way: int
) -> None:
    assert invoke(*proposed[1:], "--dry-run").exit_code == 0
    config = evaluation.config
    assert config is not None
    for shot in {row.shot for row in expand_rows(config)}:
        sampler = EpisodeSampler(
            load_split(split, root=split.parent / "clips"),
            seed=0,
            way=config.way,
            shot=shot,
            query=config.query,
            subset=config.subset,
        )
        assert len(sampler[0].classes) == way


def test_with_groups_their_use_is_said(invoke: Invoke, tmp_path: Path, root: Path) -> None:
    given = ("--root", str(root), "--group", r"_(p\d)")
    result = invoke("episodes", "new", str(tmp_path / "mine.yaml"), *given)
    assert "18 groups" in result.stdout
    assert result.stderr.endswith("share no group\n  --disjoint-groups\n")


def test_how_to_leave_out_the_root_is_said(
    invoke: Invoke, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("episodes", "new", "mine.yaml", "--root", str(root))
    note = "and to leave out --root on this machine, add to mine.yaml\n  "
    line = result.stderr.partition(note)[2].splitlines()[0]
    out = tmp_path / "mine.yaml"
    assert load_split(out).root is None
    with out.open("a") as file:
        file.write(f"{line}\n")
    split = load_split(out)
    assert split.clip_path(next(iter(split.clip_names()))).is_file()


@pytest.mark.parametrize(
    ("classes", "clips", "words"),
    [(1, 10, "novel has one class; episodes need two"), (3, 1, "class 'c0' has one clip")],
)
def test_what_cannot_be_evaluated_is_written_and_said(
    invoke: Invoke, tmp_path: Path, classes: int, clips: int, words: str
) -> None:
    for c in range(classes):
        touch(tmp_path / "clips", *(f"c{c}/{i}.mp4" for i in range(clips)))
    out = tmp_path / "x.yaml"
    result = invoke("episodes", "new", str(out), "--root", str(tmp_path / "clips"))
    assert result.exit_code == 0
    assert f"note: {words}" in result.stderr
    assert "fewshot-i2v evaluate" not in result.stdout
    assert out.is_file()


def test_shares_names_groups_and_texts(invoke: Invoke, tmp_path: Path, root: Path) -> None:
    out, names = tmp_path / "mine.yaml", tmp_path / "val.txt"
    names.write_text("sit\n\nnod\n")
    result = invoke(
        *("episodes", "new", str(out), "--root", str(root), "--seed", "3", "--name", "hands"),
        *("--base", "0.5", "--val-classes", str(names), "--licence", "ours"),
        *("--group", r"_(p\d)", "--group-scope", "global"),
    )
    assert result.exit_code == 0, result.output
    split = load_split(out)
    assert {s: len(split.classes(s)) for s in split.subsets} == {"base": 3, "val": 2, "novel": 1}
    assert split.classes("val") == ("nod", "sit")
    assert (split.name, split.licence, split.group_scope) == ("hands", "ours", "global")
    assert {clip.group for clip in split.clips("val", "sit")} == {"p0", "p1", "p2"}
    assert "3 groups" in result.stdout
    head = " ".join(line.lstrip("# ") for line in out.read_text().splitlines()[:4])
    assert "class folders with --base 0.5 --val-classes val.txt --seed 3. Change" in head


def test_classes_that_are_left_over_and_missing_files_are_said(
    invoke: Invoke, tmp_path: Path, root: Path
) -> None:
    table, out = tmp_path / "t.csv", tmp_path / "mine.yaml"
    rows = [f"{root / name}/00_p0.mp4,{name}" for name in CLASSES]
    table.write_text("\n".join(["video,class", *rows, "none/a.mp4,wave"]))
    result = invoke(
        *("episodes", "new", str(out), "--csv", str(table), "--root", str(root)),
        *("--columns", "path=video", "--base-classes", "wave,sit", "--novel", "2"),
    )
    assert result.exit_code == 0, result.output
    assert "note: 2 classes are in no subset: " in result.stderr
    assert f"note: 1 of 5 clips are no files in {root}: none/a.mp4." in result.stderr
    assert load_split(out).clips("base", "wave")[1].name == "wave/00_p0.mp4"


def test_an_all_way_split_of_two_annotation_files(invoke: Invoke, tmp_path: Path) -> None:
    train, test, out = (tmp_path / name for name in ("train.txt", "test.txt", "x.yaml"))
    (tmp_path / "names.txt").write_text("wave\nsit\n")
    train.write_text("".join(f"{i}.mp4 {i % 2}\n" for i in range(6)))
    test.write_text("".join(f"t{i}.mp4 {i % 2}\n" for i in range(4)))
    result = invoke(
        *("episodes", "new", str(out), "--annotations", str(train), "--test-annotations"),
        *(str(test), "--labels", str(tmp_path / "names.txt")),
    )
    assert result.exit_code == 0, result.output
    split = load_split(out)
    assert {s: split.classes(s) for s in split.subsets} == dict.fromkeys(
        ("train", "test"), ("sit", "wave")
    )
    assert split.class_ids == {"wave": "0", "sit": "1"}
    assert "--root CLIPS --subset test --way all --query all --shot 2" in result.stderr


def test_a_file_that_is_there_needs_force(invoke: Invoke, tmp_path: Path, root: Path) -> None:
    out = tmp_path / "mine.yaml"
    out.write_text("precious")
    given = ("episodes", "new", str(out), "--root", str(root))
    result = invoke(*given)
    assert result.exit_code == 2
    assert "is already there; give another name, or --force to replace it" in result.stderr
    assert out.read_text() == "precious"
    assert invoke(*given, "--force").exit_code == 0
    assert load_split(out, root=root).name == "mine"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "the source of the clips is missing; expected --root FOLDER"),
        (("--csv", "a", "--annotations", "b"), "--csv and --annotations: expected one of them"),
        (("--root", ".", "--columns", "path=a"), "--columns: goes with --csv"),
        (("--root", ".", "--labels", "a"), "--labels: goes with --annotations"),
        (("--csv", "a", "--test-annotations", "b"), "--test-annotations: goes with --annotations"),
        (("--csv", "a", "--columns", "path"), "--columns: got 'path'; expected KEY=NAME"),
        (("--csv", "a", "--columns", "file=x"), "unknown key of --columns 'file'"),
        (
            ("--csv", "a", "--columns", "path=x,path=y"),
            "--columns: path is set twice; give",
        ),
        (("--csv", "none.csv"), "none.csv: no such file"),
        (("--root", "none"), "--root none: no such folder; expected"),
        (
            ("--csv", "TABLE", "--root", "none"),
            "--root none: no such folder; expected the folder of the clips",
        ),
        (("--root", "ROOT", "--base", "many"), "--base: got 'many'; expected a count such as 5"),
        (("--root", "ROOT", "--base", "-1"), "--base: got '-1'"),
        (("--root", "ROOT", "--base", "6"), "novel: no class is left of 6"),
        (("--root", "ROOT", "--base", "1", "--base-classes", "sit"), "expected one of them"),
        (("--root", "ROOT", "--base-classes", ","), "expected names of classes"),
        (("--root", "ROOT", "--base-classes", "sitt,nod"), "did you mean 'sit'"),
        (("--root", "ROOT", "--group", "("), "--group: '(' is not a regular expression"),
        (("--root", "ROOT", "--group", "(x)"), "10 of 10 names do not match the `group` pattern"),
        (("--root", "ROOT", "--all-way"), "expected the folders train and test"),
        (("--root", "ROOT", "--seed", "-1"), "seed: got -1"),
    ],
)
def test_wrong_use_writes_nothing(
    invoke: Invoke, tmp_path: Path, root: Path, options: tuple[str, ...], words: str
) -> None:
    out = tmp_path / "mine.yaml"
    (tmp_path / "t.csv").write_text("path,class\na,b\n")
    places = {"ROOT": str(root), "TABLE": str(tmp_path / "t.csv")}
    given = [places.get(option, option) for option in options]
    result = invoke("episodes", "new", str(out), *given)
    message = result.stderr + str(result.exception or "")
    assert result.exit_code == 2, result.output
    assert words in message
    assert not out.exists()


@pytest.mark.shared
def test_two_commands_from_real_clips_to_a_plan(
    invoke: Invoke, shared: Path, tmp_path: Path
) -> None:
    clips, out = shared / "clips" / "egogestar", tmp_path / "ego.yaml"
    made = invoke(
        *("episodes", "new", str(out), "--root", str(clips), "--group-scope", "global"),
        *("--group", r"testvideo_[a-z]+_(\d+)\.mp4"),
    )
    assert made.exit_code == 0, made.output
    assert "10 classes  140 clips" in made.stdout
    shipped = load_split("egogestar")
    listed = {clip for row in shipped.subsets.values() for v in row.values() for clip in v}
    split = load_split(out, root=clips)
    assert {clip for row in split.subsets["novel"].values() for clip in row} == listed
