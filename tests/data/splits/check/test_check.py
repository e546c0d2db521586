"""Every problem of a split's clips is found in one go, and again without reading everything."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from fewshot_i2v.data.splits.check import check as clip_check
from fewshot_i2v.data.splits.check.check import check as check_clips
from fewshot_i2v.data.splits.check.duplicates import DigestCache, find_duplicates
from fewshot_i2v.data.splits.split import Clip, FindMode, Generator, Split
from fewshot_i2v.errors import ConfigError, SplitError
from fewshot_i2v.utils.limits import ClipLimits
from tests.data.splits.check.samples import check, kinds, listed
from tests.data.video.made_videos import numbered_picture


def test_every_kind_of_problem(root: Path, three: list[Path], tmp_path: Path) -> None:
    shutil.copy(three[0], root / "run/d.mp4")
    for extension in (".avi", ".mkv"):
        shutil.copy(three[0], root / f"run/e{extension}")
    split = listed(root, base={"wave": "abcd"}, novel={"run": "abde"})
    found = check(split, tmp_path / "cache")
    assert kinds(found) == {
        "wave/a": ["duplicate"],
        "wave/c": ["empty"],
        "wave/d": ["missing"],
        "run/a": ["short"],
        "run/b": ["unreadable"],
        "run/d": ["duplicate"],
        "run/e": ["ambiguous"],
    }
    assert "has 5 frames, fewer than 8" in found.problem_by_clip["run/a"].reason
    assert found.problem_by_clip["run/b"].reason.startswith(f"{root / 'run/b.mp4'} is ")
    assert (
        found.problem_by_clip["wave/a"].reason
        == "has the same bytes as 'run/d' (novel, class 'run')"
    )
    assert found.problem_by_clip["run/e"].others == (
        str(root / "run/e.avi"),
        str(root / "run/e.mkv"),
    )
    assert list(found.class_rows()) == [
        {
            **{"subset": "base", "class": "wave", "clips": 4, "fine": 1},
            "problems": {"missing": 1, "empty": 1, "duplicate": 1},
        },
        {
            **{"subset": "novel", "class": "run", "clips": 4, "fine": 0},
            "problems": {"ambiguous": 1, "unreadable": 1, "short": 1, "duplicate": 1},
        },
    ]
    facts = json.loads(json.dumps(found.to_dict()))
    assert (facts["clips"], facts["fine"], facts["counts"]["short"]) == (8, 1, 1)
    assert {problem["class"] for problem in facts["problems"]} == {"wave", "run"}


def test_nothing_is_wrong_with_good_clips(root: Path, tmp_path: Path) -> None:
    split = listed(root, base={"wave": "ab"})
    found = check(split, tmp_path / "cache")
    assert (found.problems, found.n_read, found.n_cached) == ((), 2, 0)
    assert {path.name for path in found.matches.extra} == {"a.mp4", "b.mp4", "c.mp4"}
    assert found.hint == ""


def test_the_number_of_frames_is_counted(three: list[Path]) -> None:
    assert [clip_check.count_frames(str(path))[0] for path in three] == [8, 9, 5]


def test_the_least_number_of_frames_is_chosen(root: Path, tmp_path: Path) -> None:
    split = listed(root, base={"wave": "ab"})
    assert kinds(check(split, tmp_path, frames=9)) == {"wave/a": ["short"]}
    assert kinds(check(split, tmp_path, frames=10)) == {"wave/a": ["short"], "wave/b": ["short"]}
    with pytest.raises(ConfigError, match="frames is 0"):
        check(split, tmp_path, frames=0)


def test_quick_reads_no_clip(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_check, "run_jobs", lambda *_: pytest.fail("a clip was read"))
    split = listed(root, base={"wave": "abc"}, novel={"run": "abz"})
    found = check(split, tmp_path, quick=True)
    assert kinds(found) == {"wave/c": ["empty"], "run/z": ["missing"]}
    assert (found.n_read, found.n_cached) == (0, 0)


def test_what_was_read_is_remembered(root: Path, three: list[Path], tmp_path: Path) -> None:
    split = listed(root, base={"wave": "ab"}, novel={"run": "ab"})
    first = check(split, tmp_path / "cache")
    again = check(split, tmp_path / "cache")
    assert (first.n_read, first.n_cached) == (4, 0)
    assert (again.n_read, again.n_cached) == (1, 3)  # what could not be read is tried again
    assert again.problems == first.problems
    shutil.copy(three[2], root / "wave/a.mp4")
    os.utime(root / "wave/a.mp4", (1, 1))
    changed = check(split, tmp_path / "cache")
    assert (changed.n_read, changed.n_cached) == (2, 2)
    assert "short" in kinds(changed)["wave/a"]


def test_clips_that_were_exchanged_in_place_are_read_again(
    root: Path, three: list[Path], tmp_path: Path
) -> None:
    split, clip = listed(root, base={"wave": "ab"}), root / "wave/b.mp4"
    check(split, tmp_path / "cache")
    before = clip.stat()
    clip.write_bytes(three[2].read_bytes().ljust(before.st_size, b"\0")[: before.st_size])
    os.utime(clip, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert check(split, tmp_path / "cache").n_read == 1
    again = check_clips(split, cache=tmp_path / "cache", workers=0, verify=True)
    assert (again.n_read, again.n_cached) == (2, 0)


def test_a_damaged_memory_counts_as_none(root: Path, tmp_path: Path) -> None:
    split = listed(root, base={"wave": "ab"})
    check(split, tmp_path / "cache")
    (file,) = (tmp_path / "cache/checks").iterdir()
    for text in ("", "[]", '{"files": {"x": 3}}', '{"files": {"x": [1, 2, 3, 4, 5, 6]}}'):
        file.write_text(text)
        assert check(split, tmp_path / "cache").n_read == 2
    assert check(split, tmp_path / "cache").n_cached == 2


def test_two_checks_at_a_time_lose_nothing(root: Path, tmp_path: Path) -> None:
    one, other = (DigestCache(tmp_path / "cache", root, "x") for _ in range(2))
    for memory, name in ((one, "wave/a.mp4"), (other, "wave/b.mp4")):
        memory.refresh(root / name)
        memory.update(root / name, frames=3)
        memory.save()
    both = DigestCache(tmp_path / "cache", root, "x")
    assert both.refresh(root / "wave/a.mp4").frames == both.refresh(root / "wave/b.mp4").frames == 3
    assert DigestCache(tmp_path / "cache", root, "y").refresh(root / "wave/a.mp4").frames is None


def test_a_memory_that_cannot_be_written_loses_nothing(root: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    found = check(listed(root, base={"wave": "abc"}), tmp_path / "cache")
    assert kinds(found) == {"wave/c": ["empty"]}
    assert "cannot be written: " in found.cache_error
    assert found.to_dict()["unkept"] == found.cache_error


def test_what_was_found_is_kept_when_a_check_is_stopped(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = listed(root, base={"wave": "ab"})
    real, calls = clip_check.count_frames, 0

    def stopped(path: str, *sizes: int) -> tuple[int, str]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return real(path, *sizes)

    # a job names its function, which is then looked up in its module
    stopped.__module__, stopped.__name__ = clip_check.__name__, "count_frames"
    monkeypatch.setattr(clip_check, "count_frames", stopped)
    with pytest.raises(KeyboardInterrupt):
        check(split, tmp_path / "cache")
    monkeypatch.undo()
    assert check(split, tmp_path / "cache").n_cached == 1


def test_only_files_of_one_size_and_sample_are_read_whole(tmp_path: Path) -> None:
    contents = {
        "a": b"x" * 50_000,
        "b": b"x" * 50_000,
        "c": b"x" * 9_000 + b"y" + b"x" * 40_999,  # differs where no sample is taken
        "d": b"y" * 50_000,
        "e": b"x" * 49_999,
        "f": b"",
        "g": b"",
    }
    files = []
    for name, content in contents.items():
        files.append(tmp_path / name)
        files[-1].write_bytes(content)
    memory = DigestCache(tmp_path / "cache", tmp_path, "")
    for file in files:
        memory.refresh(file)
    assert find_duplicates(files, memory) == [[tmp_path / "a", tmp_path / "b"]]
    whole = {file.name for file in files if memory.entry(file).digest}
    sampled = {file.name for file in files if memory.entry(file).sample}
    assert (whole, sampled) == ({"a", "b", "c"}, {"a", "b", "c", "d"})


def test_of_copies_in_one_class_the_first_is_kept(
    root: Path, three: list[Path], tmp_path: Path
) -> None:
    for name in ("x", "y"):
        shutil.copy(three[0], root / f"wave/{name}.mp4")
    found = check(listed(root, base={"wave": "abxy"}), tmp_path, quick=True)
    assert kinds(found) == {"wave/x": ["duplicate"], "wave/y": ["duplicate"]}
    assert found.problem_by_clip["wave/x"].reason == "has the same bytes as 'wave/a' and 1 more"


def test_names_that_are_paths(root: Path, tmp_path: Path) -> None:
    names = ["a.mp4", "b.avi", "z.mp4"]
    found = check(listed(root, "path", base={"wave": names}), tmp_path, quick=True)
    assert kinds(found) == {"wave/b.avi": ["missing"], "wave/z.mp4": ["missing"]}
    assert found.problem_by_clip["wave/z.mp4"].reason == f"no file {root / 'wave/z.mp4'}"
    assert "1 of the missing clips would be there with `find: name`" in found.hint
    assert {path.name for path in found.matches.extra} == {"a.mp4", "b.mp4", "c.mp4"}


def test_a_path_may_lead_through_a_link_where_that_is_allowed(root: Path, tmp_path: Path) -> None:
    (root / "jump").symlink_to(root.parent / "elsewhere", target_is_directory=True)
    (root.parent / "elsewhere").mkdir()
    shutil.copy(root / "wave/a.mp4", root.parent / "elsewhere/q.mp4")
    split = listed(root, "path", base={"jump": ["q.mp4"], "wave": ["b.mp4"]})
    refused = check(split, tmp_path, quick=True)
    assert kinds(refused) == {"jump/q.mp4": ["missing"]}
    assert "is a link out of" in refused.problems[0].reason
    found = check(dataclasses.replace(split, links="follow"), tmp_path, quick=True)
    assert found.problems == ()
    assert found.matches.refused == {}
    by_name = check(listed(root, base={"jump": ["q"], "wave": ["b"]}), tmp_path, quick=True)
    assert kinds(by_name) == {"jump/q": ["missing"]}
    assert "leads out of the root" in by_name.matches.refused[root / "jump"]


@pytest.mark.parametrize("find", ["name", "path"])
def test_the_wrong_folder_is_guessed(find: FindMode, root: Path, tmp_path: Path) -> None:
    found = check(listed(root, find, base={"jump": ["q.mp4"]}), tmp_path, quick=True)
    assert "there is run, wave: is it the right folder?" in found.hint


def test_a_folder_in_place_of_a_clip(root: Path, tmp_path: Path) -> None:
    (root / "wave/d.mp4").mkdir()
    found = check(listed(root, "path", base={"wave": ["d.mp4"]}), tmp_path)
    assert found.problem_by_clip["wave/d.mp4"].reason.endswith("such as img_00001.jpg; it is empty")


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (listed(None, base={"wave": "a"}), "give one with --root FOLDER"),
        (Split("made", {}, generator=Generator("motions")), "its clips are generated"),
        (listed(Path("nowhere"), base={"wave": "a"}), "nowhere: cannot be listed"),
    ],
)
def test_a_split_without_files(split: Split, message: str, tmp_path: Path) -> None:
    with pytest.raises(SplitError, match=message):
        check(split, tmp_path)


@pytest.mark.shared
def test_awkward_real_files(shared: Path, tmp_path: Path) -> None:
    files = [path for path in (shared / "nasty").iterdir() if path.suffix not in (".md", ".mp3")]
    clips = tuple(Clip(path.name) for path in files)
    split = Split("nasty", {"base": {"all": clips}}, root=shared / "nasty")
    found = check_clips(
        split, frames=3, cache=tmp_path, workers=2, limits=ClipLimits(seconds=20), progress=True
    )
    assert {problem.clip: problem.kind for problem in found.problems} == {
        "decord_corrupted.mp4": "unreadable",
        "derived_truncated_50pct_vp9.webm": "unreadable",
        "derived_zero_bytes.mp4": "empty",
        "workout_lfs_pointer_martin-squats.mp4": "unreadable",
    }
    assert "git lfs pull" in found.problem_by_clip["workout_lfs_pointer_martin-squats.mp4"].reason


def test_folders_of_frames(tmp_path: Path) -> None:
    for name, first in {"a": 0, "b": 10, "c": 0, "d": 30, "e": 40}.items():
        folder = tmp_path / "clips/wave" / name
        folder.mkdir(parents=True)
        for i in range(8):
            Image.fromarray(numbered_picture(first + i)).save(folder / f"{i:03d}.png")
    (tmp_path / "clips/wave/d/003.png").unlink()
    broken = tmp_path / "clips/wave/e/005.png"  # evaluate may not look at it
    broken.write_bytes(broken.read_bytes()[:-100])
    split = listed(tmp_path / "clips", "path", base={"wave": "abcde"})
    found = check(split, tmp_path / "cache")
    expected = {"wave/c": ["duplicate"], "wave/d": ["unreadable"], "wave/e": ["unreadable"]}
    assert kinds(found) == expected
    assert (
        "wave/d lacks 1 of 8 pictures from 000.png to 007.png: 3"
        in found.problem_by_clip["wave/d"].reason
    )
    assert "its picture 005.png is damaged" in found.problem_by_clip["wave/e"].reason
    assert (found.n_read, found.matches.extra) == (4, ())
    again = check(split, tmp_path / "cache")
    assert (again.n_cached, again.problems) == (3, found.problems)
    Image.fromarray(numbered_picture(99)).save(tmp_path / "clips/wave/a/000.png")
    os.utime(tmp_path / "clips/wave/a/000.png", (1, 1))
    changed = check(split, tmp_path / "cache")
    assert changed.n_cached == 2
    assert "wave/c" not in kinds(changed)
    assert kinds(check(split, tmp_path / "cache", frames=9))["wave/a"] == ["short"]


def test_pictures_that_are_links_out_of_the_root_are_refused(tmp_path: Path) -> None:
    for place in ("clips/wave/a", "elsewhere"):
        (tmp_path / place).mkdir(parents=True)
        Image.fromarray(numbered_picture(0)).save(tmp_path / place / "1.png")
    (tmp_path / "clips/wave/a/2.png").symlink_to(tmp_path / "elsewhere/1.png")
    finds: tuple[FindMode, ...] = ("path", "name")
    for find in finds:
        split = listed(tmp_path / "clips", find, base={"wave": "a"})
        with pytest.raises(SplitError, match=r"'wave/a' has with 2.png a link out of"):
            split.clip_path("wave/a")
        assert kinds(check(split, tmp_path / "cache", quick=True)) == {"wave/a": ["missing"]}
        assert dataclasses.replace(split, links="follow").clip_path("wave/a").is_dir()
