"""Recipes from `configs/recipes/`, one file per adapter: for fine-tuning and for base training.

Those of fine-tuning go by start and shots, those of training by objective.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from fewshot_i2v.config.base import (
    ConfigSection,
    FinetuneConfig,
    OptimizerConfig,
    PositiveCount,
    RecipeName,
)
from fewshot_i2v.config.error_messages import SHOTS_PATTERN, translate_validation_error
from fewshot_i2v.config.method import MethodSpec
from fewshot_i2v.config.training import (
    ObjectiveName,
    TrainingConfig,
    TrainingRecipeName,
    ValidationConfig,
)
from fewshot_i2v.errors import ConfigError
from fewshot_i2v.utils.resources import data_folder
from fewshot_i2v.utils.yaml import load_yaml

_GENERAL_FILE = "any-adapter"
"""Recipes for adapters without a file or a fitting recipe of their own, such as plug-ins."""


class Recipe(ConfigSection):
    """Tuning settings for one kind of start and a range of shots."""

    name: Literal["auto", "published", "fast"]
    start: Literal["fresh", "trained", "any"] = "any"
    shots: Annotated[str, BeforeValidator(str), Field(pattern=SHOTS_PATTERN)] = "any"
    tuning: FinetuneConfig
    evidence: Annotated[str, Field(min_length=1)]

    def fits(self, name: str, start: str, shots: int) -> bool:
        """Whether it is for this name, kind of start, and number of support clips per class."""
        if self.name != name or self.start not in ("any", start):
            return False
        if self.shots == "any":
            return True
        number = int(self.shots.rstrip("+"))
        return shots >= number if self.shots.endswith("+") else shots == number

    @field_validator("tuning")
    @classmethod
    def _check_no_recipe_in_it(cls, tuning: FinetuneConfig) -> FinetuneConfig:
        keys = sorted(tuning.model_fields_set & {"recipe", "optimizer"})
        if keys:
            raise ValueError(f"a recipe cannot set {' and '.join(keys)}; remove it")
        return tuning


def _same_field(model: type[ConfigSection], key: str) -> Any:  # noqa: ANN401 - as pydantic's Field
    """The field of another model: range, default and text of a key are written once."""
    return model.model_fields[key]


class TrainingValidationSettings(ConfigSection):
    """Keys of `validation` that a recipe of training may set."""

    every: PositiveCount = _same_field(ValidationConfig, "every")
    head: MethodSpec = _same_field(ValidationConfig, "head")


class TrainingSettings(OptimizerConfig):
    """Keys of a training that its recipe may set: not what is trained on, and not the episodes."""

    head: MethodSpec = _same_field(TrainingConfig, "head")
    steps: PositiveCount = _same_field(TrainingConfig, "steps")
    validation: TrainingValidationSettings = TrainingValidationSettings()

    def set_keys(self) -> dict[str, Any]:
        """Returns the values that are set, by dotted key."""
        keys = {key: getattr(self, key) for key in self.model_fields_set - {"validation"}}
        section = self.validation
        keys |= {f"validation.{key}": getattr(section, key) for key in section.model_fields_set}
        return dict(sorted(keys.items()))


class TrainingRecipe(ConfigSection):
    """Settings for the base training of an adapter with one objective."""

    name: Literal["auto"]
    objective: ObjectiveName
    settings: TrainingSettings
    evidence: Annotated[str, Field(min_length=1)]


class RecipeFile(ConfigSection):
    """The recipes of one adapter, the first that fits is taken."""

    adapter: str
    recipes: Annotated[tuple[Recipe, ...], Field(strict=False, min_length=1)]
    training: Annotated[tuple[TrainingRecipe, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _check_each_can_be_taken(self) -> RecipeFile:
        numbers = [int(re.sub(r"\D", "", recipe.shots) or 1) for recipe in self.recipes]
        cases = list(product(("fresh", "trained"), range(1, max(numbers) + 2)))
        for i, recipe in enumerate(self.recipes):
            taken = [
                next((j for j, r in enumerate(self.recipes) if r.fits(recipe.name, *case)), i)
                for case in cases
                if recipe.fits(recipe.name, *case)
            ]
            if i not in taken:
                earlier = " and ".join(f"recipes[{j}]" for j in sorted(set(taken)))
                raise ValueError(
                    f"recipes[{i}] ({recipe.name}, start {recipe.start}, shots {recipe.shots}) is "
                    f"never taken: wherever it fits, {earlier} before it is taken; remove one, or "
                    "put the narrower one first"
                )
        return self

    @model_validator(mode="after")
    def _check_one_training_of_each_objective(self) -> RecipeFile:
        objectives = [recipe.objective for recipe in self.training]
        for i, objective in enumerate(objectives):
            if objective in objectives[:i]:
                raise ValueError(
                    f"training[{i}] (objective {objective}) is never taken: "
                    f"training[{objectives.index(objective)}] has the same objective; remove one"
                )
        return self


def recipe_paths(adapter: str) -> list[Path]:
    """Returns the shipped files to look in: that of the adapter, if any, then the general one."""
    folder = data_folder("configs") / "recipes"
    paths = [folder / f"{name}.yaml" for name in (adapter, _GENERAL_FILE)]
    return [path for path in paths if path.is_file()]


@lru_cache(maxsize=64)
def load_recipe_file(path: Path) -> RecipeFile:
    """Reads the recipes of a file.

    Raises:
        ConfigError: naming the file and every bad key; a recipe that is never taken; or an adapter
            that the file is not named after.
    """
    try:
        file = RecipeFile.model_validate(load_yaml(path))
    except ValidationError as error:
        raise translate_validation_error(error, RecipeFile, origin=str(path)) from error
    if file.adapter != path.stem:
        raise ConfigError(
            f"{path}: adapter: got {file.adapter!r}; expected {path.stem!r}, as the file is named: "
            "recipes are searched by file name"
        )
    return file


def find_recipe(name: RecipeName, adapter: str, *, trained: bool, shots: int) -> dict[str, Any]:
    """Finds the tuning keys of a recipe.

    Args:
        name: auto, published, fast, or none: no keys.
        adapter: its name.
        trained: whether it starts from a training, not fresh.
        shots: support clips per class, the smallest number in an episode.

    Returns:
        Values by key of `FinetuneConfig`, only those that the recipe sets.

    Raises:
        ConfigError: when there is no such recipe of this adapter.
    """
    if name == "none":
        return {}
    start = "trained" if trained else "fresh"
    paths = recipe_paths(adapter)
    for recipe in (recipe for path in paths for recipe in load_recipe_file(path).recipes):
        if recipe.fits(name, start, shots):
            return {key: getattr(recipe.tuning, key) for key in recipe.tuning.model_fields_set}
    raise ConfigError(
        f"tuning.recipe: there is no {name} recipe of {adapter!r} for a {start} start and {shots} "
        f"clips per class in {' or '.join(map(str, paths))}; give another recipe, or none and the "
        "keys of `tuning` themselves"
    )


def training_recipes(name: TrainingRecipeName, adapter: str) -> dict[ObjectiveName, TrainingRecipe]:
    """Finds the recipes for the base training of an adapter, by objective.

    Args:
        name: auto, or none: no recipe.
        adapter: its name.

    Returns:
        Empty where nothing was searched for the adapter: its trainings have the defaults.
    """
    found: dict[ObjectiveName, TrainingRecipe] = {}
    for path in recipe_paths(adapter):
        for recipe in load_recipe_file(path).training:
            if recipe.name == name:
                found.setdefault(recipe.objective, recipe)
    return found
