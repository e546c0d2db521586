"""Counts of splits, against the figures that the lists were recorded with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from fewshot_i2v.cli._root import cli
from fewshot_i2v.data.splits.split import Clip, Draw, Split
from fewshot_i2v.data.splits.summary import count_clips, counts_table
from fewshot_i2v.utils import resources
from tests.data.splits.published import run_on_read_splits

# classes / clips (smallest-median-largest class), as recorded when the lists were collected
RECORDED = {
    "hmdb51-arn": ["31 / 4,280 (102-116-548)", "10 / 1,194 (102-127-143)",
                   "10 / 1,292 (103-120-232)"],
    "ucf101-arn": ["70 / 9,154 (100-131-164)", "10 / 1,421 (114-150-167)",
                   "21 / 2,745 (109-126-166)"],
    "kinetics100-cmn": ["64 / 6,400 (100 each)", "12 / 1,200 (100 each)", "24 / 2,400 (100 each)"],
    "kinetics100-clip-fsar": ["64 / 6,400 (100 each)", "12 / 1,200 (100 each)",
                              "24 / 2,400 (100 each)"],
    "ssv2-small-cmn": ["64 / 6,400 (100 each)", "12 / 1,200 (100 each)", "24 / 2,400 (100 each)"],
    "ssv2-full-otam": ["64 / 67,013 (156-908-3170)", "12 / 1,926 (56-121-360)",
                       "24 / 2,857 (17-103-272)"],
    "ssv2-full-otam-77k": ["64 / 77,500 (174-1071-3529)", "12 / 1,926 (56-121-360)",
                           "24 / 2,857 (17-103-272)"],
}  # fmt: skip
TESTED = {"hmdb51-kshot": (51, 1530), "ucf101-kshot": (101, 3783), "ssv2-kshot": (174, 24777)}
DRAWN = {
    "hmdb51-kshot": {"vificlip": {2: 1, 4: 1, 8: 1, 16: 1}, "a5": {5: 10}},
    "ucf101-kshot": {"vificlip": {2: 1, 4: 1, 8: 1, 16: 1}, "a5": {5: 10}},
    "ssv2-kshot": {"vificlip": {2: 1, 4: 1, 8: 1, 16: 1}},
}


@pytest.fixture(scope="module")
def printed() -> list[str]:
    """The lines of the printed table."""
    result = run_on_read_splits("episodes", "counts")
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


@pytest.fixture(scope="module")
def table(printed: list[str]) -> dict[str, list[str]]:
    """What the table says: name -> cells."""
    rows = [line.strip("|").split("|") for line in printed[2:]]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in rows}


@pytest.mark.parametrize("name", RECORDED)
def test_episodic_lists_have_the_recorded_counts(table: dict[str, list[str]], name: str) -> None:
    assert table[name] == RECORDED[name]


def test_all_way_lists_have_the_recorded_counts_and_draws() -> None:
    result = run_on_read_splits("episodes", "counts", *TESTED, "--json")
    for row in json.loads(result.stdout):
        test = row["subsets"]["test"]
        assert (test["classes"], test["clips"]) == TESTED[row["name"]]
        drawn = {
            name: {int(k): n for k, n in found.items()} for name, found in row["draws"].items()
        }
        assert drawn == DRAWN[row["name"]]


def test_without_a_name_every_shipped_split_is_counted(table: dict[str, list[str]]) -> None:
    names = [name.removesuffix(" (generated)") for name in table]
    assert names == resources.data_names("episodes")
    assert {name for name in table if name.endswith("(generated)")} == {
        "motion-world (generated)",
        "motions (generated)",
        "shapes (generated)",
    }


def test_every_cell() -> None:
    clips = {"a": tuple(map(Clip, "12")), "b": tuple(map(Clip, "345678"))}
    split = Split(
        name="one | two",
        subsets={"train": clips, "test": {"a": (Clip("x"),), "b": (Clip("y"),)}},
        draws={"p": (Draw(1, {"a": ("1",), "b": ("3",)}),) * 2},
    )
    assert counts_table([count_clips(split)]).splitlines()[2] == (
        "| one \\| two | 2 / 8 (2-6-6); p: 2 x K = 1 | - | 2 / 2 (1 each) |"
    )


def test_what_is_not_there_is_named() -> None:
    result = CliRunner().invoke(cli, ["episodes", "counts", "hmdb"])
    assert result.exit_code == 2
    assert "unknown split 'hmdb'" in result.stderr
    assert result.stdout == ""


def test_a_split_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nsubsets: {novel: {folders: [.]}}\n", encoding="utf-8")
    result = CliRunner().invoke(cli, ["episodes", "counts", str(path), "motions"])
    assert result.exit_code == 2
    assert result.stdout.splitlines()[-1].startswith("| motions (generated) |")
    assert "error: " in result.stderr
    assert "mine.yaml" in result.stderr
    assert "next:" not in result.stderr


def test_the_guide_to_splits_has_this_table(printed: list[str]) -> None:
    guide = Path(__file__).parents[3] / "episodes" / "README.md"
    lines = guide.read_text(encoding="utf-8").splitlines()
    names = [*RECORDED, *TESTED]
    rows = [line for line in printed if line.strip("|").split("|")[0].strip() in names]
    assert len(rows) == len(names)
    assert all(line in lines for line in [*printed[:2], *rows])
