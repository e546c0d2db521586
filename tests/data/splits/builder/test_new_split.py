"""New splits: classes drawn or named, groups, and the file that is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot_i2v.data.splits.builder.build import find_missing_clips, make_split, write_new_split
from fewshot_i2v.data.splits.builder.class_selection import select_classes
from fewshot_i2v.data.splits.builder.clip_list import ClipList
from fewshot_i2v.data.splits.builder.folder_importer import import_folders
from fewshot_i2v.data.splits.split import Clip
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.errors import SplitError, UnknownNameError
from tests.data.splits.folders import touch
from tests.data.splits.samples import run_python

NAMES = ["carret", "circlecc", "del", "down", "left", "right", "square", "star", "tick", "up"]


class TestChoice:
    def test_with_nothing_said_every_class_is_novel(self) -> None:
        assert select_classes(NAMES) == {"novel": tuple(NAMES)}

    def test_the_choice_of_a_seed_stays_what_it_is(self) -> None:
        chosen = select_classes(NAMES, base=5, val=2, seed=0)
        assert chosen == {
            "base": ("carret", "left", "square", "star", "tick"),
            "val": ("circlecc", "del"),
            "novel": ("down", "right", "up"),
        }
        assert select_classes(NAMES, base=5, val=2, seed=1) != chosen

    def test_it_is_the_same_in_another_process_and_order(self) -> None:
        program = (
            "from fewshot_i2v.data.splits.builder.class_selection import select_classes\n"
            f"print(select_classes({NAMES[::-1]!r}, base=5, val=2, seed=0))"
        )
        expected = select_classes(NAMES, base=5, val=2, seed=0)
        assert run_python(program, PYTHONHASHSEED="7").strip() == str(expected)

    def test_novel_classes_stay_while_the_base_classes_are_varied(self) -> None:
        novel = {select_classes(NAMES, base=n, novel=3)["novel"] for n in range(1, 8)}
        assert novel == {select_classes(NAMES, base=5, val=2)["novel"]}

    def test_spellings_of_one_text_in_unicode_have_one_rank(self) -> None:
        composed = [f"caf\u00e9 {i}" for i in range(12)]
        apart = [name.replace("\u00e9", "e\u0301") for name in composed]
        first, second = (select_classes(n, novel=4)["novel"] for n in (composed, apart))
        assert [name.replace("e\u0301", "\u00e9") for name in second] == list(first)

    @pytest.mark.parametrize(
        ("shares", "sizes"),
        [
            ({"base": 0.6, "val": 0.2, "novel": 0.2}, {"base": 7, "val": 3, "novel": 2}),
            ({"base": 0.7, "val": 0.2, "novel": 0.1}, {"base": 8, "val": 3, "novel": 1}),
            ({"base": 0.6}, {"base": 7, "novel": 5}),
            ({"novel": 5}, {"base": 7, "novel": 5}),
            ({"val": 2}, {"val": 2, "novel": 10}),
            ({"base": 2, "novel": 0.25}, {"base": 2, "novel": 3}),
            ({"base": 12, "novel": 0}, {"base": 12}),
            ({"base": ["c01", "c00"], "val": 2}, {"base": 2, "val": 2, "novel": 8}),
        ],
    )
    def test_shares(self, shares: dict[str, Any], sizes: dict[str, int]) -> None:
        names = [f"c{i:02d}" for i in range(12)]
        chosen = select_classes(names, **shares)
        assert {subset: len(row) for subset, row in chosen.items()} == sizes
        together = [name for row in chosen.values() for name in row]
        assert len(set(together)) == len(together)

    def test_named_classes_are_taken_and_the_others_drawn_as_without_them(self) -> None:
        chosen = select_classes(NAMES, novel=["up", "down"], val=3)
        assert chosen["novel"] == ("down", "up")
        rest = [name for name in NAMES if name not in chosen["novel"]]
        assert chosen["val"] == select_classes(rest, val=3, base=5, novel=0)["val"]

    @pytest.mark.parametrize(
        ("shares", "words"),
        [
            ({"base": 11}, "11 base: more than the 10 classes; expected fewer"),
            ({"base": 6, "novel": 5}, "6 base + 5 novel: more than the 10 classes"),
            ({"base": 10}, "novel: no class is left of 10"),
            ({"base": -1}, "base: got -1; expected a count from 0"),
            ({"base": True}, "base: got True"),
            ({"base": 1.0}, "base: got 1.0; expected a count such as 5, or a fraction"),
            ({"base": 0.04}, "base: 0.04 of 10 classes is no class"),
            ({"base": 0.6, "novel": 0.5}, "6 base + 5 novel: more than the 10"),
            ({"base": []}, "base: got []; expected names of classes"),
            ({"base": "up"}, "base: got 'up'; expected names of classes"),
            ({"base": ["up"], "val": ["up"]}, "val: class 'up' is already listed for base"),
            ({"base": ["up"], "val": 10}, "more than the 9 classes that are not named"),
            ({"seed": -1}, "seed: got -1; expected a whole number from 0"),
        ],
    )
    def test_shares_that_do_not_fit(self, shares: dict[str, Any], words: str) -> None:
        with pytest.raises(SplitError) as caught:
            select_classes(NAMES, **shares)
        assert words in str(caught.value)

    def test_an_unknown_class_is_named_with_the_nearest(self) -> None:
        with pytest.raises(UnknownNameError, match="unknown class 'lef'; did you mean 'left'"):
            select_classes(NAMES, novel=["lef"])

    @given(st.integers(0, 10), st.integers(0, 10), st.integers(0, 10), st.integers(0, 3))
    def test_every_class_is_in_one_subset_at_most(
        self, base: int, val: int, novel: int, seed: int
    ) -> None:
        if base + val + novel > len(NAMES):
            return
        chosen = select_classes(NAMES, base=base, val=val, novel=novel, seed=seed)
        together = [name for row in chosen.values() for name in row]
        assert len(together) == len(set(together)) == base + val + novel
        assert set(together) <= set(NAMES)


class TestGroups:
    def listing(self) -> ClipList:
        row = [Clip("w/a_p1.mp4"), Clip("w/b_p2.mp4", "p9")]
        return ClipList(Path("t.csv"), {"": {"wave": row}})

    def test_groups_of_the_pattern_and_of_the_table(self) -> None:
        split = make_split(
            self.listing(), {"novel": ("wave",)}, name="x", group=r"_(p\d)", group_scope="global"
        )
        assert [clip.group for clip in split.clips("novel", "wave")] == ["p1", "p9"]
        assert (split.group_scope, split.group_pattern) == ("global", r"_(p\d)")

    @pytest.mark.parametrize(
        ("pattern", "words"),
        [
            ("(", r"--group: '\(' is not a regular expression"),
            ("p", r"--group: 'p' has no \( \) around"),
            ("_(q)", r"t.csv: .*1 of 2 names do not match .* the first is 'w/a_p1.mp4'"),
        ],
    )
    def test_patterns_that_cannot_be_used(self, pattern: str, words: str) -> None:
        with pytest.raises(SplitError, match=words):
            make_split(self.listing(), {"novel": ("wave",)}, name="x", group=pattern)

    def test_the_name_must_be_one(self) -> None:
        with pytest.raises(SplitError, match="name: empty name"):
            make_split(self.listing(), {"novel": ("wave",)}, name=" ")


class TestWriting:
    def test_what_is_written_reads_back_with_comments_on_every_key(self, tmp_path: Path) -> None:
        touch(tmp_path, "clips/wave/a_p1.mp4", "clips/sit/b_p1.mp4", "clips/jump/c_p2.mp4")
        listing = import_folders(tmp_path / "clips")
        chosen = select_classes(list(listing.classes()), base=1, val=1)
        split = make_split(listing, chosen, name="mine", group=r"_(p\d)", licence="ours")
        path = tmp_path / "mine.yaml"
        assert write_new_split(split, path, "class folders") == [path]
        read = load_split(path, root=tmp_path / "clips")
        assert (read.digest, read.licence) == (split.digest, "ours")
        assert find_missing_clips(read) == []
        comments = [line for line in path.read_text().splitlines() if line.startswith("#")]
        for key in ("name", "version", "root", "find", "group", "group_scope", "subsets"):
            assert any(line.startswith(f"# {key} ") for line in comments), key
        assert max(map(len, comments)) <= 100

    def test_a_file_that_is_there_stays(self, tmp_path: Path) -> None:
        split = make_split(TestGroups().listing(), {"novel": ("wave",)}, name="x")
        path = tmp_path / "x.yaml"
        path.write_text("mine")
        with pytest.raises(SplitError, match="is already there"):
            write_new_split(split, path, "a table")
        assert path.read_text() == "mine"
        write_new_split(split, path, "a table", overwrite=True)
        assert load_split(path).name == "x"
        for wrong in (tmp_path / "x.yml.txt", tmp_path / "folder.yaml"):
            (tmp_path / "folder.yaml").mkdir(exist_ok=True)
            with pytest.raises(SplitError, match=r"expected (a name that ends in|the name of a)"):
                write_new_split(split, wrong, "a table")

    def test_long_lists_go_into_tables(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("fewshot_i2v.utils.yaml.MAX_VALUES", 1000)
        rows = {
            f"it's {c}": [Clip(f"{c}/{i:05d}_p{i}.mp4", str(i % 9)) for i in range(200)]
            for c in range(8)
        }
        listing = ClipList(tmp_path / "t.csv", {"": rows})
        chosen = select_classes(list(rows), base=3)
        split = make_split(listing, chosen, name="x")
        path = tmp_path / "new" / "it's.yaml"
        files = write_new_split(split, path, "a table")
        assert [file.name for file in files] == ["it's.base.csv", "it's.novel.csv", "it's.yaml"]
        assert load_split(path).digest == split.digest
        with pytest.raises(SplitError, match=r"it's.base.csv: is already there"):
            write_new_split(split, path, "a table")
        write_new_split(split, path, "a table", overwrite=True)
        assert sorted(file.name for file in path.parent.iterdir()) == [f.name for f in files]

    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        split = make_split(TestGroups().listing(), {"novel": ("wave",)}, name="x")
        with pytest.raises(SplitError, match=r"x.yaml: cannot be written"):
            write_new_split(split, tmp_path / "file" / "x.yaml", "a table")
