"""Recipes of fine-tuning: settings by adapter, start and shots, from `configs/recipes/`."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from fewshot_i2v.config.base import ConfigSection, FinetuneConfig, RecipeName
from fewshot_i2v.config.error_messages import translate_validation_error
from fewshot_i2v.errors import ConfigError
from fewshot_i2v.utils.resources import data_folder
from fewshot_i2v.utils.yaml import load_yaml

_FALLBACK_FILE = "other-adapters"
"""The file for adapters that have none of their own, such as plug-ins."""


class Recipe(ConfigSection):
    """Tuning settings for one kind of start and a range of shots."""

    name: Literal["auto", "published", "fast"]
    start: Literal["fresh", "trained", "any"] = "any"
    shots: Annotated[str, Field(pattern=r"^([1-9]\d*\+?|any)$")] = "any"
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


class RecipeFile(ConfigSection):
    """The recipes of one adapter, the first that fits is taken."""

    adapter: str
    recipes: Annotated[tuple[Recipe, ...], Field(strict=False, min_length=1)]


def recipe_path(adapter: str) -> Path:
    """Returns the shipped file of an adapter, or that for adapters without one."""
    folder = data_folder("configs") / "recipes"
    path = folder / f"{adapter}.yaml"
    return path if path.is_file() else folder / f"{_FALLBACK_FILE}.yaml"


@lru_cache(maxsize=64)
def load_recipes(path: Path) -> tuple[Recipe, ...]:
    """Reads the recipes of a file.

    Raises:
        ConfigError: naming the file and every bad key.
    """
    try:
        return RecipeFile.model_validate(load_yaml(path)).recipes
    except ValidationError as error:
        raise translate_validation_error(error, RecipeFile, origin=str(path)) from error


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
    path = recipe_path(adapter)
    start = "trained" if trained else "fresh"
    for recipe in load_recipes(path):
        if recipe.fits(name, start, shots):
            return {key: getattr(recipe.tuning, key) for key in recipe.tuning.model_fields_set}
    raise ConfigError(
        f"tuning.recipe: there is no {name} recipe of {adapter!r} for a {start} start and {shots} "
        f"clips per class in {path}; give recipe none and the keys of `tuning` themselves, or "
        "another recipe"
    )
