"""Labelled clips from folders, tables and splits."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewshot_i2v.data.splits.builder.labelled_clips import read_labelled_clips
from fewshot_i2v.errors import FewshotError, SplitError, UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of two clips; what is in the files does not matter here."""
    for name in ("wave/p1-a.mp4", "wave/p2-b.mp4", "clap/p1-c.mp4", "clap/p2-d.mp4"):
        path = tmp_path / "clips" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "clips"


def test_class_folders(folder: Path) -> None:
    clips = read_labelled_clips(folder, group=r"(p\d)")
    assert clips.classes == ("clap", "wave")
    assert clips.names == ["clap/p1-c.mp4", "clap/p2-d.mp4", "wave/p1-a.mp4", "wave/p2-b.mp4"]
    assert {clip.group for clip in clips.by_class["wave"]} == {"p1", "p2"}
    assert clips.split.clip_path("wave/p1-a.mp4") == folder / "wave/p1-a.mp4"


def test_a_table_lies_beside_its_clips_or_names_their_folder(folder: Path, tmp_path: Path) -> None:
    table = "path,class\nwave/p1-a.mp4,hello\nclap/p1-c.mp4,bravo\n"
    (folder / "labels.csv").write_text(table)
    (tmp_path / "labels.csv").write_text(table)
    for clips in (
        read_labelled_clips(folder / "labels.csv"),
        read_labelled_clips(tmp_path / "labels.csv", root=folder),
    ):
        assert clips.classes == ("bravo", "hello")
        assert clips.split.clip_path("wave/p1-a.mp4").is_file()


def test_a_split_has_its_subset(tmp_path: Path) -> None:
    clips = read_labelled_clips("motions")
    assert clips.subset == "novel"
    assert clips.classes == clips.split.classes("novel")
    assert read_labelled_clips("motions", subset="val").classes == clips.split.classes("val")
    with pytest.raises(FewshotError, match="base, novel, val"):
        read_labelled_clips("motions", subset="nowhere")


def test_clips_can_be_left_out(folder: Path) -> None:
    clips = read_labelled_clips(folder)
    fewer = clips.without({"wave/p1-a.mp4", "clap/p1-c.mp4", "clap/p2-d.mp4"})
    assert fewer.names == ["wave/p2-b.mp4"]


def test_options_of_another_source_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="only a split has subsets"):
        read_labelled_clips(folder, subset="novel")
    with pytest.raises(UsageError, match="its file has the groups"):
        read_labelled_clips("motions", group="(x)")
    with pytest.raises(SplitError, match="no class folders"):
        read_labelled_clips(folder / "wave")


def test_a_pattern_beside_a_column_of_groups_is_refused(folder: Path) -> None:
    table = folder / "labels.csv"
    table.write_text("path,class,group\nwave/p1-a.mp4,wave,ann\nclap/p1-c.mp4,clap,\n")
    assert read_labelled_clips(table).groups["wave/p1-a.mp4"] == "ann"
    with pytest.raises(UsageError, match=r"labels\.csv has a column group; expected one of them"):
        read_labelled_clips(table, group=r"(p\d)")
    table.write_text("path,class,group\nwave/p1-a.mp4,wave,\nclap/p1-c.mp4,clap,\n")
    assert read_labelled_clips(table, group=r"(p\d)").groups["wave/p1-a.mp4"] == "p1"


@pytest.mark.parametrize(("scope", "n_groups"), [("global", 2), ("class", 4)])
def test_groups_of_two_classes_are_one_or_two(folder: Path, scope: str, n_groups: int) -> None:
    clips = read_labelled_clips(folder, group=r"(p\d)", group_scope=scope)  # type: ignore[arg-type]
    assert len(set(clips.groups.values())) == n_groups


def test_classes_that_differ_in_case_alone_are_noted(folder: Path) -> None:
    table = folder / "labels.csv"
    table.write_text("path,class\nwave/p1-a.mp4,Wave\nwave/p2-b.mp4,wave\nclap/p1-c.mp4,clap\n")
    (note,) = read_labelled_clips(table).notes
    assert "'Wave' and 'wave' differ in upper and lower case alone" in note


def test_a_table_of_windows_is_read(folder: Path) -> None:
    (folder / "labels.csv").write_bytes(
        b"\xef\xbb\xbfpath,class\r\nwave/p1-a.mp4,wave\r\nclap/p1-c.mp4,clap\r\n"
    )
    clips = read_labelled_clips(folder / "labels.csv")
    assert clips.classes == ("clap", "wave")
    assert clips.names == ["clap/p1-c.mp4", "wave/p1-a.mp4"]


def test_class_folders_that_are_links_are_followed(folder: Path, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    for name in ("wave", "clap"):
        (links / name).symlink_to(folder / name)
    clips = read_labelled_clips(links)
    assert clips.split.links == "follow"
    assert clips.split.clip_path("wave/p1-a.mp4").is_file()
    assert clips.notes == ("class folders that are links are followed: clap, wave",)


def test_a_clip_that_is_a_link_out_of_the_folder_says_what_to_do(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "disk.mp4").write_bytes(b"x")
    (folder / "wave" / "linked.mp4").symlink_to(tmp_path / "disk.mp4")
    split = read_labelled_clips(folder).split
    assert split.links == "inside"
    with pytest.raises(SplitError, match="make a split with `fewshot-i2v episodes new`"):
        split.clip_path("wave/linked.mp4")


def test_a_file_without_an_ending_is_not_taken_for_the_name_of_a_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels").touch()
    with pytest.raises(UsageError, match="labels: no such folder, CSV or split; expected a folder"):
        read_labelled_clips("labels")
