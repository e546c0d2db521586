"""Recipes of training: which one is taken, and what wins over it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fewshot_i2v.config import recipes
from fewshot_i2v.config.keys import config_keys
from fewshot_i2v.config.loading import load_train_config
from fewshot_i2v.config.recipes import TrainingSettings, find_recipe, load_recipe_file
from fewshot_i2v.config.training import TrainingConfig
from fewshot_i2v.config.training_recipes import take_recipe
from fewshot_i2v.errors import ConfigError, UsageError
from fewshot_i2v.utils.resources import data_folder

SAMPLE = """
adapter: aim
recipes:
  - {name: auto, tuning: {steps: 11}, evidence: a}
training:
  - name: auto
    objective: both
    settings: {steps: 40, lr: 0.02, head: otam, validation: {every: 10, head: otam}}
    evidence: b
"""
_LEAST = {"split": "motions", "adapter": "aim", "objective": "both"}
_STARTS = data_folder("configs") / "starts" / "demo-motions"
_ADAPTERS = sorted(folder.name for folder in _STARTS.iterdir())


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recipes of `SAMPLE` in place of the shipped ones, for all adapters."""
    path = tmp_path / "aim.yaml"
    path.write_text(SAMPLE)
    monkeypatch.setattr(recipes, "recipe_paths", lambda _adapter: [path])
    return path


def _taken(overrides: dict[str, Any] | None = None, **keys: Any) -> dict[str, Any]:
    return dict(take_recipe(load_train_config(_LEAST | keys, overrides)).taken)


@pytest.mark.parametrize("adapter", _ADAPTERS)
def test_the_recipe_with_the_shipped_file_is_how_the_shipped_start_was_trained(
    adapter: str,
) -> None:
    facts = json.loads((_STARTS / adapter / "adapter.json").read_text())["about"]["start"]
    trained = facts["config"]
    trained["video"].setdefault("backend", "pyav")  # a later key
    config = load_train_config("motions", {"adapter": adapter, "precision": "bf16"})
    assert json.loads(json.dumps(take_recipe(config).config.identity())) == trained


def test_tuning_and_training_read_one_file(sample: Path) -> None:
    assert find_recipe("auto", "aim", trained=False, shots=1) == {"steps": 11}
    used = take_recipe(load_train_config(_LEAST))
    assert (used.config.steps, used.config.lr) == (40, 0.02)
    assert (used.config.head.name, used.config.validation.head.name) == ("otam", "otam")
    assert used.config.validation.every == 10
    assert used.config.validation.subset == "val", "the rest of the section is as before"


def test_fields_of_a_recipe_are_those_of_a_training() -> None:
    keys, all_keys = config_keys(TrainingSettings), config_keys(TrainingConfig)
    assert keys == {key: all_keys[key] for key in keys}
    assert {"steps", "lr", "head", "validation.every", "validation.head"} <= keys.keys()


def test_the_remark_has_values_as_a_user_writes_them(sample: Path) -> None:
    sample.write_text(SAMPLE.replace("steps: 40,", "steps: 40, clip_norm: off,"))
    assert (
        "aim.yaml): clip_norm off, head otam, lr 0.02,"
        in take_recipe(load_train_config(_LEAST)).remark
    )


def test_keys_that_are_set_win_over_the_recipe(sample: Path) -> None:
    everything = {"steps", "lr", "head", "validation.every", "validation.head"}
    assert _taken().keys() == everything
    assert _taken(lr=0.001).keys() == everything - {"lr"}, "also where it is the default"
    assert _taken({"lr": 0.3}).keys() == everything - {"lr"}
    assert _taken(validation={"every": 5}).keys() == everything - {"validation.every"}
    assert _taken({"validation.head": "otam"}).keys() == everything - {"validation.head"}
    used = take_recipe(load_train_config(_LEAST | {"lr": 0.001}, {"steps": 40}))
    assert (used.config.lr, used.config.steps) == (0.001, 40)
    assert used.not_taken == {"lr": 0.02}, "steps are as in the recipe"
    assert "Set otherwise, and so not taken: lr 0.02." in used.remark


def test_a_rate_by_the_width_is_a_rate_that_is_set(sample: Path) -> None:
    used = take_recipe(load_train_config(_LEAST | {"lr_by_width": {192: 0.002}}))
    assert "lr" not in used.taken
    assert used.not_taken == {"lr": 0.02}
    assert used.config.at_width(192).lr == 0.002
    assert used.config.steps == 40


def test_none_and_other_objectives_have_the_defaults(sample: Path) -> None:
    for keys in ({"recipe": "none"}, {"objective": "episodic"}):
        config = load_train_config(_LEAST | keys)
        used = take_recipe(config)
        assert used.config.recipe == "none"
        assert used.config.identity() == config.identity()
        assert (used.config.steps, used.config.lr) == (300, 0.001)
    assert "with the objective episodic; for both there is one" in used.remark


def test_an_adapter_without_a_recipe_has_the_defaults_and_it_is_said() -> None:
    used = take_recipe(load_train_config(_LEAST | {"adapter": "lora"}))
    assert used.config.model_dump() == TrainingConfig(
        **_LEAST | {"adapter": {"name": "lora"}, "recipe": "none"}
    ).model_dump() | {"name": used.config.name}
    assert "no recipe of training for lora with the objective both. Keys" in used.remark


def test_a_taken_recipe_takes_nothing_the_second_time(sample: Path) -> None:
    used = take_recipe(load_train_config(_LEAST))
    written = load_train_config(used.config.model_dump())
    again = take_recipe(written)
    assert not again.taken
    assert again.config.identity() == used.config.identity()


def test_its_values_are_part_of_the_identity_and_its_name_is_not(sample: Path) -> None:
    used = take_recipe(load_train_config(_LEAST)).config
    keys = {"steps": 40, "lr": 0.02, "head": "otam", "validation": {"every": 10, "head": "otam"}}
    explicit = load_train_config(_LEAST | keys | {"recipe": "none"})
    assert used.recipe == "auto"
    assert used.identity() == explicit.identity()
    without = take_recipe(load_train_config(_LEAST | {"recipe": "none"})).config
    assert used.identity() != without.identity()


def _rate_and_steps(source: str | Path, **overrides: Any) -> tuple[float, int]:
    config = take_recipe(load_train_config(str(source), overrides)).config
    return config.lr, config.steps


def test_a_shipped_file_yields_to_the_recipe_of_another_adapter(sample: Path) -> None:
    assert _rate_and_steps("motions") == (0.004, 900)
    assert _rate_and_steps("motions", adapter="aim") == (0.02, 40)
    assert _rate_and_steps("motions", adapter="aim:scale=1.0", lr=0.5) == (0.5, 40)
    assert _rate_and_steps("motions", adapter="aim", recipe="none") == (0.004, 900)
    assert _rate_and_steps("motions", adapter="aim", objective="classify") == (0.004, 900)
    path = data_folder("configs") / "train" / "motions.yaml"
    assert _rate_and_steps(path, adapter="aim") == (0.02, 40)


def test_a_shipped_file_wins_for_its_own_adapter(sample: Path) -> None:
    assert _rate_and_steps("motions", adapter="st-adapter:width=64") == (0.004, 900)


def test_a_file_of_the_user_wins_whatever_the_adapter(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text((data_folder("configs") / "train" / "motions.yaml").read_text())
    assert _rate_and_steps(path, adapter="aim") == (0.004, 900)
    used = take_recipe(load_train_config(path, {"adapter": "aim"}))
    assert not used.taken
    monkeypatch.chdir(data_folder("configs"))
    mapping = _LEAST | {"adapter": "lora", "lr": 0.3}
    assert take_recipe(load_train_config(mapping, {"adapter": "aim"})).config.lr == 0.3
    assert "nothing is taken, its keys are set. Set otherwise" in used.remark


@pytest.mark.parametrize("name", ["egogestar", "motion-world"])
def test_other_shipped_files_take_a_recipe_only_if_it_is_asked_for(sample: Path, name: str) -> None:
    config = load_train_config(name, {"adapter": "aim"})
    assert not take_recipe(config).taken
    keys = {"adapter": "zeroi2v", "recipe": "auto", "objective": "both"}
    used = take_recipe(load_train_config(name, keys))
    assert used.config.at_width(768).lr == 0.02


def test_an_unknown_recipe_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"recipe: got 'published'; expected .*auto.*none"):
        load_train_config(_LEAST | {"recipe": "published"})


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("steps: 40", "stpes: 40", r"training\[0\].settings.stpes.*aim.yaml"),
        ("steps: 40", "way: 40", r"way.*aim.yaml"),
        ("steps: 40", "steps: 0", r"aim.yaml: training\[0\].settings.steps: got 0"),
        ("every: 10", "subset: novel", r"subset.*aim.yaml"),
        ("objective: both", "objective: all", r"training\[0\].objective: got 'all'"),
        ("evidence: b", "evidence: ''", r"training\[0\].evidence"),
        ("name: auto\n", "name: fast\n", r"training\[0\].name: got 'fast'"),
    ],
)
def test_mistakes_in_a_file_are_named(sample: Path, old: str, new: str, said: str) -> None:
    assert old in SAMPLE
    sample.write_text(SAMPLE.replace(old, new))
    with pytest.raises(UsageError, match=said):
        load_recipe_file(sample)


def test_two_recipes_of_one_objective_are_refused(sample: Path) -> None:
    entry = SAMPLE[SAMPLE.index("  - name: auto\n") :]
    sample.write_text(SAMPLE + entry)
    with pytest.raises(
        ConfigError, match=r"training\[1\] \(objective both\) is never taken: train"
    ):
        load_recipe_file(sample)
