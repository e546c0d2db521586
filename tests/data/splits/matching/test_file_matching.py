"""Which file is which clip: whatever the layout, and never another clip's file."""

from __future__ import annotations

import os
import time
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewshot_i2v.data.splits.matching.file_matching import FileMatches, match_files
from fewshot_i2v.data.splits.matching.file_tree import walk_videos
from fewshot_i2v.errors import SplitError

ID = "abcdefghijk"
CLIPS = ("brush_hair/April_09", "brush_hair/Brushing_my_hair", "hand_stand/v_HandStand_g01")


def made(root: Path, *files: str) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def found(matches: FileMatches, root: Path) -> dict[str, str]:
    return {name: path.relative_to(root).as_posix() for name, path in matches.files.items()}


def matched(
    root: Path, names: Sequence[str], *files: str, how: Literal["name", "youtube"] = "name"
) -> tuple[dict[str, str], FileMatches]:
    matches = match_files(names, made(root, *files), how)
    assert {*matches.files, *matches.missing, *matches.ambiguous} == set(names)
    assert len(matches.files) + len(matches.missing) + len(matches.ambiguous) == len(names)
    assert len(set(matches.files.values())) == len(matches.files)
    return found(matches, root), matches


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param("{folder}/{name}.avi", id="class-folders"),
        pytest.param("{name}.webm", id="flat"),
        pytest.param("videos/train/{name}.mp4", id="flat-deeper"),
        pytest.param("hmdb51_org/videos/{folder}/{name}.AVI", id="deeper"),
        pytest.param("{folder}/train/{name}.mkv", id="subset-below-class"),
        pytest.param("{spaced}/{name}.avi", id="spaces-in-folders"),
        pytest.param("{camel}/{name}.avi", id="folders-without-underscores"),
        pytest.param("{folder}/{upper}.avi", id="other-case"),
        pytest.param("{folder}/{spaced_name}.avi", id="spaces-in-names"),
        pytest.param("{folder}/{name}.mp4.mkv", id="two-extensions"),
    ],
)
@pytest.mark.parametrize("listed", ["{}", "{}.avi"])
def test_usual_layouts(pattern: str, listed: str, tmp_path: Path) -> None:
    names = [listed.format(name) for name in CLIPS]
    expected = {}
    for clip in CLIPS:
        folder, name = clip.split("/")
        expected[listed.format(clip)] = pattern.format(
            folder=folder,
            name=name,
            spaced=folder.replace("_", " "),
            camel=folder.title().replace("_", ""),
            upper=name.upper(),
            spaced_name=name.replace("_", " "),
        )
    files, matches = matched(tmp_path, names, *expected.values(), "notes.txt", ".hidden/x.avi")
    assert files == expected
    assert not matches.extra


def test_names_without_a_folder(tmp_path: Path) -> None:
    files, matches = matched(tmp_path, ["7", "77"], "20bn/7.webm", "20bn/77.webm", "20bn/777.webm")
    assert files == {"7": "20bn/7.webm", "77": "20bn/77.webm"}
    assert matches.extra == (tmp_path / "20bn/777.webm",)


def test_shell_characters_are_only_text(tmp_path: Path) -> None:
    stems = ["(Rad)Schlag_die_Bank!", "a#b[1]", "a#b[2]", "x&y+z;~@$HOME*?", "[ab]"]
    names = [f"cart wheel/{stem}" for stem in stems] if os.name != "nt" else []
    files, matches = matched(tmp_path, names, *(f"cart_wheel/{s}.avi" for s in stems), "a.avi")
    assert len(files) == len(stems)
    assert all(path == f"cart_wheel/{name[11:]}.avi" for name, path in files.items())
    assert [path.name for path in matches.extra] == ["a.avi"]


def test_accents_may_be_spelled_either_way(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "Übung") for form in ("NFC", "NFD"))
    files, _ = matched(tmp_path, [f"c/{apart}_1", f"d/{composed}_2"], f"c/{composed}_1.mp4")
    assert files == {f"c/{apart}_1": f"c/{composed}_1.mp4"}


def test_the_stricter_match_wins(tmp_path: Path) -> None:
    files, matches = matched(tmp_path, ["c/A b", "c/a_b"], "c/A b.mp4", "c/a_b.mp4", "c/A_b.mp4")
    assert files == {"c/A b": "c/A b.mp4", "c/a_b": "c/a_b.mp4"}
    assert [path.name for path in matches.extra] == ["A_b.mp4"]


def test_a_loose_match_does_not_take_what_is_another_clips(tmp_path: Path) -> None:
    files, matches = matched(tmp_path, ["c/A_b", "c/a b"], "c/a b.mp4")
    assert files == {"c/a b": "c/a b.mp4"}
    assert matches.missing["c/A_b"] == "c/a b.mp4 is clip 'c/a b'"


def test_two_clips_with_an_equal_claim_get_nothing(tmp_path: Path) -> None:
    files, matches = matched(tmp_path, ["c/Ab", "c/aB"], "c/ab.mp4")
    assert files == {}
    assert matches.missing["c/Ab"] == "c/ab.mp4 could as well be 'c/aB'"
    assert not matches.extra


def test_several_files_for_one_clip_are_ambiguous(tmp_path: Path) -> None:
    files, matches = matched(
        tmp_path, ["c/a", "c/b.mp4"], "c/a.mp4", "c/a.avi", "c/b.mp4", "c/b.avi"
    )
    assert files == {"c/b.mp4": "c/b.mp4"}
    assert matches.ambiguous == {"c/a": (tmp_path / "c/a.avi", tmp_path / "c/a.mp4")}
    assert matches.extra == (tmp_path / "c/b.avi",)


def test_the_same_folders_win(tmp_path: Path) -> None:
    names = ["train/c/a", "train/d/b"]
    files, matches = matched(
        tmp_path, names, "train/c/a.mp4", "new/c/a.mp4", "x/d/b.mp4", "y/d/b.mp4"
    )
    assert files == {"train/c/a": "train/c/a.mp4"}
    assert set(matches.ambiguous) == {"train/d/b"}


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (["run/001.mp4"], "run/001.mp4 may be another clip: expected a folder 'wave' above it"),
        (["jump/001.mp4"], "jump/001.mp4 may be another clip"),
        (["jump/001.mp4", "run/002.mp4"], "jump/001.mp4 may be another clip"),
        (["001.mp4", "run/002.mp4"], "001.mp4 may be another clip"),
        (["jump/001.mp4", "jump/002.mp4", "wave/003.mp4"], "jump/001.mp4 may be another clip"),
        (["jump/003.mp4"], "no file of this name"),
    ],
)
def test_a_file_of_another_class_is_not_taken(
    files: list[str], reason: str, tmp_path: Path
) -> None:
    got, matches = matched(tmp_path, ["wave/001", "run/002", "run/003"], *files)
    assert "wave/001" not in got
    assert matches.missing["wave/001"].startswith(reason)


def test_numbered_clips_need_their_class_folder(tmp_path: Path) -> None:
    files, matches = matched(tmp_path, ["a/1", "b/1"], "videos/1.mp4", "videos/2.mp4")
    assert files == {}
    assert len(matches.extra) == 2


def test_the_subset_is_not_taken_for_the_class(tmp_path: Path) -> None:
    names = [f"{c}/{subset}/{i}" for c in "abc" for subset in ("train", "test") for i in range(2)]
    kept = [name for name in names if not name.startswith("b/train")]
    files, matches = matched(tmp_path, names, *(f"{name}.mp4" for name in kept))
    assert files == {name: f"{name}.mp4" for name in kept}
    assert set(matches.missing) == set(names) - set(kept)


TIMED = "air drumming/-VtLx-mcPds_000012_000022"
PLAIN = "blasting sand/1663fIopl7c"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        (TIMED, "train_256/air_drumming/-VtLx-mcPds_000012_000022.mp4"),
        (TIMED, "val_256/air_drumming/-VtLx-mcPds.mp4"),
        (TIMED, "-VtLx-mcPds_12_22.webm"),
        (TIMED, "some_other_name/-VtLx-mcPds.mkv"),
        (TIMED, "air_drumming/-vtlx-mcpds_000012_000022.mp4"),
        (PLAIN, "blasting sand/1663fIopl7c_000035_000045.mp4"),
        (PLAIN, "blasting sand/1663fIopl7c.mp4.webm"),
    ],
)
def test_youtube_ids(name: str, file: str, tmp_path: Path) -> None:
    others = ("air_drumming/00000000000.mp4", "x/-VtLx-mcPdX.mp4", "x/trailer.mp4")
    files, matches = matched(tmp_path, [TIMED, PLAIN], file, *others, how="youtube")
    assert files == {name: file}
    assert len(matches.extra) == 3


def test_other_times_are_another_clip(tmp_path: Path) -> None:
    file = "air drumming/-VtLx-mcPds_000030_000040.mp4"
    files, matches = matched(tmp_path, [TIMED, PLAIN], file, how="youtube")
    assert files == {}
    assert matches.missing[TIMED] == f"{file} shows other times"


def test_equal_times_win_then_the_folder(tmp_path: Path) -> None:
    timed = "a/-VtLx-mcPds_000012_000022.mp4"
    here, there = "blasting_sand/1663fIopl7c.mp4", "old/1663fIopl7c.mp4"
    both = (timed, "air drumming/-VtLx-mcPds.mp4", here, there)
    files, _ = matched(tmp_path, [TIMED, PLAIN], *both, how="youtube")
    assert files == {TIMED: timed, PLAIN: here}


def test_two_parts_of_one_video_are_ambiguous(tmp_path: Path) -> None:
    parts = [f"x/1663fIopl7c_{start}_{start + 10}.mp4" for start in (0, 10)]
    _, matches = matched(tmp_path, [PLAIN], *parts, how="youtube")
    assert matches.ambiguous == {PLAIN: tuple(tmp_path / part for part in parts)}


def test_one_video_for_two_parts_is_no_ones(tmp_path: Path) -> None:
    names = [f"a/1663fIopl7c_{start}_{start + 10}" for start in (0, 10)]
    _, matches = matched(tmp_path, names, "a/1663fIopl7c.mp4", how="youtube")
    assert matches.missing[names[1]] == f"a/1663fIopl7c.mp4 could as well be {names[0]!r}"


def test_a_youtube_file_in_the_folder_of_another_class(tmp_path: Path) -> None:
    file = "blasting_sand/-VtLx-mcPds.mp4"
    _, matches = matched(tmp_path, [TIMED, PLAIN], file, how="youtube")
    assert matches.missing[TIMED].startswith(f"{file} may be another clip")


def test_what_is_no_id_is_said(tmp_path: Path) -> None:
    _, matches = matched(tmp_path, ["a/clip_1"], "a/clip_1.mp4", how="youtube")
    assert "'clip_1' is no YouTube id" in matches.missing["a/clip_1"]


def test_links_inside_the_root_are_followed(tmp_path: Path) -> None:
    root = made(tmp_path / "root", "store/x1.mp4", "raw/wave_/b.mp4")
    (root / "wave").mkdir()
    (root / "wave/a.mp4").symlink_to(root / "store/x1.mp4")
    (root / "run").symlink_to(root / "raw/wave_", target_is_directory=True)
    (root / "run2").symlink_to(root, target_is_directory=True)
    files, matches = matched(root, ["wave/a", "run/b"])
    assert files == {"wave/a": "wave/a.mp4", "run/b": "run/b.mp4"}
    assert not matches.extra
    assert not matches.refused


def test_one_file_under_two_names_is_not_ambiguous(tmp_path: Path) -> None:
    made(tmp_path, "c/real/a.mp4")
    for folder in ("one", "two"):
        (tmp_path / "c" / folder).mkdir()
        (tmp_path / "c" / folder / "a.mp4").symlink_to(tmp_path / "c/real/a.mp4")
    files, matches = matched(tmp_path, ["c/a"])
    assert files == {"c/a": "c/real/a.mp4"}
    assert not matches.extra


def test_links_out_of_the_root_are_refused(tmp_path: Path) -> None:
    outside, root = made(tmp_path / "out", "a.mp4", "d/b.mp4"), made(tmp_path / "root", "c/z.mp4")
    (root / "c/a.mp4").symlink_to(outside / "a.mp4")
    (root / "d").symlink_to(outside / "d", target_is_directory=True)
    (root / "c/gone.mp4").symlink_to(root / "nowhere.mp4")
    files, matches = matched(root, ["c/a", "d/b", "c/gone"])
    assert files == {}
    assert "leads out of the root" in matches.missing["c/a"]
    assert "not there" in matches.missing["c/gone"]
    assert {path.relative_to(root).as_posix() for path in matches.refused} == {
        *("c/a.mp4", "c/gone.mp4", "d")
    }
    assert matches.extra == (root / "c/z.mp4",)


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    made(tmp_path, "c/b.mp4")
    os.mkfifo(tmp_path / "c/a.mp4")
    _, matches = matched(tmp_path, ["c/a"])
    assert matches.missing["c/a"] == "c/a.mp4 is no regular file"


def test_a_root_that_is_a_link(tmp_path: Path) -> None:
    made(tmp_path / "real", "c/a.mp4")
    (tmp_path / "root").symlink_to(tmp_path / "real", target_is_directory=True)
    files, _ = matched(tmp_path / "root", ["c/a"])
    assert files == {"c/a": "c/a.mp4"}


def test_no_such_root(tmp_path: Path) -> None:
    with pytest.raises(SplitError, match="cannot be listed: No such file"):
        walk_videos(tmp_path / "none")


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path, "c/a.mp4", "d/b.mp4")
    real = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "d":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    files, matches = matched(tmp_path, ["c/a", "d/b"])
    assert files == {"c/a": "c/a.mp4"}
    assert matches.refused == {tmp_path / "d": "cannot be listed: Permission denied"}


PARTS = st.text("aA_ é1", min_size=1, max_size=3).map(str.strip).filter(bool)
TREES = st.lists(st.tuples(PARTS, PARTS, st.sampled_from((".mp4", ".AVI"))), max_size=8)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(clips=st.lists(st.tuples(PARTS, PARTS), min_size=1, max_size=6, unique=True), files=TREES)
def test_nothing_is_given_twice_and_exact_names_are_found(
    clips: list[tuple[str, str]],
    files: list[tuple[str, str, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root = tmp_path_factory.mktemp("tree")
    names = ["/".join(clip) for clip in clips]
    _, matches = matched(root, names, *(f"{c}/{s}{e}" for c, s, e in files))
    exact = Counter(f"{c}/{s}" for c, s, _ in set(files))
    for name in names:
        if exact[name] == 1:
            assert matches.files[name].relative_to(root).with_suffix("").as_posix() == name
    used = {*matches.files.values(), *(p for v in matches.ambiguous.values() for p in v)}
    assert not used & set(matches.extra)


def test_large_numbered_classes_take_no_square_of_time(tmp_path: Path) -> None:
    names = [f"class {i % 60}/{i // 60:04d}" for i in range(6000)]
    for i in range(60):
        (tmp_path / f"other {i}").mkdir()
    for name in names:
        (tmp_path / f"{name.replace('class', 'other')}.mp4").touch()
    start = time.perf_counter()
    matches = match_files(names, tmp_path, "name")
    assert len(matches.missing) == len(names)
    assert time.perf_counter() - start < 60


@pytest.mark.shared
def test_one_published_list_against_the_files_of_another(shared: Path, tmp_path: Path) -> None:
    lists = shared / "splits/kinetics100-cmn"
    names = (lists / "cmn/val.list").read_text(encoding="utf-8").split("\n")
    listed = (lists / "clip-fsar/val_few_shot.txt").read_text(encoding="utf-8").split()
    files, matches = matched(
        tmp_path,
        [name for name in names if name],
        *(line.partition("//")[2] for line in listed),
        how="youtube",
    )
    assert len(files) == 1200 - 41  # the second list replaced 41 videos
    assert len(matches.extra) == 41
    assert set(matches.missing.values()) == {"no file of this name"}
    for name, file in files.items():
        assert Path(file).name[:11] == name.rpartition("/")[2][:11]
        assert Path(file).parent.name.replace("_", " ") == name.partition("/")[0]


def test_links_out_of_the_root_are_followed_where_that_is_allowed(tmp_path: Path) -> None:
    for name in ("root", "else/wave"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "else/wave/a.mp4").touch()
    (tmp_path / "root/wave").symlink_to(tmp_path / "else/wave")
    strict = match_files(["wave/a"], tmp_path / "root", "name")
    assert (strict.files, list(strict.missing)) == ({}, ["wave/a"])
    free = match_files(["wave/a"], tmp_path / "root", "name", follow_links=True)
    assert free.files == {"wave/a": tmp_path / "root/wave/a.mp4"}


def test_a_folder_of_frames_is_a_clip_and_second_to_a_video(tmp_path: Path) -> None:
    names = ["wave/a", "wave/b", "wave/c.mp4"]
    frames = [f"x/{name}/{i}.jpg" for name in ("wave/a", "wave/b", "wave/c") for i in (1, 2)]
    files, matches = matched(tmp_path, names, *frames, "x/wave/b.avi", "x/wave/notes/1.txt")
    assert files == {"wave/a": "x/wave/a", "wave/b": "x/wave/b.avi", "wave/c.mp4": "x/wave/c"}
    assert matches.extra == (tmp_path / "x/wave/b",)


def test_a_file_that_cannot_be_read_is_the_reason_why_a_clip_is_missing(tmp_path: Path) -> None:
    made(tmp_path, "wave/b.mp4")
    (tmp_path / "wave/a.ogm").write_bytes(b"OggS" + bytes(40))
    _, matches = matched(tmp_path, ["wave/a.ogm", "wave/b"])
    assert "wave/a.ogm is an Ogg file" in matches.missing["wave/a.ogm"]
    assert "Ogg" in matches.refused[tmp_path / "wave/a.ogm"]


def test_whole_seconds_stand_for_times_with_a_fraction_where_only_one_can(tmp_path: Path) -> None:
    names = [f"a/{ID}_40.5_42.5", f"a/{ID}_000050_52.25"]
    files, _ = matched(tmp_path, names, f"a/{ID}_40.5_42.5.mp4", f"a/{ID}_50_52.mp4", how="youtube")
    assert list(files) == names
    twins = [f"a/{ID}_60.2_61.2", f"a/{ID}_60.7_61.7"]
    files, matches = matched(tmp_path / "more", twins, f"a/{ID}_000060_000061.mp4", how="youtube")
    assert files == {}
    assert "could as well be" in matches.missing[twins[0]]
    other = [f"a/{ID}_60.5_61.5"]
    assert matched(tmp_path / "x", other, f"a/{ID}_60.2_61.2.mp4", how="youtube")[0] == {}
