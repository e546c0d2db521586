"""`fewshot-i2v episodes check`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fewshot_i2v.data.splits.check import check as clip_check
from fewshot_i2v.data.video import clip_digest
from fewshot_i2v.utils import progress
from tests.cli.conftest import Invoke
from tests.data.video.made_videos import write_video

SPLIT = """
name: moves
find: name
subsets:
  base:
    wave: {folder: wave, clips: [a, b]}
  novel:
    run: {folder: run, clips: [a, b]}
"""


@pytest.fixture(scope="session")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four good clips and one that is none of the split's."""
    root = tmp_path_factory.mktemp("four")
    for i, name in enumerate(("wave/a", "wave/b", "run/a", "run/b", "other/z")):
        (root / name).parent.mkdir(exist_ok=True)
        write_video(root / f"{name}.mp4", "mpeg4", 8 + i, size=(32, 32))
    return root


@pytest.fixture
def arguments(four: Path, tmp_path: Path) -> list[str]:
    (tmp_path / "moves.yaml").write_text(SPLIT)
    shutil.copytree(four, tmp_path / "clips")
    return [str(tmp_path / "moves.yaml"), "--root", str(tmp_path / "clips"), "--workers", "1"]


def test_a_clean_split(
    invoke: Invoke, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # else only what takes a minute says how far it is
    monkeypatch.setattr(progress._LogLines, "seconds", 0.0)
    # what was written a moment ago is else read again
    monkeypatch.setattr(clip_digest, "_TICK", 0)
    done = invoke("episodes", "check", *arguments)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].endswith("clips: 4 clips of 2 classes")
    assert lines[2] == "1 video files are no clip of the split: other/z.mp4"
    assert lines[3] == "all 4 clips are there, differ, can be read and have 8+ frames"
    assert "read 4 of 4 clips, 100 %" in done.stderr
    assert done.stderr.splitlines()[-1] == "note: novel has one class; episodes need two or more"
    again = invoke("episodes", "check", *arguments)
    assert "4 files, 4 of them in an earlier check" in again.stdout
    assert "read: " not in again.stderr


def test_the_next_command_has_what_the_split_needs(
    invoke: Invoke, arguments: list[str], tmp_path: Path
) -> None:
    split, next_lines = "name: moves\nfind: name\nsubsets: {novel: {wave: [a, b], run: [%s]}}", []
    for clips in ("z", "run/a, run/b"):
        text = split.replace("a, b", "wave/a, wave/b") % clips
        (tmp_path / "moves.yaml").write_text(text)
        done = invoke("episodes", "check", *arguments)
        next_lines.append(done.stderr.splitlines()[-1])
    evaluation = f"next: fewshot-i2v evaluate --split {arguments[0]} --root {arguments[2]}"
    assert next_lines == [
        "note: class 'run' has one clip; episodes need one for support, one for query",
        f"{evaluation} --way 2 --query 1",
    ]


def test_problems_in_a_table_and_one_by_one(
    invoke: Invoke, arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / "clips/wave/a.mp4").unlink()
    (tmp_path / "clips/run/b.mp4").write_bytes(b"<html>not found</html>")
    done = invoke("episodes", "check", *arguments, "-q", "--frames", "10")
    assert done.exit_code == 1, done.output
    assert done.stderr == ""
    rows = [line.split() for line in done.stdout.splitlines()]
    table = rows.index(["subset", "class", "clips", "fine", "missing", "unreadable", "short"])
    assert rows[table + 1 : table + 4] == [
        ["base", "wave", "2", "0", "1", "1"],
        ["novel", "run", "2", "1", "1"],
        ["together", "4", "1", "1", "1", "1"],
    ]
    assert "3 clips have problems, 1 is fine" in done.stdout
    assert "  wave/a  no file of this name" in done.stdout
    assert "web page" in done.stdout


def test_quick_reads_nothing(
    invoke: Invoke, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_check, "run_jobs", lambda *_: pytest.fail("a clip was read"))
    done = invoke("episodes", "check", *arguments, "--quick")
    assert done.exit_code == 0
    assert "no clip was read (--quick)" in done.stdout
    assert "all 4 clips are there and differ" in done.stdout


def test_a_report_is_printed_where_it_cannot_be_remembered(
    invoke: Invoke, arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / "cache").touch()
    done = invoke("episodes", "check", *arguments, "--cache", str(tmp_path / "cache"))
    assert done.exit_code == 0, done.output
    assert "all 4 clips are there, differ" in done.stdout
    assert "note: the next check reads all again (--cache): " in done.stderr


def test_verify_reads_what_an_earlier_check_has_read(
    invoke: Invoke, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_digest, "_TICK", 0)
    cached = [*arguments, "--cache", str(tmp_path / "cache"), "--json"]
    facts = [
        json.loads(invoke("episodes", "check", *cached, *more).stdout)["read"]
        for more in ([], [], ["--verify"])
    ]
    assert facts == [4, 0, 4]


def test_json(invoke: Invoke, arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "clips/wave/a.mp4").unlink()
    done = invoke("episodes", "check", *arguments, "--quick", "--json")
    assert (done.exit_code, done.stderr) == (1, "")
    facts = json.loads(done.stdout)
    assert facts["counts"] == {"missing": 1}
    assert facts["problems"][0]["clip"] == "wave/a"
    assert facts["written"] is None


@pytest.mark.parametrize("as_json", [False, True])
def test_a_smaller_split_is_written(
    as_json: bool, invoke: Invoke, arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / "clips/wave/a.mp4").unlink()
    out = str(tmp_path / "smaller.yaml")
    asked = [*arguments, "--quick", "--allow-missing", out, *(["--json"] if as_json else [])]
    done = invoke("episodes", "check", *asked)
    assert done.exit_code == 0, done.output
    if as_json:
        written = json.loads(done.stdout)["written"]
        assert written["left_out"] == {"wave/a": "missing"}
        assert written["split"]["name"] == "moves-minus-1"
    else:
        assert f"{out}: moves-minus-1, 3 clips, digest " in done.stdout
    assert invoke("episodes", "check", out, *arguments[1:], "--quick").exit_code == 0
    again = invoke("episodes", "check", *asked)
    assert again.exit_code == 2
    assert "is already there" in again.stderr


def test_without_a_problem_no_split_is_written(
    invoke: Invoke, arguments: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "smaller.yaml"
    done = invoke("episodes", "check", *arguments, "--quick", "--allow-missing", str(out))
    assert done.exit_code == 0
    assert "was not written, use the split itself" in done.stderr
    assert not out.exists()


def test_classes_are_left_out_when_asked(
    invoke: Invoke, arguments: list[str], tmp_path: Path
) -> None:
    text = SPLIT.replace("  novel:", "    jump: {folder: jump, clips: [a, b]}\n  novel:")
    Path(arguments[0]).write_text(text)
    asked = [*arguments, "--quick", "--allow-missing", str(tmp_path / "smaller.yaml")]
    assert "no clip would be left of 'jump'" in invoke("episodes", "check", *asked).stderr
    done = invoke("episodes", "check", *asked, "--drop-classes")
    assert done.exit_code == 0
    assert "classes left out: jump" in done.stdout


def test_long_lists_are_cut(invoke: Invoke, arguments: list[str], tmp_path: Path) -> None:
    clips = ", ".join(f"x{i}" for i in range(30))
    Path(arguments[0]).write_text(SPLIT.replace("[a, b]}\n  novel", f"[{clips}]}}\n  novel"))
    for i in range(7):
        (tmp_path / f"clips/link{i}.mp4").symlink_to("/nowhere")
    done = invoke("episodes", "check", *arguments, "--quick")
    assert "... and 10 more (--all names them)" in done.stdout
    assert "not used: 2 more (--all names them)" in done.stderr
    everything = invoke("episodes", "check", *arguments, "--quick", "--all")
    assert everything.stdout.count("no file of this name") == 30
    assert everything.stderr.count("not used: ") == 7


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--drop-classes"], "goes with --allow-missing"),
        (["--allow-missing", "smaller.txt"], "ends in .yaml"),
        (["--root", "nowhere"], "no folder nowhere"),
    ],
)
def test_wrong_use(more: list[str], message: str, invoke: Invoke, arguments: list[str]) -> None:
    done = invoke("episodes", "check", *arguments, *more)
    assert done.exit_code == 2
    assert message in done.stderr


def test_an_interrupted_check_says_how_to_go_on(
    invoke: Invoke, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(clip_check, "run_jobs", interrupted)
    done = invoke("episodes", "check", *arguments)
    assert done.exit_code == 130
    assert "clips checked so far are in " in done.stderr


def test_limits_can_be_set(invoke: Invoke, arguments: list[str]) -> None:
    done = invoke("episodes", "check", *arguments, "--max-frames", "10")
    assert done.exit_code == 1
    assert "run/b" in done.stdout
    assert "has more than 10 frames; --max-frames raises the limit" in done.stdout
    wrong = invoke("episodes", "check", *arguments, "--max-memory", "-1")
    assert wrong.exit_code == 2
    assert "memory: got -1.0" in wrong.stderr


def test_gaps_in_time_are_noted(invoke: Invoke, arguments: list[str], tmp_path: Path) -> None:
    times = [40 * n + 3000 * (n > 5) for n in range(12)]
    stream = write_video(tmp_path / "a.ts", "libx264", 12, times=times, options={"bf": "0"})
    stream.replace(tmp_path / "clips/wave/a.mp4")
    for _ in range(2):  # the second time from memory
        done = invoke("episodes", "check", *arguments)
        assert done.exit_code == 0, done.output
        assert "note: wave/a: 1 gap in time, the longest 3.04 s at 0.20 s" in done.stdout
