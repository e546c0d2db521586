"""What lists hide: every figure that the lists were recorded with, found from the files."""

from __future__ import annotations

import json
from itertools import combinations

import pytest
from click.testing import Result

from fewshot_i2v.data.episodes.sampler import EpisodeSampler
from fewshot_i2v.data.splits.audit import AuditFinding
from fewshot_i2v.data.splits.audit.audit import audit_split
from fewshot_i2v.data.splits.audit.group_leakage import same_group_probability
from fewshot_i2v.data.splits.audit.overlap import (
    compare_splits,
    pretraining_classes,
    pretraining_overlap,
)
from fewshot_i2v.data.splits.split import Clip, Split
from fewshot_i2v.errors import UnknownNameError
from tests.data.splits.published import published, run_on_read_splits

SPLITS = published()


def of_kind(findings: list[AuditFinding], kind: str, **facts: object) -> AuditFinding:
    """The one finding of a kind with these facts."""
    found = [f for f in findings if f.kind == kind and facts.items() <= f.facts.items()]
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize("shot", [1, 2, 3])
def test_the_chance_is_that_of_all_draws(shot: int) -> None:
    groups = ["a", "a", "b", None, "a", None, "b"]
    hits = total = 0
    for query in range(len(groups)):
        others = [i for i in range(len(groups)) if i != query]
        for support in combinations(others, shot):
            total += 1
            same = groups[query] is not None and any(groups[i] == groups[query] for i in support)
            hits += same
    assert same_group_probability(groups, shot) == pytest.approx(hits / total)


def test_the_chance_is_that_of_drawn_episodes() -> None:
    split = SPLITS["hmdb51-arn"]
    group = {c.name: c.group for n in split.classes("novel") for c in split.clips("novel", n)}
    sampler = EpisodeSampler(split, seed=0, way=10, shot=5, query=1)
    hits = 0
    for i in range(600):
        spec = sampler[i]
        for support, (query,) in zip(spec.support, spec.query, strict=True):
            hits += group[query] in {group[clip] for clip in support}
    found = of_kind(audit_split(split), "same group", subset="novel").facts["mean"][5]
    # 6,000 draws: a standard deviation of 0.45 points
    assert hits / 6000 == pytest.approx(found, abs=0.018)


@pytest.mark.parametrize(
    ("name", "subset", "one", "five"),
    [
        ("ucf101-arn", "novel", 3.4, 16),
        ("hmdb51-arn", "novel", 3.3, 14),
        ("hmdb51-arn", "val", 7.0, 23),
    ],
)
def test_queries_from_the_recording_of_a_support_clip(
    name: str, subset: str, one: float, five: float
) -> None:
    finding = of_kind(audit_split(SPLITS[name]), "same group", subset=subset)
    assert finding.grave
    assert 100 * finding.facts["mean"][1] == pytest.approx(one, abs=0.05)
    assert 100 * finding.facts["mean"][5] == pytest.approx(five, abs=0.5)
    if (name, subset) == ("hmdb51-arn", "novel"):
        assert 100 * finding.facts["worst"]["chance"] == pytest.approx(9.4, abs=0.06)


def test_titles_of_hmdb51_cross_the_subsets() -> None:
    facts = of_kind(
        audit_split(SPLITS["hmdb51-arn"]), "group crosses", **{"from": "base", "to": "novel"}
    )
    assert (facts.facts["clips"], facts.facts["of_clips"]) == (646, 1292)
    assert (facts.facts["groups"], facts.facts["of_groups"]) == (146, 354)
    # UCF101 calls the sources of every class g01 to g25: equal names mean nothing there
    assert not [f for f in audit_split(SPLITS["ucf101-arn"]) if f.kind == "group crosses"]


def test_official_lists_keep_sources_apart() -> None:
    for name in ("hmdb51-kshot", "ucf101-kshot"):
        assert not [f for f in audit_split(SPLITS[name]) if f.kind == "group crosses"]


@pytest.mark.parametrize(
    ("name", "kept", "of"),
    [("hmdb51-kshot", 7, 102), ("ucf101-kshot", 11, 202), ("ssv2-kshot", 0, 348)],
)
def test_draws_are_not_nested(name: str, kept: int, of: int) -> None:
    finding = of_kind(audit_split(SPLITS[name]), "draws", draws="vificlip")
    assert finding.facts["pairs"][0] == {"from": 2, "to": 4, "clips": kept, "of": of}


def test_ssv2_small_and_full_do_not_share_a_split() -> None:
    small, full = SPLITS["ssv2-small-cmn"], SPLITS["ssv2-full-otam"]
    found = {(f.facts["a"], f.facts["b"]): f for f in compare_splits(small, full)}
    counts = {key: (len(f.facts["classes"]), f.facts["clips"]) for key, f in found.items()}
    assert sum(classes for classes, _ in counts.values()) == 55
    assert counts["novel", "base"] == (7, 568)
    assert counts["base", "novel"][0] == 9
    assert counts["novel", "novel"] == (2, 20)
    assert counts["val", "base"][1] == 200
    assert "Poking a hole into something soft" in found["novel", "base"].facts["classes"]
    assert found["novel", "base"].grave
    assert not found["novel", "novel"].grave
    longer = compare_splits(small, SPLITS["ssv2-full-otam-77k"])
    assert of_kind(longer, "same class", a="novel", b="base").facts["clips"] == 700


def test_kinetics100_lists_differ_in_277_clips() -> None:
    one, other = SPLITS["kinetics100-cmn"], SPLITS["kinetics100-clip-fsar"]
    common = {f.facts["a"]: f.facts["clips"] for f in compare_splits(one, other)}
    assert common == {"base": 6400 - 179, "val": 1200 - 41, "novel": 2400 - 57}


def test_classes_too_small_for_five_shots_and_the_default_queries_are_named() -> None:
    sizes = {"few": 9, "enough": 10, "many": 11}
    classes = {c: tuple(Clip(f"{c}/{i}") for i in range(n)) for c, n in sizes.items()}
    finding = of_kind(audit_split(Split(name="s", subsets={"novel": classes})), "small class")
    assert finding.facts["classes"] == {"few": 9}
    assert finding.text == "novel: too few clips for 5 shots and 5 queries in few (9)"


def test_kinetics100_is_kinetics400() -> None:
    assert len(set(pretraining_classes()["kinetics400"].read_text().splitlines())) == 400
    found = {
        f.facts["subset"]: f for f in pretraining_overlap(SPLITS["kinetics100-cmn"], "kinetics400")
    }
    assert {s: len(f.facts["seen"]) for s, f in found.items()} == {
        "base": 64,
        "val": 12,
        "novel": 24,
    }
    assert found["novel"].grave
    novel = of_kind(
        pretraining_overlap(SPLITS["hmdb51-arn"], "kinetics400"), "seen", subset="novel"
    )
    assert novel.facts["seen"] == ["pushup"]
    with pytest.raises(UnknownNameError, match="unknown data set 'kinetics'"):
        pretraining_overlap(SPLITS["hmdb51-arn"], "kinetics")


def test_scenes_are_shared_between_classes() -> None:
    clips = {"up": ["1", "2", "3"], "down": ["1", "2", "2"], "left": ["9"]}
    split = Split(
        name="scenes",
        group_scope="global",
        subsets={
            "novel": {
                name: tuple(Clip(f"{name}/{i}.mp4", group) for i, group in enumerate(row))
                for name, row in clips.items()
            }
        },
    )
    finding = of_kind(audit_split(split), "same scene", subset="novel")
    # of "1" one pair, of "2" one clip with two others
    assert finding.facts["pairs"] == 3
    assert finding.facts["chance"] == pytest.approx((3 / 9 + 3 / 9 + 0 * 4) / 6)


def test_one_clip_under_two_spellings() -> None:
    def split(*names: str, find: str = "name") -> Split:
        rest = tuple(Clip(f"z/other {i}") for i in range(30))
        subsets = {"novel": {f"c{i}": (Clip(name),) for i, name in enumerate(names)} | {"z": rest}}
        return Split(name="x", subsets=subsets, find=find)  # type: ignore[arg-type]

    for names in (
        ("a/Wave_1", "b/wave 1.mp4"),
        ("a/Wave_video1", "b/wave_video1"),  # 11 characters, but no YouTube id
        ("a/-kYzxMKp514_000086_000096", "b/-kYzxMKp514"),
        ("a/caf\u00e9", "b/cafe\u0301"),
    ):
        assert of_kind(audit_split(split(*names)), "same clip").grave
    found = audit_split(split("a/001.mp4", "b/001.mp4", find="path"))
    assert not [f for f in found if f.kind == "same clip"]


def test_without_findings_nothing_is_said() -> None:
    classes = {f"c{c}": tuple(Clip(f"c{c}/{c}-{i}.mp4") for i in range(30)) for c in range(3)}
    assert audit_split(Split(name="clean", subsets={"novel": classes})) == []


def said(*args: str) -> Result:
    return run_on_read_splits("episodes", "audit", *args)


def test_what_is_printed() -> None:
    result = said("hmdb51-arn", "--seen-by", "kinetics400")
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    assert "3.3 % (1-shot) and 14.3 % (5-shot), up to 9.4 % in kick" in text
    assert "646 of 1,292 novel clips" in text
    assert "1 of 10 novel classes" in text
    assert "known defects of the list: 3" in text
    pair = " ".join(said("ssv2-small-cmn", "ssv2-full-otam", "--classes").stdout.split())
    assert "7 common classes, 568 common clips (of 2,400 and 67,013)" in pair
    assert "Twisting something" in pair


def test_status_and_json() -> None:
    assert said("hmdb51-arn", "--strict").exit_code == 1
    assert said("kinetics100-cmn", "--strict").exit_code == 0
    data = json.loads(said("ucf101-arn", "ucf101-kshot", "--json").stdout)
    assert list(data) == ["ucf101-arn", "ucf101-kshot", "ucf101-arn and ucf101-kshot"]
    bad = said("hmdb51-arn", "--seen-by", "k400")
    assert bad.exit_code == 2
    assert "unknown data set 'k400'" in bad.stderr
    assert said().exit_code == 2
