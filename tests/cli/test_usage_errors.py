"""What is said of wrong arguments: one line, with the value, what was expected, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Invoke

SEE_EVALUATE = "See `fewshot-i2v evaluate --help`"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "evaluate --adaptr aim",
            f"unknown option '--adaptr'; did you mean '--adapter'? {SEE_EVALUATE}",
        ),
        (
            "evaluate --sampling disjont",
            "--sampling: got 'disjont'; did you mean 'disjoint'? expected independent or disjoint. "
            f"{SEE_EVALUATE}",
        ),
        ("evaluate --frames x", f"--frames: got 'x'; expected a whole number. {SEE_EVALUATE}"),
        (
            "evaluate --mean 1,2",
            f"--mean: got '1,2'; expected one number, or three with commas between. {SEE_EVALUATE}",
        ),
        ("evaluate --way", "--way: requires an argument"),
        ("evaluate --retry", "unknown option '--retry'; did you mean '--retry-failed' or"),
        ("evaluate a b", f"unexpected 'b'; expected [CONFIG] and flags. {SEE_EVALUATE}"),
        ("init a.yaml b c", "unexpected 'b c'; expected FILE and flags. See `fewshot-i2v init"),
        ("doctor x", "unexpected 'x'; expected flags alone. See `fewshot-i2v doctor"),
        (
            "plan --power 3",
            "--power: got 3.0; expected a number, 0<x<1. See `fewshot-i2v plan --help`",
        ),
        (
            "list adaptrs",
            "KIND: got 'adaptrs'; did you mean 'adapters'? expected adapters, heads, splits, "
            "encoders, configs or starts. See `fewshot-i2v list --help`",
        ),
        (
            "fit CLIPS",
            "--out: missing, and has no default; expected: file of the model, .safetensors. "
            "See `fewshot-i2v fit --help`",
        ),
        (
            "export . --episode 0",
            "--out: missing, and has no default; expected: ",
        ),
        (
            "episodes freeze motions",
            "OUT: missing; expected SPLIT OUT and flags. See `fewshot-i2v episodes freeze --help`",
        ),
        (
            "compare",
            "RUN: missing; expected a run folder, the --output of an evaluation, such as "
            "runs/quickstart. See `fewshot-i2v compare --help`",
        ),
        ("evaluate --episodes --until 1", "--episodes: got the option --until where a value is"),
        (
            "show nowhere",
            "RUN: nowhere: no such folder; expected the --output of an evaluation. "
            "See `fewshot-i2v show --help`",
        ),
        ("evaluate --way 1", "way: got 1 (from a flag or override); expected a whole number"),
    ],
)
def test_a_wrong_argument_is_one_line_in_one_style(
    invoke: Invoke, line: str, expected: str
) -> None:
    done = invoke(*line.split())
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {expected}")
    assert done.stderr.count("\n") == 1


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("clips/run/a.mp4", "clips/jump/b.mp4", "runs/mine/row/run.json", "a.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("starts/adapter.json", "yaml/own.yaml", "empty/readme.txt", "e.jsonl.gz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "split.yaml").write_text("name: x\nsubsets: {novel: {a: [a.mp4]}}\n")
    (tmp_path / "list.yaml").write_text("- 1\n")
    return tmp_path


NEW_SPLIT = (
    "  fewshot-i2v episodes new clips.yaml --root clips\n"
    "  fewshot-i2v evaluate --split clips.yaml --root clips\n"
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("show a.mp4", "RUN: 'a.mp4' is a file; expected a folder. See `fewshot-i2v show"),
        ("init clips", "FILE: 'clips' is a folder; expected a file. See `fewshot-i2v init"),
        ("evaluate yaml/own.yaml", "yaml/own.yaml: is empty; expected a mapping of keys. Write"),
        ("evaluate --output a.mp4 -q", "output a.mp4: a.mp4 is a file; expected a folder, which"),
        ("evaluate --output a.mp4/x -q --dry-run", "output a.mp4/x: a.mp4 is a file; expected a"),
    ],
)
def test_files_and_folders_are_not_taken_for_each_other(
    invoke: Invoke, folder: Path, line: str, expected: str
) -> None:
    assert folder.is_dir()
    done = invoke(*line.split())
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {expected}")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("evaluate clips", f"clips: is a folder of 2 folders (jump, run).*{NEW_SPLIT}"),
        ("evaluate --split clips -q", f"clips: is a folder of 2 folders (jump, run).*{NEW_SPLIT}"),
        (
            "train clips",
            "*  fewshot-i2v episodes new clips.yaml --root clips --base 0.5\n"
            "  fewshot-i2v train --split clips.yaml --root clips --adapter aim --val-subset off\n",
        ),
        ("train split.yaml", "*`fewshot-i2v train --split split.yaml --root CLIPS --adapter aim "),
        ("train e.jsonl.gz", "*`fewshot-i2v evaluate --trials e.jsonl.gz`"),
        ("evaluate runs", "runs: is a folder of results; `fewshot-i2v show runs` shows"),
        ("evaluate starts", "*use it with `fewshot-i2v evaluate --start starts`"),
        ("evaluate yaml", "yaml: is a folder; *`fewshot-i2v evaluate yaml/own.yaml`"),
        ("evaluate empty", "empty: is a folder without class folders; *episodes new"),
        (
            "evaluate split.yaml",
            "*is a split; *`fewshot-i2v evaluate --split split.yaml --root CLIPS`",
        ),
        ("evaluate a.mp4", "a.mp4: is a clip; *fewshot-i2v episodes new mine.yaml --root CLIPS\n"),
        ("evaluate e.jsonl.gz", "e.jsonl.gz: is a file of episodes; *evaluate --trials e.jsonl.gz"),
        (
            "evaluate list.yaml",
            "list.yaml: got list; expected a mapping of keys. *fewshot-i2v init",
        ),
        ("evaluate splt.yaml", "splt.yaml: no such file; did you mean 'split.yaml'"),
        ("evaluate quikstart", "unknown config 'quikstart'; did you mean 'quickstart'?"),
    ],
)
def test_what_is_no_configuration_is_named_with_the_command_it_is_for(
    invoke: Invoke, folder: Path, line: str, expected: str
) -> None:
    assert folder.is_dir()
    done = invoke(*line.split())
    assert (done.exit_code, done.stdout) == (2, "")
    position = 0
    for part in expected.split("*"):
        found = done.stderr.find(part, position)
        assert found >= position, (part, done.stderr)
        position = found + len(part)


def test_a_generated_split_makes_no_folder_out_of_a_mistyped_root(
    invoke: Invoke, folder: Path
) -> None:
    done = invoke("evaluate", "--split", "motions", "--root", "nowhere", "--episodes", "1")
    assert done.exit_code == 2
    assert "no folder nowhere; split 'motions' generates its clips" in done.stderr
    assert not (folder / "nowhere").exists()


@pytest.mark.parametrize(
    ("line", "said", "unsaid"),
    [
        ("evaluate --split splits.yaml", "did you mean 'split.yaml' or", "init"),
        ("evaluate nosuch", "known: all-methods, egogestar-adapters", "train/"),
        ("train train/nosuch", "train/motions", "egogestar-sweep"),
    ],
)
def test_unknown_names_are_answered_with_what_fits_the_command(
    invoke: Invoke, folder: Path, line: str, said: str, unsaid: str
) -> None:
    done = invoke(*line.split())
    assert done.exit_code == 2
    error = done.stderr[done.stderr.index("error: ") :]
    assert said in error
    assert unsaid not in error
