"""The script that writes the published splits, and what it reads."""

from __future__ import annotations

import gzip
import importlib
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

from tests.data.splits.published import published

ROOT = Path(__file__).resolve().parents[2]
KSHOT = (2, 4, 8, 16)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("build_splits")


@pytest.fixture
def lists(script: ModuleType) -> ModuleType:
    """What reads the raw lists."""
    return importlib.import_module("_split_lists")


def content(path: Path) -> bytes:
    """The bytes of a file; of a compressed one those inside, since zlib's versions differ."""
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


@pytest.mark.shared
def test_the_shipped_files_are_what_it_writes(
    script: ModuleType, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the files it has written are compared below with those that were read for these
    monkeypatch.setattr(script, "load_split", lambda path: published()[path.stem])
    arguments = ["--lists", str(shared / "splits"), "--output", str(tmp_path)]
    result = CliRunner().invoke(script.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    written = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    names = {f"{name}.yaml" for name in script.DRAFTS}
    names |= {f"trials/{data}-a5.jsonl.gz" for data in ("hmdb51", "ucf101")}
    assert {path.as_posix() for path in written} == names
    for path in written:
        assert content(tmp_path / path) == content(ROOT / "episodes" / path), path
    assert all(name.removesuffix(".yaml") in result.output for name in names)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("data", "common"),
    [
        ("hmdb51", {1: [0, 0, 0, 0], 2: [36, 66, 144, 233], 3: [35, 78, 132, 254]}),
        ("ucf101", {1: [0, 0, 0, 0], 2: [84, 179, 314, 627], 3: [76, 150, 293, 623]}),
    ],
)
def test_only_the_first_test_list_has_no_clips_to_learn_from(
    lists: ModuleType, shared: Path, data: str, common: dict[int, list[int]]
) -> None:
    home = shared / "splits" / f"{data}-kshot-vificlip"
    for number, expected in common.items():
        tested = {stem for _, stem in lists.numbered(home / f"val{number}.txt")}
        drawn = (lists.numbered(home / f"train1_few_shot_{k}.txt") for k in KSHOT)
        assert [sum(stem in tested for _, stem in rows) for rows in drawn] == expected
    if data == "hmdb51":
        assert len(tested) == 1530
        assert round(100 * common[3][-1] / len(tested), 1) == 16.6
    a5 = shared / "splits" / f"{data}-5shot-cway-a5" / "train"
    tested = {stem for _, stem in lists.numbered(home / "val1.txt")}
    for path in a5.glob("*.list"):
        assert not tested & {stem for _, stem in lists.slashed(path)}


@pytest.mark.shared
@pytest.mark.parametrize(
    ("data", "table", "wrong"),
    [
        ("hmdb51", "hmdb_51_labels.csv", {"kick", "kick ball", "sword", "sword exercise"}),
        ("ucf101", "ucf_101_labels.csv", set()),
    ],
)
def test_which_names_the_table_of_classes_gets_wrong(
    lists: ModuleType, shared: Path, data: str, table: str, wrong: set[str]
) -> None:
    home = shared / "splits" / f"{data}-kshot-vificlip"
    names = lists.labels(home / table)
    files = (shared / "splits" / f"{data}-arn" / "fsar-lib").glob("*.txt")
    true = {stem: lists.readable(c) for path in files for c, stem in lists.slashed(path)}
    for path in home.glob("*.txt"):
        rows = lists.numbered(path)
        off = {true[stem] for number, stem in rows if lists.readable(names[number]) != true[stem]}
        assert off == wrong, path.name
    other = shared / "splits" / "xclip-labels" / table
    assert other.read_bytes() == (home / table).read_bytes()


@pytest.mark.shared
@pytest.mark.parametrize("data", ["hmdb51-arn", "ucf101-arn", "ssv2-small-cmn"])
@pytest.mark.parametrize("subset", ["train", "val", "test"])
def test_clip_fsar_has_the_same_clips(
    lists: ModuleType, shared: Path, data: str, subset: str
) -> None:
    home = shared / "splits" / data
    if data == "ssv2-small-cmn":
        mine = lists.slashed(home / f"cmn/{subset}.list")
        theirs = {stem for _, stem in lists.slashed(home / f"clip-fsar/{subset}_few_shot.txt")}
    else:
        mine = lists.slashed(home / f"fsar-lib/{subset}.txt")
        rows = lists.clip_fsar(home / f"clip-fsar/{subset}_few_shot.txt")
        theirs = {stem for *_, stem in rows}
    assert {stem for _, stem in mine} == theirs


@pytest.mark.shared
def test_clips_of_kinetics100_that_others_left_out_or_took_from_the_val_folder(
    lists: ModuleType, shared: Path
) -> None:
    home = shared / "splits" / "kinetics100-cmn"
    for subset, dropped, folders in (
        ("train", 13, (6038, 362)),
        ("val", 0, (1132, 68)),
        ("test", 3, (2251, 149)),
    ):
        mine = set(lists.slashed(home / f"cmn/{subset}.list"))
        theirs = set(lists.slashed(home / f"ta2n/{subset}list03.txt"))
        assert theirs <= mine
        assert len(mine - theirs) == dropped
        text = (home / f"clip-fsar/{subset}_few_shot.txt").read_text(encoding="utf-8")
        assert (text.count("//train_256/"), text.count("//val_256/")) == folders


@pytest.mark.parametrize("text", ["", "a 1\n\nb 2\n", "a 1\nb 2\na 1\n"])
def test_a_list_that_is_empty_or_says_a_thing_twice_is_refused(
    lists: ModuleType, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "some.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(click.ClickException, match=r"some\.txt: is empty, or has a line"):
        lists.numbered(path)


def test_readers(lists: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "list.txt.gz"
    path.write_bytes(gzip.compress(b"hurling (sport)/-a_b 1.x\n"))
    assert lists.slashed(path) == [("hurling (sport)", "-a_b 1.x")]
    path = tmp_path / "list.txt"
    path.write_text("test0//videos/kick_ball/F!(2007)_1.avi\n", encoding="utf-8")
    assert lists.clip_fsar(path) == [("test0", "kick_ball", "F!(2007)_1")]
    path.write_text("F!(2007)_1.avi 20\n", encoding="utf-8")
    assert lists.numbered(path) == [("20", "F!(2007)_1")]
    assert lists.readable("kick_ball") == "kick ball"
    assert lists.readable("YoYo") == "Yo Yo"
    assert lists.readable("Basketball") == "Basketball"


def test_a_list_that_is_not_there_is_named(script: ModuleType, tmp_path: Path) -> None:
    arguments = ["--lists", str(tmp_path), "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(script.main, arguments)
    assert result.exit_code == 1
    assert "hmdb51-arn/fsar-lib/train.txt: cannot be read" in result.output
    assert not (tmp_path / "out").exists()


def test_help(script: ModuleType) -> None:
    result = CliRunner().invoke(script.main, ["--help"])
    assert result.exit_code == 0
    assert "--lists" in result.output
    assert "--output" in result.output
