"""Recipes of fine-tuning: which one a row takes, and what wins over it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fewshot_i2v import registry
from fewshot_i2v.config import recipes
from fewshot_i2v.config.base import FinetuneConfig
from fewshot_i2v.config.recipes import find_recipe, load_recipe_file, recipe_paths
from fewshot_i2v.errors import ConfigError, UsageError
from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.utils.resources import data_folder, data_names

FILES = sorted((data_folder("configs") / "recipes").glob("*.yaml"))
SAMPLE = """
adapter: st-adapter
recipes:
  - {name: auto, start: fresh, shots: 1, tuning: {steps: 11, views: 2, flip: auto}, evidence: a}
  - {name: auto, start: fresh, shots: 2+, tuning: {steps: 12, temporal: true}, evidence: b}
  - {name: auto, start: trained, tuning: {steps: 13, lr: 0.5}, evidence: c}
  - {name: fast, tuning: {steps: 3}, evidence: d}
"""


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recipes of `SAMPLE` in place of the shipped ones, for all adapters."""
    path = tmp_path / "st-adapter.yaml"
    path.write_text(SAMPLE)
    monkeypatch.setattr(recipes, "recipe_paths", lambda _adapter: [path])
    return path


def _tuning(**config: Any) -> list[FinetuneConfig]:
    values = {"split": "motions", "adapter": "st-adapter", "head": "prototype", **config}
    return [row.tuning for row in expand_rows(load_config(values))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_shipped_file_is_valid_and_named_after_its_adapter(path: Path) -> None:
    assert path.read_text().startswith("# ")
    assert f"\nadapter: {path.stem}\n" in path.read_text()
    assert path.stem in [*registry.method_names("adapters"), "any-adapter"]
    assert all(recipe.evidence.strip() for recipe in load_recipe_file(path).recipes)


@pytest.mark.parametrize("adapter", registry.method_names("adapters"))
def test_every_adapter_has_recipes_for_each_start_and_number_of_shots(adapter: str) -> None:
    for name in ("auto", "fast"):
        for trained in (False, True):
            for shots in (1, 2, 5, 16):
                keys = find_recipe(name, adapter, trained=trained, shots=shots)
                tuning = FinetuneConfig(**keys)
                assert tuning.views == 1 or tuning.augments


def test_files_of_recipes_are_no_configurations_of_runs() -> None:
    assert not [name for name in data_names("configs") if "recipes" in name]


def test_an_adapter_s_recipes_come_before_those_for_any_adapter() -> None:
    assert [path.stem for path in recipe_paths("aim")] == ["aim", "any-adapter"]
    assert [path.stem for path in recipe_paths("strange")] == ["any-adapter"]


def test_the_first_recipe_that_fits_start_and_shots_is_taken(sample: Path) -> None:
    tuned = _tuning(shot=[1, 2, 5, "1-5", "2-5"])
    assert [tuning.steps for tuning in tuned] == [11, 12, 12, 11, 12]
    trained = _tuning(start="demo-motions", shot=[1, 5])
    assert [tuning.steps for tuning in trained] == [13, 13]
    assert [tuning.lr for tuning in trained] == [0.5, 0.5]


def test_keys_of_the_run_win_over_the_recipe_and_those_of_the_adapter_over_both(
    sample: Path,
) -> None:
    (tuning,) = _tuning(tuning={"steps": 4}, shot=1)
    assert (tuning.steps, tuning.views) == (4, 2)
    (tuning,) = _tuning(tuning={"steps": 4}, recipes={"st-adapter": {"steps": 6}}, shot=1)
    assert (tuning.steps, tuning.views) == (6, 2)
    (tuning,) = _tuning(recipes={"st-adapter": {"recipe": "fast"}}, shot=1)
    assert (tuning.steps, tuning.views) == (3, 1)


def test_none_leaves_the_defaults(sample: Path) -> None:
    (tuning,) = _tuning(tuning={"recipe": "none"}, shot=1)
    assert tuning.model_dump() == FinetuneConfig(recipe="none").model_dump()


def test_learned_rates_take_no_recipe_unless_it_is_set(sample: Path) -> None:
    tuning = {"optimizer": "start-rates", "steps": 2}
    assert _tuning(tuning=tuning, shot=1)[0].views == 1
    assert _tuning(tuning={**tuning, "recipe": "auto"}, shot=1)[0].views == 2


def test_a_recipe_that_does_not_exist_is_an_error_that_says_what_to_do(sample: Path) -> None:
    with pytest.raises(ConfigError, match=r"no published recipe of 'st-adapter' for a fresh.*none"):
        _tuning(tuning={"recipe": "published"}, shot=1)
    with pytest.raises(ConfigError, match=r"tuning.recipe: got 'quick'"):
        _tuning(tuning={"recipe": "quick"})


def test_frames_are_not_jittered_under_a_policy_without_segments(sample: Path) -> None:
    assert _tuning(shot=5)[0].temporal
    assert not _tuning(shot=5, video={"policy": "uniform"})[0].temporal


def test_views_without_any_change_are_refused_once_all_keys_are_together(sample: Path) -> None:
    with pytest.raises(ConfigError, match=r"tuning of st-adapter: views: got 2 without any"):
        _tuning(tuning={"flip": "off"}, shot=1)


def test_the_recipe_is_part_of_a_row_s_identity(sample: Path) -> None:
    values = {"split": "motions", "adapter": "st-adapter", "head": "prototype", "shot": 5}
    identities = [
        expand_rows(load_config({**values, "tuning": tuning}))[0].identity()["tuning"]
        for tuning in ({}, {"recipe": "none", "steps": 12, "temporal": True})
    ]
    assert identities[0]["recipe"] == "auto"
    assert "recipe" not in identities[1]
    assert {k: v for k, v in identities[0].items() if k != "recipe"} == identities[1]


def test_a_damaged_file_names_itself_and_the_key(sample: Path) -> None:
    sample.write_text(SAMPLE.replace("steps: 11", "stpes: 11"))
    load_recipe_file.cache_clear()
    with pytest.raises(UsageError, match=rf"tuning.stpes.*{sample.name}"):
        _tuning(shot=1)


_RECIPE = "{name: auto, tuning: {steps: 3}, evidence: x}"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("{name: auto, tuning: {steps: 3}}", r"mine.yaml: recipes\[0\].evidence: missing, and has"),
        (_RECIPE.replace("steps", "recipe: fast, steps"), "a recipe cannot set recipe; remove it"),
        (_RECIPE.replace("auto,", "auto, shots: 1-4,"), "got '1-4'; expected a number of clips"),
        (f"{_RECIPE}, {_RECIPE}", r"recipes\[1\] \(auto, start any, shots any\) is never taken"),
        (f"{_RECIPE}, {_RECIPE.replace('auto,', 'auto, shots: 1,')}", "is never taken"),
        (
            ", ".join(_RECIPE.replace("auto,", f"auto, shots: {n},") for n in ("2+", "5+")),
            r"recipes\[1\] \(auto, start any, shots 5\+\) is never taken",
        ),
        (
            ", ".join(
                [_RECIPE.replace("auto,", f"auto, start: {s},") for s in ("fresh", "trained")]
                + [_RECIPE]
            ),
            r"recipes\[2\] .*is never taken: .* fits, recipes\[0\] and recipes\[1\] before",
        ),
        ("", "recipes: got \\[\\]; expected at least one"),
    ],
)
def test_mistakes_in_a_file_are_named_once(changed: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"adapter: mine\nrecipes: [{changed}]\n")
    with pytest.raises(ConfigError, match=said) as caught:
        load_recipe_file(path)
    assert "bad values" not in str(caught.value)


def test_narrower_recipes_may_stand_before_wider_ones(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    shots = ("1", "5", "3+", "any")
    listed = ", ".join(_RECIPE.replace("auto,", f"auto, shots: {n},") for n in shots)
    path.write_text(f"adapter: mine\nrecipes: [{listed}]\n")
    assert [recipe.shots for recipe in load_recipe_file(path).recipes] == list(shots)


def test_a_file_of_another_adapter_is_refused(tmp_path: Path) -> None:
    """It would be taken for the adapter that it is named after."""
    path = tmp_path / "mine.yaml"
    path.write_text(f"adapter: aim\nrecipes: [{_RECIPE}]\n")
    with pytest.raises(ConfigError, match="adapter: got 'aim'; expected 'mine', as the file is"):
        load_recipe_file(path)
