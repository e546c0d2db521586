"""Figures about lists that are not shipped, from the lists themselves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fewshot_i2v.data.splits.audit.overlap import compare_splits
from tests.data.splits.published import names, published, youtube

pytestmark = pytest.mark.shared

BOTH = {
    ("novel", "base"): (
        "Dropping something into something",
        "Poking a hole into something soft",
        "Pushing something off of something",
        "Spinning something that quickly stops spinning",
        "Squeezing something",
        "Twisting (wringing) something wet until water comes out",
        "Twisting something",
    ),
    ("base", "novel"): (
        "Approaching something with your camera",
        "Dropping something onto something",
        "Lifting up one end of something without letting it drop down",
        "Poking a stack of something without the stack collapsing",
        "Pretending to open something without actually opening it",
        "Pretending to put something underneath something",
        "Removing something, revealing something behind",
        "Showing that something is empty",
        "Spilling something behind something",
    ),
}
"""Classes of SSv2-Small and SSv2-Full in these subsets."""


def lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


@pytest.mark.parametrize(("subset", "file", "gone"), [
    ("base", "train", 13), ("val", "val", 0), ("novel", "test", 3),
])  # fmt: skip
def test_ta2n_left_clips_of_kinetics100_out(
    shared: Path, subset: str, file: str, gone: int
) -> None:
    left = youtube(lines(shared / "splits/kinetics100-cmn/ta2n" / f"{file}list03.txt"))
    whole = youtube(names(published()["kinetics100-cmn"], subset))
    assert left <= whole
    assert len(whole - left) == gone


@pytest.mark.parametrize(
    ("people", "found"), [(r"np\d", (645, 146, 356)), (r"np\d+", (646, 146, 354))]
)
def test_titles_of_hmdb51_by_how_many_people_a_name_may_have(
    shared: Path, people: str, found: tuple[int, int, int]
) -> None:
    """The recorded 645 reads ten people and more as part of the title, the shipped list not."""

    def titles(file: str) -> list[str]:
        result = []
        for line in lines(shared / "splits/hmdb51-arn/fsar-lib" / file):
            folder, _, stem = line.partition("/")
            end = rf"_{re.escape(folder)}_[fuhl]_(?:cm|nm)_{people}_\w\w_\w{{3}}_\d+$"
            result.append(re.sub(end, "", stem))
        return result

    base, novel = set(titles("train.txt")), titles("test.txt")
    crossing = sum(title in base for title in novel)
    assert (crossing, len(base & set(novel)), len(set(novel))) == found


def test_classes_that_are_novel_here_and_base_there() -> None:
    small, full = published()["ssv2-small-cmn"], published()["ssv2-full-otam"]
    found = {(f.facts["a"], f.facts["b"]): f.facts["classes"] for f in compare_splits(small, full)}
    assert {key: tuple(found[key]) for key in BOTH} == BOTH
