"""What new splits are made of: class folders, tables and annotation files."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from fewshot_i2v.data.splits.builder.build import find_missing_clips, make_split
from fewshot_i2v.data.splits.builder.clip_list import ClipList
from fewshot_i2v.data.splits.builder.folder_importer import import_folders
from fewshot_i2v.data.splits.builder.list_importer import (
    import_annotations,
    import_csv,
    read_labels,
)
from fewshot_i2v.data.splits.split import Clip
from fewshot_i2v.errors import SplitError
from tests.data.splits.folders import touch


def clips(listing: ClipList) -> dict[str, list[str]]:
    return {name: [clip.name for clip in row] for name, row in listing.classes().items()}


class TestFolders:
    def test_class_folders(self, tmp_path: Path) -> None:
        touch(tmp_path, "wave/b.mp4", "wave/a.AVI", "wave/x.txt", "sit down/c.webm", ".git/d.mp4")
        listing = import_folders(tmp_path)
        assert clips(listing) == {
            "sit down": ["sit down/c.webm"],
            "wave": ["wave/a.AVI", "wave/b.mp4"],
        }
        assert listing.notes == ["left out: 1 file of other kinds (1 .txt): wave/x.txt"]

    def test_what_is_passed_over_is_said(self, tmp_path: Path) -> None:
        touch(tmp_path, "wave/b.mp4", "docs/x.txt", "wave/old/c.mp4", "wave/older/c.mp4")
        assert import_folders(tmp_path).notes == [
            "left out: 2 videos in folders inside class folders: wave/old/c.mp4, wave/older/c.mp4; "
            "move them into class folders, or list them with --csv",
            "no clips in docs (1 .txt): no class of that name",
        ]

    def test_all_files_that_are_left_out_are_counted(self, tmp_path: Path) -> None:
        touch(tmp_path, "notes.txt", "sit/a.mp4", "sit/Thumbs.db", "wave/b.mp4", "wave/readme.txt")
        touch(tmp_path, "wave/.hidden", "walk/one/img_1.jpg", "walk/one/meta.txt", "walk/two/x.txt")
        (tmp_path / "wave/sub").mkdir()
        assert import_folders(tmp_path).notes == [
            "1 clip of numbered pictures in a folder each: walk/one",
            "left out: 5 files of other kinds (4 .txt, 1 .db): notes.txt, sit/Thumbs.db, "
            "walk/one/meta.txt and 2 more",
            "left out: 2 folders without clips: walk/two, wave/sub",
        ]

    def test_links_are_followed_and_those_that_leave_the_root_are_said(
        self, tmp_path: Path
    ) -> None:
        touch(tmp_path, "disk/sit/a.mp4", "disk/b.mp4", "clips/wave/c.mp4")
        (tmp_path / "clips/sit").symlink_to(tmp_path / "disk/sit")
        (tmp_path / "clips/wave/b.mp4").symlink_to(tmp_path / "disk/b.mp4")
        (tmp_path / "clips/wave/d.mp4").symlink_to(tmp_path / "clips/wave/c.mp4")
        (tmp_path / "clips/wave/e.mp4").symlink_to(tmp_path / "nowhere.mp4")
        listing = import_folders(tmp_path / "clips")
        assert clips(listing)["wave"] == ["wave/b.mp4", "wave/c.mp4", "wave/d.mp4"]
        root = tmp_path / "clips"
        assert listing.notes == [
            "left out: 1 file that cannot be read as videos: wave/e.mp4 is a link to no file",
            f"links to files outside of {root}: sit/a.mp4, wave/b.mp4; they are refused without "
            "`links: follow` in the split file",
        ]

    def test_a_root_that_is_a_link_is_no_way_out(self, tmp_path: Path) -> None:
        touch(tmp_path, "clips/wave/c.mp4")
        (tmp_path / "link").symlink_to(tmp_path / "clips")
        assert import_folders(tmp_path / "link").notes == []

    @pytest.mark.parametrize(
        ("files", "words"),
        [
            ((), "has no class folders"),
            (("a.mp4",), ": no class folders, but 1 video in no folder: a.mp4; move them into"),
            (("wave/x.txt",), ": expected video files in class folders, or folders of numbered"),
            (("wave/x.txt",), "; no clips in wave (1 .txt): no class of that name"),
            (("train/wave/a.mp4",), "expected the class folders themselves: give --root "),
            (("train/wave/a.mp4", "test/wave/b.mp4"), "; --all-way takes train and test, where"),
        ],
    )
    def test_where_there_are_no_classes(
        self, tmp_path: Path, files: Sequence[str], words: str
    ) -> None:
        touch(tmp_path, *files)
        with pytest.raises(SplitError) as caught:
            import_folders(tmp_path)
        assert str(tmp_path) in str(caught.value)
        assert words in str(caught.value)

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(SplitError, match=r"--root: no folder .*none; expected one folder per"):
            import_folders(tmp_path / "none")

    def test_circles_of_links_and_folders_deeper_down_are_named(self, tmp_path: Path) -> None:
        touch(tmp_path, "wave/a.mp4", "wave/x/y/b.mp4")
        (tmp_path / "wave/loop").symlink_to(tmp_path / "wave/loop")
        first, second = import_folders(tmp_path).notes
        assert "wave/loop cannot be looked at: Too many levels of symbolic links" in first
        assert second == "not looked into 1 folder deeper down: wave/x/y"

    def test_folders_train_and_test(self, tmp_path: Path) -> None:
        touch(tmp_path, "train/wave/a.mp4", "train/sit/a.mp4", "val/wave/b.mp4", "val/sit/b.mp4")
        listing = import_folders(tmp_path, all_way=True)
        split = make_split(listing, None, name="x")
        assert split.clips("train", "wave") == (Clip("train/wave/a.mp4"),)
        assert split.clips("test", "wave") == (Clip("val/wave/b.mp4"),)
        assert listing.notes == ["the clips to test on are those of val: there are none of test"]

    def test_all_way_needs_both_folders(self, tmp_path: Path) -> None:
        touch(tmp_path, "train/wave/a.mp4", "more/wave/b.mp4")
        with pytest.raises(SplitError, match=r"expected the folders train and test .* found more"):
            import_folders(tmp_path, all_way=True)


class TestTables:
    def test_other_columns_delimiters_and_spaces(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        path.write_bytes(
            b"\xef\xbb\xbffile; label; who; fps\nw/1.mp4; wave; p1; 30\n./s/a b.mp4; sit; ; 25\n"
        )
        columns = {"path": "file", "class": "label", "group": "who"}
        listing = import_csv(path, columns=columns)
        assert listing.classes() == {
            "wave": [Clip("w/1.mp4", "p1")],
            "sit": [Clip("s/a b.mp4", None)],
        }

    def test_absolute_paths_become_relative_also_through_links(self, tmp_path: Path) -> None:
        touch(tmp_path, "disk/wave/a.mp4")
        (tmp_path / "link").symlink_to(tmp_path / "disk")
        path = tmp_path / "t.csv"
        link, disk = tmp_path / "link", tmp_path / "disk"
        path.write_text(f"path,class\n{disk}/wave/a.mp4,wave\n{link}/wave/b.mp4,wave\n")
        assert clips(import_csv(path, root=link)) == {"wave": ["wave/a.mp4", "wave/b.mp4"]}
        split = make_split(import_csv(path, root=link), {"novel": ("wave",)}, name="x")
        assert find_missing_clips(dataclasses.replace(split, root=link)) == ["wave/b.mp4"]

    def test_a_split_column(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        path.write_text(
            "path,class,split\na,wave,Train\nb,wave,testing\nc,wave,validation\nd,wave,val\n"
        )
        listing = import_csv(path, all_way=True)
        split = make_split(listing, None, name="x")
        assert [clip.name for clip in split.clips("test", "wave")] == ["b"]
        assert listing.notes == ["2 clips of val are left out: an all-way split has none"]
        assert clips(import_csv(path)) == {"wave": ["a", "b", "c", "d"]}

    def test_train_and_test_need_the_same_classes(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        path.write_text("path,class,split\na,wave,train\nb,wave,test\nc,sit,train\n")
        with pytest.raises(SplitError, match=r"subsets.test: no class 'sit'; expected the same"):
            make_split(import_csv(path, all_way=True), None, name="x")
        path.write_text("path,class,split\na,wave,train\n")
        with pytest.raises(SplitError, match="needs clips for train and for test; found train"):
            make_split(import_csv(path, all_way=True), None, name="x")

    @pytest.mark.parametrize(
        ("table", "words"),
        [
            ("", "line 1: expected one column named 'path', found an empty file; --columns"),
            ("file,class\na,b\n", "expected one column named 'path', found file, class"),
            ("path,class,class\na,b,c\n", "expected one column named 'class', found path, class"),
            ("path,class\n", "no clips in it; expected a line for each"),
            ("path,class\na,b\nc\n", "line 3: not 2 fields as in the header"),
            ("path,class\na,b,c\n", "line 2: not 2 fields as in the header"),
            ("path,class\na,\n", "line 2: class: empty name"),
            ("path,class\na,b\nc,b\na,d\n", "line 4: clip 'a' is already in line 2"),
            ("path,class\n../a,b\n", "line 2: '../a' is not a plain relative path; expected"),
            ("path,class\n/x/a,b\n", "line 2: '/x/a' is an absolute path; give the folder of all"),
            ("path,class\nC:\\a,b\n", "line 2: 'C:\\\\a' is an absolute path"),
            ('path,class\n"a,b\n', "cannot be read as a CSV: unexpected end of data"),
            ("path,class\na\x00,b\n", "U+0000"),
        ],
    )
    def test_each_problem_names_file_and_line(self, tmp_path: Path, table: str, words: str) -> None:
        path = tmp_path / "t.csv"
        path.write_text(table)
        with pytest.raises(SplitError) as caught:
            import_csv(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert words in str(caught.value)

    def test_paths_outside_the_root_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        path.write_text(f"path,class\n{tmp_path}/clips/../x,b\n{tmp_path}/other/x,b\n")
        with pytest.raises(SplitError) as caught:
            import_csv(path, root=tmp_path / "clips")
        assert "line 2: '../x' is not a plain relative path" in str(caught.value)
        assert f"line 3: '{tmp_path}/other/x' is not below the root" in str(caught.value)

    def test_other_problems_of_files(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        path.write_bytes(b"path,class\ncaf\xe9,b\n")
        with pytest.raises(SplitError, match="not text in UTF-8; save it as UTF-8"):
            import_csv(path)
        path.write_text("path,class,split\na,b,3\n")
        with pytest.raises(SplitError, match=r"line 2: split: got '3'; expected train, training"):
            import_csv(path, all_way=True)
        with pytest.raises(SplitError, match=r"none.csv: no such file"):
            import_csv(tmp_path / "none.csv")
        with pytest.raises(SplitError, match="not a file"):
            import_csv(tmp_path)


class TestAnnotations:
    @pytest.mark.parametrize(
        "text",
        [
            "w/a.mp4 0\nw/b c.mp4 1\n",
            '"w/a.mp4" 0\n"w/b c.mp4" "1"\n',
            "'w/a.mp4' 7 0\n'w/b c.mp4' 8 1\n",
            "w/a.mp4\t7\t0\nw/b c.mp4\t8\t1\n",
            "w/a.mp4 300 0\nw/b c.mp4 250 1\n",
            "w/a.mp4\t0\nw/b c.mp4\t1",
        ],
    )
    def test_forms_of_lines(self, tmp_path: Path, text: str) -> None:
        path, labels = tmp_path / "train.txt", tmp_path / "names.txt"
        path.write_text(text)
        labels.write_text("wave\nsit down\n")
        listing = import_annotations(path, labels_path=labels)
        assert clips(listing) == {"wave": ["w/a.mp4"], "sit down": ["w/b c.mp4"]}
        assert listing.class_ids == {"wave": "0", "sit down": "1"}
        assert listing.find == "path"
        assert clips(import_annotations(path)) == {"0": ["w/a.mp4"], "1": ["w/b c.mp4"]}

    @pytest.mark.parametrize(
        "text",
        [
            "id,name\n3,wave\n4,sit down\n",
            "3, wave\n4, sit down\n\n",
            "3 wave\n4 sit down\n",
            '3;"wave"\n4;sit down\n',
        ],
    )
    def test_forms_of_labels(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "names.csv"
        path.write_text(text)
        assert read_labels(path) == {"3": "wave", "4": "sit down"}

    def test_names_may_begin_with_numbers(self, tmp_path: Path) -> None:
        path = tmp_path / "names.txt"
        path.write_text("2 people hug\nwave\n")
        assert read_labels(path) == {"0": "2 people hug", "1": "wave"}

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "no names in it"),
            ("a\nb\na\n", "name 'a' is there twice"),
            ("1,a\n1,b\n", "id '1' is there twice"),
            ("a\n\nb\n", "a line without a name"),
        ],
    )
    def test_labels_that_cannot_be_used(self, tmp_path: Path, text: str, words: str) -> None:
        path = tmp_path / "names.txt"
        path.write_text(text)
        with pytest.raises(SplitError, match=words):
            read_labels(path)

    def test_with_tabs_words_belong_to_paths_and_labels(self, tmp_path: Path) -> None:
        path = tmp_path / "train.txt"
        path.write_text("w/clip 1.mp4\tsit down\nw/clip 2\tsit down\n")
        assert clips(import_annotations(path)) == {"sit down": ["w/clip 1.mp4", "w/clip 2"]}
        path.write_text("w/clip 1\t0\nw/clip 2\t0\n")
        assert clips(import_annotations(path)) == {"0": ["w/clip 1", "w/clip 2"]}

    def test_folders_of_frames_are_found_by_name(self, tmp_path: Path) -> None:
        path = tmp_path / "train.txt"
        path.write_text("w/a 30 0\nw/b 40 0\n")
        listing = import_annotations(path)
        assert listing.find == "name"
        assert listing.notes == ["names without the extension of a video: `find: name` was written"]

    def test_a_pair_of_files(self, tmp_path: Path) -> None:
        train, test = tmp_path / "train.txt", tmp_path / "test.txt"
        train.write_text("a.mp4 x\n")
        test.write_text("b.mp4 x\n")
        split = make_split(import_annotations(train, test_path=test, all_way=True), None, name="x")
        assert split.clips("train", "x") == (Clip("a.mp4"),)
        assert split.clips("test", "x") == (Clip("b.mp4"),)
        test.write_text("b.mp4 x\na.mp4 x\n")
        with pytest.raises(SplitError) as caught:
            import_annotations(train, test_path=test)
        expected = f"{test}: line 2: clip 'a.mp4' is already in line 1 of {train}"
        assert str(caught.value) == expected
        with pytest.raises(SplitError, match="give --test-annotations too"):
            import_annotations(train, all_way=True)

    def test_lines_that_cannot_be_read(self, tmp_path: Path) -> None:
        path, labels = tmp_path / "train.txt", tmp_path / "names.txt"
        path.write_text("a.mp4 0\nb.mp4,1\n\nc.mp4 7\n")
        labels.write_text("wave\n")
        with pytest.raises(SplitError) as caught:
            import_annotations(path, labels_path=labels)
        assert "line 2: got 'b.mp4,1'; expected PATH LABEL" in str(caught.value)
        assert "--csv" in str(caught.value)
        assert f"line 4: label '7' has no name; {labels} has 1, from 0 on" in str(caught.value)

    def test_kinetics(self, tmp_path: Path) -> None:
        path = tmp_path / "k.csv"
        path.write_text(
            "label,youtube_id,time_start,time_end,split\n"
            '"air drumming",-3sp2Mu2bMQ,10,20,train\narchery,ab_cdefghij,5.0,15.0,validate\n'
            "archery,bb_cdefghij,0,10,train\nair drumming,cb_cdefghij,1,11,validate\n"
        )
        listing = import_annotations(path)
        assert listing.find == "youtube"
        assert clips(listing)["air drumming"][0] == "air drumming/-3sp2Mu2bMQ_000010_000020"
        split = make_split(import_annotations(path, all_way=True), None, name="x")
        assert split.clips("test", "archery") == (Clip("archery/ab_cdefghij_000005_000015"),)
        with pytest.raises(SplitError, match="has names of classes"):
            import_annotations(path, labels_path=path)
        path.write_text("label,youtube_id,time_start,time_end\nx,y,soon,-1\n")
        with pytest.raises(SplitError) as caught:
            import_annotations(path)
        assert "line 2: time_start: got 'soon'; expected seconds" in str(caught.value)
        assert "line 2: time_end: got '-1'; expected seconds from 0 to 999999" in str(caught.value)
