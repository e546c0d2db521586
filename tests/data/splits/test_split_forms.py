"""Compact classes, subsets of the same classes, published draws, and digests in split files."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewshot_i2v.data.splits.split import Clip, Split
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.errors import SplitError

ALL_WAY = """
name: gestures
find: name
group: '_g(\\d+)_'
defects:
  - one draw
subsets:
  train:
    wave hand: {id: '0', folder: Wave, clips: a_g1_1 a_g1_2 a_g2_1}
    point: {id: train7, clips: [b_g1_1, {clip: b_g2_1, group: x}]}
  test:
    point: [b_g3_1]
    wave hand:
      clips: |
        c_g3_1
        c_g4_1
draws:
  paper:
    - {wave hand: a_g1_1, point: b_g1_1}
    - {wave hand: [a_g2_1, a_g1_2], point: b_g1_1 b_g2_1}
"""


def read(folder: Path, text: str) -> Split:
    path = folder / "split.yaml"
    path.write_text(text, encoding="utf-8")
    return load_split(path)


def test_every_form_of_a_class_and_the_draws(tmp_path: Path) -> None:
    split = read(tmp_path, ALL_WAY)
    assert (split.find, split.defects) == ("name", ("one draw",))
    assert split.class_ids == {"wave hand": "0", "point": "train7"}
    assert split.clips("train", "wave hand") == (
        Clip("Wave/a_g1_1", "1"),
        Clip("Wave/a_g1_2", "1"),
        Clip("Wave/a_g2_1", "2"),
    )
    assert split.clips("train", "point") == (Clip("b_g1_1", "1"), Clip("b_g2_1", "x"))
    assert [clip.name for clip in split.clips("test", "wave hand")] == [
        "Wave/c_g3_1",
        "Wave/c_g4_1",
    ]
    one, two = split.draws["paper"]
    assert (one.shot, two.shot) == (1, 2)
    assert two.clips == {"wave hand": ("Wave/a_g2_1", "Wave/a_g1_2"), "point": ("b_g1_1", "b_g2_1")}


def test_the_digest_covers_the_draws_and_none_of_the_forms(tmp_path: Path) -> None:
    digest = read(tmp_path, ALL_WAY).digest
    same = ALL_WAY.replace("[a_g2_1, a_g1_2]", "a_g1_2 a_g2_1").replace("id: '0', ", "")
    assert read(tmp_path, same).digest == digest
    assert read(tmp_path, f"digest: {digest}\n{ALL_WAY}").digest == digest
    for old, new in (("- {wave hand: a_g1_1", "- {wave hand: a_g1_2"), ("paper", "other")):
        assert read(tmp_path, ALL_WAY.replace(old, new)).digest != digest
    without = read(tmp_path, ALL_WAY.partition("draws:")[0])
    assert without.digest != digest


def test_a_changed_list_does_not_fit_its_digest(tmp_path: Path) -> None:
    digest = read(tmp_path, ALL_WAY).digest
    changed = ALL_WAY.replace("c_g4_1", "c_g5_1")
    with pytest.raises(SplitError, match=f"split.yaml: digest: got '{digest}'; this list's is"):
        read(tmp_path, f"digest: {digest}\n{changed}")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  test:", "  novel:", "subsets: got train, novel; expected some of base, val, novel, or"),
        ("    point: [b_g3_1]\n", "", "subsets.test: no class 'point'; expected the same classes"),
        ("point: [b_g3_1]", "point: [b_g1_1]", "'b_g1_1' is already in subsets.train.point"),
        ("folder: Wave", "folder: ../Wave", "folder: '../Wave' is not a plain relative path"),
        ("id: '0'", "id: 0", "subsets.train.wave hand: id: got 0; expected text (in quotes"),
        ("    point: [b_g3_1]", "    point: {id: b, clips: c}", "elsewhere the class has 'train7'"),
        ("folder: Wave,", "dir: Wave,", "unknown key 'dir'"),
        ("point: b_g1_1}", "other: b_g1_1}", "unknown key 'other'"),
        (", point: b_g1_1}", "}", "draws.paper[0]: no clips of 'point'; expected every class"),
        ("point: b_g1_1 b_g2_1", "point: b_g1_1", "draws.paper[1]: 1 to 2 clips of a class"),
        ("point: b_g1_1 b_g2_1", "point: b_g1_1 b_g3_1", "'b_g3_1' not among the train clips"),
        ("point: b_g1_1 b_g2_1", "point: b_g1_1 b_g1_1", "draws.paper[1].point: a clip is there"),
        ("point: b_g1_1 b_g2_1", "point: 3", "draws.paper[1].point: got 3; expected clip names"),
        ("find: name", "find: names", "find: got 'names'; expected path, name, youtube"),
        ("  - one draw", "  one: draw", "defects: got {'one': 'draw'}; expected a list of text"),
    ],
)
def test_each_problem_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in ALL_WAY
    with pytest.raises(SplitError) as caught:
        read(tmp_path, ALL_WAY.replace(old, new))
    assert message in str(caught.value)


def test_draws_need_clips_to_be_taken_from(tmp_path: Path) -> None:
    text = "name: x\nsubsets: {novel: {a: [b.mp4]}}\ndraws: {paper: [{a: b.mp4}]}\n"
    with pytest.raises(SplitError, match="draws: there is no train subset"):
        read(tmp_path, text)
