"""What a training takes from the recipe of its adapter, and what wins over it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from fewshot_i2v.config.error_messages import translate_validation_error
from fewshot_i2v.config.keys import config_keys, value_text
from fewshot_i2v.config.method import MethodSpec
from fewshot_i2v.config.recipes import TrainingRecipe, training_recipes
from fewshot_i2v.config.training import TrainingConfig


@dataclass(frozen=True)
class RecipeUse:
    """A training with the settings of its recipe.

    Attributes:
        config: with these settings; its `recipe` is none where nothing was taken.
        taken: by dotted key, the values that the recipe gave.
        not_taken: by dotted key, other values of the recipe where the training sets the key itself.
        remark: what of this to say, in a sentence or two.
    """

    config: TrainingConfig
    remark: str
    taken: Mapping[str, Any] = field(default_factory=dict)
    not_taken: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Returns all but the configuration in plain types, for JSON."""
        return {
            "name": self.config.recipe,
            "taken": _plain(self.taken),
            "not_taken": _plain(self.not_taken),
            "remark": self.remark,
        }


def take_recipe(config: TrainingConfig) -> RecipeUse:
    """Takes the recipe of a training's adapter and objective; keys that are set win over it.

    Args:
        config: of a training. `lr_by_width` counts as a learning rate that is set.

    Raises:
        ConfigError: when the recipe file is damaged, or its settings do not fit the others.
    """
    recipes = training_recipes(config.recipe, config.adapter.name)
    recipe = recipes.get(config.objective)
    if recipe is None:
        resolved = config.model_copy(update={"recipe": "none"})
        return RecipeUse(resolved, _remark_without(config, sorted(recipes)))
    values = recipe.settings.set_keys()
    taken = {key: value for key, value in values.items() if not _is_set(config, key)}
    not_taken = {
        key: value
        for key, value in values.items()
        if key not in taken and value != _value(config, key)
    }
    resolved = _with_keys(config, taken, recipe)
    return RecipeUse(resolved, _remark(config, taken, not_taken), taken, not_taken)


def without_recipe_keys(data: Mapping[str, Any], config: TrainingConfig) -> dict[str, Any]:
    """Removes the keys that the recipe of a training sets from the values of a file.

    Args:
        data: values of a file, as YAML has them.
        config: the training, with the adapter and the objective that count.
    """
    recipe = training_recipes(config.recipe, config.adapter.name).get(config.objective)
    values = deepcopy(dict(data))
    for key in recipe.settings.set_keys() if recipe else ():
        *parents, leaf = key.split(".")
        section = values.get(parents[0]) if parents else values
        if isinstance(section, dict):
            section.pop(leaf, None)
        if key == "lr":
            values.pop("lr_by_width", None)
    return values


def _is_set(config: TrainingConfig, key: str) -> bool:
    if key == "lr" and config.takes_lr_by_width:
        return True
    section: Any = config
    for name in key.split("."):
        if name not in section.model_fields_set:
            return False
        section = getattr(section, name)
    return True


def _value(config: TrainingConfig, key: str) -> object:
    """The value that is set; None for a rate that goes by the width of the encoder."""
    if key == "lr" and config.takes_lr_by_width:
        return None
    value: object = config
    for name in key.split("."):
        value = getattr(value, name)
    return value


def _with_keys(
    config: TrainingConfig, keys: Mapping[str, Any], recipe: TrainingRecipe
) -> TrainingConfig:
    """The configuration with keys that count as set."""
    values = config.model_dump(exclude_unset=True)
    values["recipe"] = recipe.name if keys else "none"
    for key, value in keys.items():
        *parents, leaf = key.split(".")
        section = values.setdefault(parents[0], {}) if parents else values
        section[leaf] = value
    try:
        return TrainingConfig.model_validate(values)
    except ValidationError as error:
        origin = f"{config.name} with the recipe of {config.adapter.name}"
        raise translate_validation_error(error, TrainingConfig, origin=origin) from error


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v.label if isinstance(v, MethodSpec) else v for k, v in values.items()}


def _listed(values: Mapping[str, Any]) -> str:
    keys = config_keys(TrainingConfig)
    return ", ".join(f"{key} {value_text(value, keys[key].form)}" for key, value in values.items())


def _remark_without(config: TrainingConfig, objectives: list[str]) -> str:
    if config.recipe == "none":
        return "Recipe none: keys that are not set have their defaults."
    of_others = f"; for {' and '.join(objectives)} there is one" if objectives else ""
    return (
        f"There is no recipe of training for {config.adapter.name} with the objective "
        f"{config.objective}{of_others}. Keys that are not set have their defaults."
    )


def _remark(config: TrainingConfig, taken: Mapping[str, Any], not_taken: Mapping[str, Any]) -> str:
    adapter = config.adapter.name
    source = f"Recipe {config.recipe} of {adapter} (configs/recipes/{adapter}.yaml): "
    text = source + (_listed(taken) or "nothing is taken, its keys are set") + "."
    if not_taken:
        text += f" Set otherwise, and so not taken: {_listed(not_taken)}."
    return text
