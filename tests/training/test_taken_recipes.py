"""Trainings with the recipe of their adapter: results, records, plans, and older folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fewshot_i2v.config import recipes
from fewshot_i2v.config.loading import load_train_config
from fewshot_i2v.errors import CheckpointError
from fewshot_i2v.training import loop
from fewshot_i2v.training import train as train_module
from fewshot_i2v.training.state import save_state
from fewshot_i2v.training.train import train
from tests.training.training_samples import settings, training_folder

RECIPE = """
adapter: temporal-embedding
recipes:
  - {name: auto, tuning: {}, evidence: a}
training:
  - name: auto
    objective: both
    settings: {lr: 0.02, steps: 4, validation: {every: 2}}
    evidence: b
"""
TAKEN = {"lr": 0.02, "steps": 4, "validation.every": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Architecture, split and decoded clips that the tests of this file share."""
    return training_folder(tmp_path_factory.mktemp("training"))


@pytest.fixture(autouse=True)
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`RECIPE` in place of the shipped ones, for all adapters."""
    path = tmp_path / "temporal-embedding.yaml"
    path.write_text(RECIPE)
    monkeypatch.setattr(recipes, "recipe_paths", lambda _adapter: [path])


def _keys(folder: Path, output: Path, **changes: Any) -> dict[str, Any]:
    """Keys of a training that sets none of those of the recipe, unless `changes` do."""
    keys = settings(folder, output, objective="both")
    del keys["recipe"], keys["lr"], keys["steps"], keys["validation"]["every"]
    return keys | changes


def _explicit(folder: Path, output: Path, lr: float = 0.02) -> dict[str, Any]:
    validation = {**settings(folder, output)["validation"], "every": 2}
    return _keys(folder, output, lr=lr, steps=4, validation=validation, recipe="none")


def test_a_recipe_trains_as_its_values_do_and_is_said_and_recorded(
    folder: Path, tmp_path: Path
) -> None:
    notes: list[str] = []
    by_recipe = train(_keys(folder, tmp_path / "recipe"), log=notes.append)
    explicit = train(_explicit(folder, tmp_path / "explicit"))
    assert by_recipe.digest == explicit.digest
    assert by_recipe.start["config"] == explicit.start["config"]
    assert by_recipe.start["recipe"]["taken"] == TAKEN
    assert "recipe" not in explicit.start
    assert "temporal-embedding.yaml): lr 0.02, steps 4, validation.every 2." in notes[0]


def test_a_changed_key_of_a_configuration_leaves_the_others_to_the_recipe(
    folder: Path, tmp_path: Path
) -> None:
    config = load_train_config(_keys(folder, tmp_path / "start"))
    start = train(config, steps=2).start
    assert start["recipe"]["taken"] == {"lr": 0.02, "validation.every": 2}
    assert start["recipe"]["not_taken"] == {"steps": 4}
    assert (start["config"]["steps"], start["config"]["lr"]) == (2, 0.02)


def test_an_objective_without_a_recipe_is_said_and_none_is_silent(
    folder: Path, tmp_path: Path
) -> None:
    for recipe, said in (("auto", 1), ("none", 0)):
        notes: list[str] = []
        keys = _keys(folder, tmp_path / recipe, steps=1, objective="episodic", recipe=recipe)
        assert "recipe" not in train(keys, log=notes.append).start
        assert sum("no recipe of training for temporal-embedding" in n for n in notes) == said
        assert len([n for n in notes if "ecipe" in n]) == said


def test_a_plan_has_the_recipe_and_counts_its_steps(folder: Path, tmp_path: Path) -> None:
    plan = train_module.dry_run(load_train_config(_keys(folder, tmp_path / "start")))
    assert plan["config"]["recipe"] == plan["recipe"]["name"] == "auto"
    assert plan["recipe"]["taken"] == TAKEN
    assert plan["config"]["steps"] == 4
    cost = plan["cost"]
    assert cost["seconds"] == pytest.approx(4 * cost["seconds_per_step"], abs=0.06)
    assert train_module.dry_run(load_train_config(plan["config"]))["recipe"]["taken"] == {}


class _StoppedError(Exception):
    """Stands for a kill."""


def _begin(keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin a training and stop it once its state is saved."""

    def save(*args: Any) -> None:
        save_state(*args)
        raise _StoppedError

    with monkeypatch.context() as patched:
        patched.setattr(loop, "save_state", save)
        with pytest.raises(_StoppedError):
            train(keys)


def test_a_training_begun_with_the_same_values_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "start"
    _begin(_explicit(folder, output), monkeypatch)
    resumed = train(_keys(folder, output))
    whole = train(_explicit(folder, tmp_path / "whole"))
    assert resumed.digest == whole.digest
    assert train(_explicit(folder, output)).clips_per_second is None, "it is finished for both"


def test_a_training_begun_with_other_values_is_refused_and_goes_on_without_the_recipe(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "start"
    _begin(_explicit(folder, output, lr=0.01), monkeypatch)
    for state in ("begun", "done"):
        with pytest.raises(CheckpointError) as refused:
            train(_keys(folder, output))
        assert "config.lr: 0.01 in the folder, 0.02 requested" in str(refused.value)
        advice = "the recipe of temporal-embedding sets lr: to go on without it, --recipe none"
        assert str(refused.value).endswith(advice), state
        assert train(_explicit(folder, output, lr=0.01)).start["config"]["lr"] == 0.01


def test_other_differences_are_not_laid_to_the_recipe(folder: Path, tmp_path: Path) -> None:
    train(_keys(folder, tmp_path / "start"))
    with pytest.raises(CheckpointError, match=r"config.seed: 0 in the folder, 1 req") as refused:
        train(_keys(folder, tmp_path / "start", seed=1))
    assert "recipe" not in str(refused.value)
