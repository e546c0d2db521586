"""Starting points: what of an evaluation they have seen, and whether it reads clips as they did."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fewshot_i2v.config.base import VideoConfig
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.errors import ConfigError
from fewshot_i2v.models.checkpoints.adapter_checkpoint import save_adapter
from fewshot_i2v.models.checkpoints.starting_point import (
    SeenOverlap,
    StartingPoint,
    StartingPointFacts,
    read_start,
)
from fewshot_i2v.models.encoders.loading import Encoder
from tests.data.splits.published import published
from tests.models.made_starts import facts, make_start
from tests.models.saved import tiny_encoder
from tests.models.tiny_adapters import make_adapter
from tests.tiny import tiny_split


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


# --- what was seen ------------------------------------------------------------------------------


def _start(tmp_path: Path, encoder: Encoder, **changes: Any) -> StartingPoint:
    make_start(tmp_path / "s", encoder, **changes)
    return read_start(tmp_path / "s", "st-adapter")


def test_classes_and_clips_count_by_name_whatever_the_split(
    tmp_path: Path, encoder: Encoder
) -> None:
    split = load_split(tiny_split(tmp_path))
    first, *_ = split.classes("novel")
    clip = split.clips("novel", first)[0].name
    elsewhere = {"name": "elsewhere", "version": 1, "digest": "0" * 64}
    spelled = f"({first.upper()})"
    chosen = {"classes": ["x", spelled], "clip_names": ["x.mp4", clip]}
    cases: list[tuple[dict[str, Any], SeenOverlap]] = [
        ({}, SeenOverlap()),
        ({"split": elsewhere, "classes": [first]}, SeenOverlap((first,))),
        ({"split": elsewhere, "classes": [spelled, "x"]}, SeenOverlap((first,))),
        (
            {"split": elsewhere | {"digest": split.digest}, "classes": [first]},
            SeenOverlap((first,)),
        ),
        ({"clip_names": [clip, "x.mp4"]}, SeenOverlap(clips=(clip,))),
        (
            {"validation": chosen},
            SeenOverlap(validation_classes=(first,), validation_clips=(clip,)),
        ),
        ({"validation": {"clip_names": [clip]}}, SeenOverlap(validation_clips=(clip,))),
    ]
    for i, (changes, expected) in enumerate(cases):
        seen = _start(tmp_path / str(i), encoder, **changes).facts.overlap_with(split, "novel")
        assert seen == expected
        assert bool(seen) == (i > 0)


def test_classes_of_two_splits_of_one_data_set_are_compared() -> None:
    """Two shipped splits of Something-Something, which have classes in common and no clip."""
    trained, asked = published()["ssv2-kshot"], published()["ssv2-full-otam"]
    about = facts(
        split={"name": trained.name, "version": trained.version, "digest": trained.digest},
        classes=list(trained.classes("train")),
        clip_names=[c.name for n in trained.classes("train") for c in trained.clips("train", n)],
    )
    seen = StartingPointFacts.model_validate(about).overlap_with(asked, "novel")
    assert len(seen.classes) == len(asked.classes("novel")) == 24
    assert set(seen.classes) <= set(asked.classes("novel")), "as the evaluation spells them"
    assert not seen.clips


def test_names_without_a_letter_are_compared_as_they_are(tmp_path: Path) -> None:
    split = _split(tmp_path, base=slice(1), novel=slice(1, None))
    clips = split.clips("novel", split.classes("novel")[0])
    named = replace(split, subsets={"novel": {"?!": clips, "\u00e9tir\u00e9": ()}})
    for trained, expected in (
        ("!?", ()),
        ("?!", ("?!",)),
        ("E\u0301tire\u0301", ("\u00e9tir\u00e9",)),
    ):
        about = StartingPointFacts.model_validate(facts(classes=[trained]))
        assert about.overlap_with(named, "novel").classes == expected


def test_base_and_novel_classes_of_generated_splits_stay_apart() -> None:
    for name in ("motions", "shapes"):
        split = load_split(name)
        if {"base", "novel"} <= split.subsets.keys():
            about = StartingPointFacts.model_validate(facts(classes=list(split.classes("base"))))
            assert about.overlap_with(split, "base").classes == split.classes("base")
            assert not about.overlap_with(split, "novel")


def _split(folder: Path, **classes: slice) -> Split:
    """The tiny split with its classes dealt out to subsets."""
    path = tiny_split(folder)
    head, _, listed = path.read_text().partition("  novel: [")
    names = listed.rstrip("]\n").split(", ")
    lines = [f"  {subset}: [{', '.join(names[part])}]\n" for subset, part in classes.items()]
    path.write_text(head + "".join(lines))
    return load_split(path)


def test_a_refusal_names_what_was_seen_and_where_to_go(tmp_path: Path, encoder: Encoder) -> None:
    split = _split(tmp_path, base=slice(2), novel=slice(2, None))
    trained = list(split.classes("base"))
    own = {"name": "tiny", "version": 1, "digest": split.digest}
    clips = [clip.name for name in trained for clip in split.clips("base", name)]
    start = _start(tmp_path, encoder, split=own, classes=trained, clip_names=clips)
    start.check_unseen(split, "novel")
    with pytest.raises(ConfigError) as raised:
        start.check_unseen(split, "base")
    message = str(raised.value)
    assert f"2 classes ({', '.join(sorted(trained))}) and {len(clips)} clips (" in message
    assert "give --subset novel, or --allow-seen" in message


def test_classes_that_chose_the_state_count_like_those_trained_on(
    tmp_path: Path, encoder: Encoder
) -> None:
    split = _split(tmp_path, base=slice(1), val=slice(1, 2), novel=slice(2, None))
    trained, chosen = list(split.classes("base")), list(split.classes("val"))
    digest = {"name": "renamed", "version": 1, "digest": split.digest}
    named = {"name": "tiny", "version": 1, "digest": "0" * 64}
    elsewhere = named | {"name": "elsewhere"}
    watched = {"classes": trained, "validation": {"subset": "val", "classes": chosen}}
    for own in (digest, named, elsewhere):
        start = _start(tmp_path / str(own["name"]), encoder, split=own, **watched)
        seen = start.facts.overlap_with(split, "val")
        assert seen == SeenOverlap(validation_classes=tuple(chosen))
        assert seen
        assert not start.facts.overlap_with(split, "base").validation_classes
        assert not start.facts.overlap_with(split, "novel")


def test_a_refusal_says_that_the_state_was_chosen_on_the_classes(
    tmp_path: Path, encoder: Encoder
) -> None:
    split = _split(tmp_path, base=slice(1), val=slice(1, 2), novel=slice(2, None))
    (chosen,) = split.classes("val")
    start = _start(
        tmp_path,
        encoder,
        split={"name": "tiny", "version": 1, "digest": split.digest},
        classes=list(split.classes("base")),
        validation={"subset": "val", "classes": [chosen]},
    )
    start.check_unseen(split, "novel")
    with pytest.raises(ConfigError) as raised:
        start.check_unseen(split, "val")
    message = str(raised.value)
    assert f"'val' of split 'tiny' has 1 class ({chosen}) that its state was chosen on" in message
    assert "give --subset novel, or --allow-seen" in message
    with pytest.raises(ConfigError, match=r"has 1 class \(.*\) that it was trained on\. The"):
        start.check_unseen(split, "base")


def test_a_refusal_names_all_that_is_shared(tmp_path: Path, encoder: Encoder) -> None:
    split = load_split(tiny_split(tmp_path))
    first, second, *_ = split.classes("novel")
    clips = [split.clips("novel", name)[0].name for name in (first, second)]
    chosen = {"subset": "val", "classes": [second.upper()], "clip_names": [clips[1], "x.mp4"]}
    changes: dict[str, Any] = {"classes": [first.upper()], "clip_names": [clips[0]]}
    start = _start(tmp_path, encoder, validation=chosen, **changes)
    with pytest.raises(ConfigError) as raised:
        start.check_unseen(split, "novel")
    assert (
        f"has 1 class ({first}) and 1 clip ({clips[0]}) that it was trained on, and 1 class "
        f"({second}) and 1 clip ({clips[1]}) that its state was chosen on. The"
    ) in str(raised.value)


@pytest.mark.parametrize("validation", [None, {"subset": None, "classes": []}])
def test_starts_that_no_class_chose_have_none(
    tmp_path: Path, encoder: Encoder, validation: dict[str, Any] | None
) -> None:
    split = load_split(tiny_split(tmp_path))
    about = facts(split={"name": "tiny", "version": 1, "digest": split.digest})
    del about["validation"]
    if validation is not None:
        about["validation"] = validation
    save_adapter(
        tmp_path / "s",
        encoder,
        "st-adapter",
        make_adapter("st-adapter", encoder.tower, frames=4, seeds=[0]),
        about={"start": about},
    )
    start = read_start(tmp_path / "s", "st-adapter")
    assert start.facts.validation.classes == []
    assert start.facts.validation.clip_names == []
    assert not start.facts.overlap_with(split, "novel")


# --- how clips were read ------------------------------------------------------------------------


def test_another_reading_of_clips_is_named_key_by_key(tmp_path: Path, encoder: Encoder) -> None:
    video = {"frames": 4, "policy": "uniform", "stride": 3, "crop": 1.0}
    start = _start(tmp_path, encoder, config={"video": video, "precision": "bf16"})
    alike = VideoConfig(frames=4, policy="uniform", stride=2, crop=1)
    assert not start.input_mismatch(alike, "bf16", encoder)
    assert not start.input_mismatch(alike, "fp32", encoder), "precision alone"
    said = start.input_mismatch(VideoConfig(frames=8, policy="dense", crop=1), "fp32", encoder)
    assert said == (
        "trained with video.frames 4, video.policy uniform, precision bf16; "
        "the run has video.frames 8, video.policy dense, precision fp32"
    )
    larger = tiny_encoder(tmp_path, image_size=64)
    said = start.input_mismatch(alike, "bf16", larger)
    assert said == "trained with image size 32; the run has image size 64"


def test_what_a_start_does_not_say_of_its_reading_is_not_compared(
    tmp_path: Path, encoder: Encoder
) -> None:
    start = _start(tmp_path, encoder)
    assert not start.input_mismatch(VideoConfig(frames=4, crop=0.5), "bf16", encoder)
    assert "video.frames 4" in start.input_mismatch(VideoConfig(frames=8), "bf16", encoder)
