"""Clips and lists as people have them: what `episodes new` takes, check and evaluate find."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from fewshot_i2v.data.splits.check.check import check as check_clips
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.data.video.clip_cache import ClipCache
from fewshot_i2v.data.video.reader import DecodeOptions
from tests.cli.conftest import FakeEvaluation, Invoke
from tests.data.video.made_videos import numbered_picture, write_video

ID = "abcdefghijk"
KINETICS = "label,youtube_id,time_start,time_end,split\n"
New = Callable[..., list[str]]


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A video of each kind, by extension."""
    folder = tmp_path_factory.mktemp("sources")
    kinds = {".mp4": "mpeg4", ".mts": "mpeg2video", ".avi": "mpeg4"}
    return {e: write_video(folder / f"v{e}", codec, 8, size=(32, 32)) for e, codec in kinds.items()}


@pytest.fixture
def root(tmp_path: Path, sources: dict[str, Path]) -> Callable[..., Path]:
    """Makes a root with clips: names that end in / are folders of frames."""

    def _made(*names: str) -> Path:
        for i, name in enumerate(names):
            path = tmp_path / "clips" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("/"):
                path.mkdir()
                for frame in range(8):
                    image = Image.fromarray(numbered_picture(8 * i + frame))
                    image.save(path / f"img_{frame + 1:05d}.jpg")
                continue
            kind = path.suffix.lower() if path.suffix.lower() in sources else ".mp4"
            shutil.copy(sources[kind], path)
            with path.open("ab") as file:  # no two have the same bytes
                file.write(
                    bytes(188) if kind == ".mts" else b"\0\0\0\x0cfree" + bytes([0, 0, 0, i])
                )
        return tmp_path / "clips"

    return _made


@pytest.fixture
def new(invoke: Invoke, evaluation: FakeEvaluation, tmp_path: Path) -> New:
    """`episodes new`, the check and the decoding of all that it lists; gives its clips' names."""

    def _new(root: Path, *source: str, notes: Sequence[str] = ()) -> list[str]:
        out = tmp_path / "x.yaml"
        made = invoke("episodes", "new", str(out), "--root", str(root), *source, "--json")
        assert made.exit_code == 0, made.output
        told = [line for line in made.stderr.splitlines() if "no clips in" not in line]
        assert len(told) == len(notes), told
        for line, words in zip(told, notes, strict=True):
            assert words in line
        split = load_split(out, root=root)
        found = check_clips(split, cache=tmp_path / "cache", workers=0)
        assert found.problems == ()
        store = ClipCache(tmp_path / "cache/clips", DecodeOptions(size=16), workers=0)
        paths = [split.clip_path(name) for name in split.clip_names()]
        assert store.prepare(paths) == {}
        assert all(store.get(path).shape == (8, 16, 16, 3) for path in paths)
        proposed = json.loads(made.stdout)["next"]
        assert invoke("episodes", "check", *proposed[0].split()[3:], "--quick").exit_code == 0
        evaluate = ("--split", str(out), "--root", str(root), "--way", "2", "--shot", "1")
        done = invoke("evaluate", *evaluate, "--query", "1", "--dry-run")
        assert done.exit_code == 0, done.output
        return split.clip_names()

    return _new


def test_any_kind_of_video_in_class_folders(root: Callable[..., Path], new: New) -> None:
    names = ("a/1.mp4", "a/00001.MTS", "a/2.3gp", "a/3.dav", "a/4", "b/1.AVI", "b/2.mp4")
    folder = root(*names)
    (folder / "a/README").write_text("words")
    (folder / "b/2.srt").write_text("words")
    note = "left out: 2 files of other kinds (1 without extension, 1 .srt): a/README, b/2.srt"
    assert sorted(new(folder, notes=[note])) == sorted(names)


def test_folders_of_frames(root: Callable[..., Path], new: New) -> None:
    folder = root("a/clip_01/", "a/clip_02/", "b/clip_01/", "b/clip_02/")
    (folder / "a/clip_01/flow_x_00001.jpg").write_bytes(b"x")
    note = "note: 4 clips of numbered pictures in a folder each: a/clip_01, a/clip_02, b/clip_01"
    expected = ["a/clip_01", "a/clip_02", "b/clip_01", "b/clip_02"]
    assert new(folder, notes=[note]) == expected
    lists = folder.parent / "list.txt"
    lists.write_text("".join(f"{name} 8 {name[0]}\n" for name in expected))
    found = new(folder, "--annotations", str(lists), "--force", notes=["`find: name` was written"])
    assert found == expected


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--csv", "path , class\n x/1.mp4 , run \n x/a b.mp4 , run \ny/1.mp4,sit\ny/2.mp4,sit\n"),
        ("--csv", "path,class\nx\\1.mp4,run\nx\\a b.mp4,run\ny\\1.mp4,sit\n.\\y\\2.mp4,sit\n"),
        (
            "--csv",
            '\ufeff"path";"class"\r\nx/1.mp4;run\r\n"x/a b.mp4";run\r\ny/1.mp4;sit\r\n'
            "y/2.mp4;sit\r\n;\r\n\r\n \r\n",
        ),
        ("--csv", "path\tclass\nx/1.mp4\trun\nx/a b.mp4\trun\ny/1.mp4\tsit\ny/2.mp4\tsit\n\n"),
        ("--annotations", 'x/1.mp4 run\n"x/a b.mp4" run\ny/1.mp4 "sit"\n"y/2.mp4" sit\n\n'),
        ("--annotations", '"x/1.mp4" 8 run\r\n"x/a b.mp4" 8 run\r\ny/1.mp4 8 sit\r\ny/2.mp4 8 sit'),
        ("--annotations", "x\\1.mp4\trun\nx\\a b.mp4\trun\ny\\1.mp4\tsit\ny\\2.mp4\tsit\n"),
    ],
)
def test_lists_as_programs_write_them(
    option: str, text: str, root: Callable[..., Path], new: New, tmp_path: Path
) -> None:
    names = ["x/1.mp4", "x/a b.mp4", "y/1.mp4", "y/2.mp4"]
    folder, source = root(*names), tmp_path / "list.csv"
    source.write_text(text, encoding="utf-8", newline="")
    assert new(folder, option, str(source)) == names
    split = load_split(tmp_path / "x.yaml")
    assert split.classes("novel") == ("run", "sit")


def test_names_with_backslashes_that_are_there_are_kept(
    root: Callable[..., Path], new: New, tmp_path: Path
) -> None:
    folder, source = root("x\\1.mp4", "x\\2.mp4", "y/1.mp4", "y/2.mp4"), tmp_path / "list.csv"
    source.write_text("path,class\nx\\1.mp4,run\nx\\2.mp4,run\ny\\1.mp4,sit\ny\\2.mp4,sit\n")
    names = new(folder, "--csv", str(source))
    assert sorted(names) == ["x\\1.mp4", "x\\2.mp4", "y/1.mp4", "y/2.mp4"]


@pytest.mark.parametrize(
    "files",
    [
        (f"{ID}_40.5_42.5.mp4", f"{ID}_50_52.25.mp4"),
        (f"{ID}_000040_000042.mp4", f"{ID}_000050_000052.mp4"),
    ],
)
def test_times_with_a_fraction(
    files: tuple[str, str], root: Callable[..., Path], new: New, tmp_path: Path
) -> None:
    others = (f"b/{ID[::-1]}_000001_000002.mp4", f"b/{ID[::-1]}_000003_000004.mp4")
    folder, source = root(*(f"a/{file}" for file in files), *others), tmp_path / "k.csv"
    rows = [f"a,{ID},40.5,42.5,train", f"a,{ID},50.0,52.250,train"]
    rows += [f"b,{ID[::-1]},1,2,train", f"b,{ID[::-1]},3,4,train"]
    source.write_text(KINETICS + "\n".join(rows))
    names = new(folder, "--annotations", str(source))
    assert names[:2] == [f"a/{ID}_000050_52.25", f"a/{ID}_40.5_42.5"]


def test_what_is_left_out_is_counted_and_named(
    root: Callable[..., Path], invoke: Invoke, tmp_path: Path
) -> None:
    folder = root(
        *("a/1.mp4", "a/2.mp4", "a/frames_of_1/", "b/part/1.mp4", "b/part/2.mp4", "loose.mp4")
    )
    (folder / "a/x.ogv").write_bytes(b"OggS" + bytes(40))
    (folder / "a/3.mp4.part").touch()
    (folder / "clip/").mkdir()
    shutil.copy(folder / "a/frames_of_1/img_00001.jpg", folder / "clip/1.jpg")
    (folder / "Thumbs.db").touch()
    made = invoke("episodes", "new", str(tmp_path / "x.yaml"), "--root", str(folder))
    assert made.exit_code == 0, made.output
    for words in (
        "left out: 1 video in no folder: loose.mp4; move",
        "left out: 2 videos in folders inside class folders: b/part/1.mp4, b/part/2.mp4; move",
        "left out: 1 folder of numbered pictures beside video files: a/frames_of_1",
        "no clips in b, clip (it holds numbered pictures: it would be one clip itself)",
        "left out: 2 files that cannot be read as videos: a/3.mp4.part has the name of an "
        "unfinished download, a/x.ogv is an Ogg file, which is not supported: convert it to MP4",
        "left out: 1 file of other kinds (1 .db): Thumbs.db",
    ):
        assert f"note: {words}" in made.stderr, made.stderr
    check = ("episodes", "check", str(tmp_path / "x.yaml"), "--root", str(folder), "--quick")
    done = invoke(*check)
    expected = (
        "5 videos and folders of frames are no clip of the split: a/frames_of_1, b/part/1.mp4"
    )
    assert expected in done.stdout
    assert "loose.mp4" in done.stdout
    assert "not used: " in done.stderr
    assert "a/x.ogv is an Ogg file" in done.stderr


def test_where_only_other_folders_hold_clips(
    root: Callable[..., Path], invoke: Invoke, tmp_path: Path
) -> None:
    folder = root("data/a/1/", "data/a/2/", "data/b/1/", "data/b/2/")

    def said(place: Path) -> str:
        made = invoke("episodes", "new", str(tmp_path / "x.yaml"), "--root", str(place))
        assert made.exit_code == 2, made.output
        return made.stderr

    assert f"give --root {folder / 'data'}" in said(folder)
    assert "its folders 1, 2 hold numbered pictures, so each would be one clip" in said(
        folder / "data/a"
    )
    (folder / "data/a/1/x.mp4").write_bytes(b"\0\0\0\x0cftypisom")
    assert "give --root" in said(folder)
