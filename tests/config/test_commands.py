"""A configuration of `train` given to `evaluate`, and the other way round, is named as such."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fewshot_i2v.config.loading import load_train_config
from fewshot_i2v.errors import ConfigError, UnknownNameError, UsageError
from fewshot_i2v.evaluation.row_expansion import load_config
from fewshot_i2v.utils import resources

SHIPPED = resources.data_names("configs")
LEAST = "split: motions\nadapter: aim\n"
Load = Callable[..., Any]


def _file(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(LEAST + text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", [n for n in SHIPPED if n.startswith("train/")])
def test_evaluate_says_that_a_shipped_configuration_is_of_train(name: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(name)
    message = str(raised.value)
    assert f"{name}.yaml: a configuration of `fewshot-i2v train`" in message
    assert "`fewshot-i2v evaluate` has no objective," in message
    assert "\n" not in message, "one cause, one line"


@pytest.mark.parametrize("name", [n for n in SHIPPED if not n.startswith("train/")])
def test_train_says_that_a_shipped_configuration_is_of_evaluate(name: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_train_config(name)
    message = str(raised.value)
    assert f"{name}.yaml: a configuration of `fewshot-i2v evaluate`" in message
    assert re.search("`fewshot-i2v train` has no (citation|episodes)", message)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("load", "text", "mine", "other", "keys"),
    [
        (load_config, "objective: both\n", "evaluate", "train", "objective"),
        (load_config, "validation: {every: 5}\nlr: 0.1\n", "evaluate", "train", "validation, lr"),
        (load_config, "objective: nonsense\nway: 1\n", "evaluate", "train", "objective"),
        (load_train_config, "tuning: {steps: 3}\n", "train", "evaluate", "tuning"),
        (load_train_config, "untuned: true\n", "train", "evaluate", "untuned"),
    ],
)
def test_keys_of_the_other_command_in_a_file_say_whose_it_is(
    tmp_path: Path, load: Load, text: str, mine: str, other: str, keys: str
) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(ConfigError) as raised:
        load(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: a configuration of `fewshot-i2v {other}`")
    assert f"`fewshot-i2v {mine}` has no {keys}. " in message


@pytest.mark.parametrize(
    ("load", "text", "key", "other"),
    [
        (load_config, "tuning: {steps: 3}\nobjective: both\n", "objective", "train"),
        (load_train_config, "objective: both\nrecipes: {}\ntuning: {}\n", "tuning", "evaluate"),
        (load_train_config, "objective: both\nepisodes: 3\n", "episodes", "evaluate"),
        (load_config, "lr: 0.1\n", "lr", "train"),
        (load_config, "lr: 0.1\nway: 1\n", "lr", "train"),
    ],
)
def test_a_file_with_keys_of_both_or_of_a_section_is_not_given_away(
    tmp_path: Path, load: Load, text: str, key: str, other: str
) -> None:
    with pytest.raises(UsageError) as raised:
        load(_file(tmp_path, text))
    message = str(raised.value)
    assert f"unknown config key {key!r}" in message
    assert f"of `fewshot-i2v {other}`." in message
    assert "a configuration of" not in message


def test_both_places_of_a_key_are_named() -> None:
    with pytest.raises(
        UnknownNameError, match="'lr' is a key of 'tuning' and of `fewshot-i2v train`"
    ):
        load_config({"split": "motions", "adapter": "aim", "lr": 0.1})
    with pytest.raises(UnknownNameError, match=r"is a key of 'validation' and of .*evaluate`"):
        load_train_config("motions", {"episodes": 3})


def test_an_override_of_the_other_command_does_not_give_the_file_away() -> None:
    with pytest.raises(UnknownNameError) as raised:
        load_config("quickstart", {"objective": "both"})
    message = str(raised.value)
    assert "'objective' is a key of `fewshot-i2v train`." in message
    assert "from a flag or override" in message


DRY_RUN = """\
config:
  split: motions
  adapter: aim
first_episode: {index: 0}
cost:
  multiply_accumulates: 7
"""


@pytest.mark.parametrize("load", [load_config, load_train_config])
@pytest.mark.parametrize("json", [False, True])
def test_the_output_of_a_dry_run_is_named_as_such(tmp_path: Path, load: Load, json: bool) -> None:
    path = tmp_path / ("dry.json" if json else "dry.yaml")
    path.write_text(
        '{"config": {"split": "motions"}, "cost": {}}' if json else DRY_RUN, encoding="utf-8"
    )
    for over in ({}, {"adapter": "aim", "seed": 3}):
        with pytest.raises(ConfigError) as raised:
            load(str(path), over)
        assert str(raised.value) == (
            f"{path}: is the output of --dry-run; expected a configuration. It is what stands "
            "below the key config: put that into a file of its own"
        )


def test_a_key_config_beside_keys_that_count_is_an_unknown_key(tmp_path: Path) -> None:
    for text in ("config: {way: 3}\n", "config: mine\n"):
        with pytest.raises(UnknownNameError, match="unknown config key 'config'"):
            load_config(_file(tmp_path, text))
    lone = tmp_path / "lone.yaml"
    lone.write_text("config: mine\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="unknown config key 'config'"):
        load_config(lone)


def test_keys_of_neither_belong_to_no_command(tmp_path: Path) -> None:
    for load in (load_config, load_train_config):
        with pytest.raises(UnknownNameError, match="'nonsense'") as raised:
            load(_file(tmp_path, "nonsense: 3\n"))
        assert "fewshot-i2v" not in str(raised.value).replace(str(tmp_path), "")
