"""Configurations of trainings: what is refused, what is shipped, what identifies a result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fewshot_i2v.config.base import VideoConfig
from fewshot_i2v.config.loading import load_run_config, load_train_config
from fewshot_i2v.config.training import AugmentConfig
from fewshot_i2v.errors import ConfigError, UnknownNameError
from fewshot_i2v.utils import resources

_LEAST = {"split": "motions", "adapter": "st-adapter"}


def test_shipped_configurations_load_by_their_short_names() -> None:
    assert load_train_config().name == "motions"
    assert load_train_config("motions") == load_train_config("train/motions")
    gestures = load_train_config("egogestar")
    assert gestures.validation.subset is None
    assert not gestures.validation.enabled
    assert gestures.augment.flip == "off"


@pytest.mark.parametrize(
    "name", [n for n in resources.data_names("configs") if n.startswith("train/")]
)
def test_every_shipped_configuration_of_a_training_loads(name: str) -> None:
    config = load_train_config(name)
    assert config.name == name.removeprefix("train/")
    assert config.source, "a recipe says where it is from"


@pytest.mark.parametrize(
    ("width", "lr"), [(64, 0.004), (128, 0.004), (129, 0.002), (192, 0.002), (768, 0.002)]
)
def test_the_rate_goes_by_the_width_of_the_encoder(width: int, lr: float) -> None:
    keys = {**_LEAST, "lr_by_width": {192: 0.002, 128: 0.004}}
    config = load_train_config(keys)
    resolved = config.at_width(width)
    assert resolved.lr == lr
    # the same training as with the rate itself: either continues the other
    assert resolved.identity() == load_train_config({**_LEAST, "lr": lr}).identity()


def test_a_rate_that_is_set_wins_over_that_of_the_width() -> None:
    keys = {**_LEAST, "lr_by_width": {192: 0.002}}
    config = load_train_config(keys)
    assert load_train_config(keys, {"lr": 0.5}).at_width(192).lr == 0.5
    # what is written and read again, as by train("...", steps=5), takes the same rate
    again = load_train_config(config.model_dump(), {"steps": 5})
    assert again.at_width(192).lr == 0.002
    assert "lr_by_width" not in load_train_config(_LEAST).at_width(192).identity()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"lr_by_width": {0: 0.1}}, "lr_by_width"),
        ({"lr_by_width": {192: -0.1}}, "lr_by_width"),
        ({"subset": "novel"}, "novel classes are for evaluation"),
        ({"validation": {"subset": "novel"}}, "would make its figures too good"),
        ({"subset": "test"}, "test clips are for evaluation"),
        ({"validation": {"subset": "test"}}, "clips of the evaluation would make its figures"),
        ({"inner": {"second_order": True}}, "no meaning for the objective episodic"),
        ({"subset": "val"}, "both 'val'"),
        ({"validation": {"subset": "val", "classes": ["grows"]}}, "not both"),
        ({"objective": "protonet"}, "episodic"),
        ({"accumulate": 3}, "does not divide batch 4"),
        ({"objective": "both", "accumulate": 4, "clips": 30}, "does not divide clips 30"),
        ({"video": {"policy": "dense"}}, "needs video.policy segment-center"),
        ({"classifier": "prototype"}, "expected linear"),
        ({"augment": {"crop_scale": [0.9, 0.5]}}, "0 < smallest <= largest <= 1"),
        ({"augment": {"colour": 1.5}}, "augment.colour"),
        ({"lr": float("inf")}, "lr"),
        ({"adapter": "frozen"}, "nothing to train"),
    ],
)
def test_what_cannot_be_trained_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_train_config(_LEAST | keys)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"adapter": "st-adaptor"}, "st-adapter"),
        ({"head": "prototipe"}, "prototype"),
        ({"validation": {"head": "otan"}}, "otam"),
        ({"validation": {"evry": 5}}, "validation.every"),
        ({"augmentt": {}}, "augment"),
    ],
)
def test_unknown_names_are_answered_with_near_ones(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        load_train_config(_LEAST | keys)


def test_overrides_change_one_key_of_a_section() -> None:
    data = _LEAST | {"validation": {"every": 7, "shot": 3}, "augment": {"colour": 0.1}}
    config = load_train_config(data, {"validation.every": 9, "augment.flip": "on", "inner.lr": 0.5})
    assert (config.validation.every, config.validation.shot) == (9, 3)
    assert (config.augment.flip, config.augment.colour) == ("on", 0.1)
    assert config.inner.lr == 0.5
    assert config.inner.steps == 5


def test_all_augmentation_is_switched_off_by_one_word() -> None:
    config = load_train_config(_LEAST, {"augment": "off"})
    assert not config.augment.active
    assert AugmentConfig().active
    again = load_train_config(_LEAST | {"augment": "off"}, {"augment.colour": 0.2})
    assert again.augment == AugmentConfig(flip="off", crop_scale=None, colour=0.2, temporal=False)


def test_held_out_classes_take_the_place_of_the_files_subset() -> None:
    assert load_train_config("motions").validation.subset == "val"
    config = load_train_config("motions", {"validation.classes": ["grows", "shrinks"]})
    assert config.validation.subset is None
    assert config.validation.classes == ("grows", "shrinks")


def test_held_out_classes_take_the_place_of_the_default_subset() -> None:
    config = load_train_config(_LEAST | {"validation": {"classes": ["grows", "shrinks"]}})
    assert config.validation.subset is None
    assert config.validation.enabled
    assert load_train_config(_LEAST | {"validation": {"subset": "off"}}).validation.subset is None


def test_on_other_clips_than_those_of_motions_flags_start_from_the_defaults(
    tmp_path: Path,
) -> None:
    mine = str(tmp_path / "mine.yaml")
    config = load_train_config(None, {"split": mine, "adapter": "lora"})
    assert config == load_train_config({"split": mine, "adapter": "lora", "name": "mine"})
    assert config.video.crop == VideoConfig().crop
    assert load_train_config(None, {"split": "motions", "way": 3}).steps == 900
    named = load_train_config("motions", {"split": mine})
    assert (named.steps, named.video.crop, named.name) == (900, 1.0, "motions")
    with pytest.raises(ConfigError, match=r"the defaults: adapter: missing.*--adapter") as refused:
        load_train_config(None, {"split": mine})
    assert "list adapters" in str(refused.value)


def test_start_training_and_evaluation_of_other_clips_read_them_alike() -> None:
    keys: dict[str, Any] = {"split": "mine.yaml", "encoder.name": "ViT-B-16"}
    keys |= {"encoder.pretrained": "openai"}
    world = load_train_config("motion-world")
    own = load_train_config(None, keys | {"adapter": "aim", "start": "starts/world"})
    evaluation = load_run_config(None, keys | {"adapter": ["aim"], "start": ["starts/own"]})
    assert world.video == own.video == evaluation.video
    assert world.encoder == own.encoder == evaluation.encoder
    assert world.precision == own.precision == evaluation.precision


def test_identity_leaves_out_where_things_are(tmp_path: Path) -> None:
    here = {"split": "/somewhere/mine.yaml", "root": "/clips", "cache": "/c", "output": "/o"}
    there = {"split": "/elsewhere/mine.yaml", "workers": 3, "device": "cuda", "save_every": 9}
    there["limits"] = {"frames": 9, "pixels": 9, "seconds": 9.0, "memory": 9.0}
    first, second = (
        load_train_config(_LEAST | keys).identity() for keys in (here, there | {"name": "other"})
    )
    assert first == second
    assert first["split"] == "mine"
    assert load_train_config(_LEAST | here | {"seed": 1}).identity() != first
    assert str(tmp_path) not in str(first)


def test_clips_of_a_step() -> None:
    keys = {"way": 5, "shot": 1, "query": 2, "batch": 4, "clips": 32}
    counts = {
        objective: load_train_config(_LEAST | keys | {"objective": objective}).clips_per_step
        for objective in ("episodic", "classify", "both", "reptile")
    }
    assert counts == {"episodic": 60, "classify": 32, "both": 92, "reptile": 60}
