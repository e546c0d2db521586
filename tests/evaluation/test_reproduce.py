"""How to run an evaluation again: the configuration gives the very rows it was made from."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from fewshot_i2v.evaluation.reproduce import continuation_commands, reproduction_recipes
from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.report.analysis.report_data import ReproductionRecipe
from fewshot_i2v.utils.yaml import parse_yaml


def headers(**given: Any) -> list[dict[str, Any]]:
    """Headers of the rows of a configuration, as a run writes them."""
    config = load_config({"split": "motions", "adapter": "frozen", **given})
    return [
        {
            "identity": {"config": row.identity()},
            "split": {"name": "motions", "path": "/gone/episodes/motions.yaml"},
            "encoder": {"name": "demo", "pretrained": "shipped", "architecture": None},
        }
        for row in expand_rows(config)
    ]


def recipe_of(made: list[dict[str, Any]], *, episodes: int = 1) -> ReproductionRecipe:
    """The only recipe of rows that one configuration reproduces."""
    (recipe,) = reproduction_recipes("runs/x", made, episodes=episodes)
    return recipe


EXACT: list[dict[str, Any]] = [
    {},
    {
        "adapter": ["frozen", "st-adapter:width=64", "aim"],
        "shot": [1, 5],
        "head": ["linear", "otam"],
    },
    {"adapter": ["frozen", "aim"], "start": ["fresh", "demo-motions"]},
    {"adapter": ["aim", "lora"], "recipes": {"lora": {"lr": 0.5, "steps": 3}}},
    {"adapter": ["aim"], "training_seeds": [0, 1]},
    {"way": "5-10", "shot": ["1-5"], "uneven_shots": True, "frame_order": "shuffled"},
    {"adapter": ["frozen", "aim"], "start": "demo-motions", "shot": [1, 5], "untuned": True},
    {"head": ['text-prototype:templates=["a video of {}, here"]']},
    {
        "head": ["tip", "prototype"],
        "class_texts": {"moves-up": ["rises", "goes up"], "moves-down": {"prompts": "It falls."}},
    },
]


def test_what_a_protocol_cites_goes_along() -> None:
    made = headers()
    made[0]["citation"] = "@misc{doe2024,\n  title = {A Protocol},\n}\n"
    recipe = recipe_of(made)
    assert load_config(parse_yaml(recipe.config, "recipe")).citation == made[0]["citation"]
    assert "exactly these rows" in recipe.remarks[0]


@pytest.mark.parametrize("given", EXACT)
def test_the_configuration_gives_exactly_the_rows(given: dict[str, Any]) -> None:
    made = headers(**given)
    recipe = recipe_of(made, episodes=7)
    config = load_config(parse_yaml(recipe.config, "recipe"))
    identities = [row.identity() for row in expand_rows(config)]
    assert sorted(map(str, identities)) == sorted(str(h["identity"]["config"]) for h in made)
    assert config.episodes == 7
    assert "exactly these rows" in recipe.remarks[0]
    assert recipe.command.startswith("fewshot-i2v evaluate run.yaml")


def test_rows_that_are_no_product_get_more_and_it_says_how_many() -> None:
    made = headers(adapter=["frozen", "aim"], shot=[1, 5])
    assert "and 1 more" in recipe_of(made[:3]).remarks[0]


def test_settings_that_one_configuration_cannot_hold_are_said() -> None:
    made = headers(adapter="aim") + headers(adapter="aim", precision="bf16")
    assert "cannot hold" in recipe_of(made).remarks[0]


def tuned_in_two_ways() -> list[dict[str, Any]]:
    """The case of most harm: what differs is the tuning of one seed of one of two adapters."""
    shared: dict[str, Any] = {"shot": 1, "head": "prototype"}
    seeds = headers(
        adapter=["frozen", "st-adapter"], tuning={"steps": 1}, training_seeds=[0, 1], **shared
    )
    odd = headers(adapter="st-adapter", tuning={"steps": 4}, training_seeds=[2], **shared)
    return [*odd, *seeds]


def given_by(config: str) -> list[str]:
    return [str(row.identity()) for row in expand_rows(load_config(parse_yaml(config, "recipe")))]


def test_the_first_recipe_has_the_tuning_of_most_rows_of_each_adapter() -> None:
    made = tuned_in_two_ways()
    recipe, _ = reproduction_recipes("x", made, episodes=1)
    config = parse_yaml(recipe.config, "recipe")
    assert config["tuning"]["steps"] == 1
    assert "recipes" not in config
    assert sorted(given_by(recipe.config)) == sorted(str(h["identity"]["config"]) for h in made[1:])
    assert "exactly these rows" in recipe.remarks[0]


def test_a_row_not_given_is_named_with_its_start_and_options() -> None:
    shared: dict[str, Any] = {
        **{"start": "demo-motions", "head": "linear:tokens=grid2"},
        "training_seeds": [3],
    }
    made = headers(adapter="st-adapter", shot=[1, 2], **shared)
    made += headers(adapter="st-adapter", shot=5, precision="bf16", **shared)
    assert (
        recipe_of(made)
        .remarks[0]
        .endswith(
            "It does not give: st-adapter from demo-motions, linear:tokens=grid2, 5-shot, training "
            "seed 3."
        )
    )


def test_each_way_of_tuning_has_a_recipe_of_its_own() -> None:
    made = tuned_in_two_ways()
    one, other = reproduction_recipes("x", made, episodes=1)
    every = sorted(given_by(one.config) + given_by(other.config))
    assert every == sorted(str(h["identity"]["config"]) for h in made)
    assert len(given_by(one.config)) == 4
    assert parse_yaml(other.config, "recipe")["tuning"]["steps"] == 4
    assert one.command == "fewshot-i2v evaluate run.yaml --output runs/again"
    assert other.command == "fewshot-i2v evaluate run-2.yaml --output runs/again-2"
    assert "as run-2.yaml. It gives exactly these rows" in other.remarks[0]
    assert other.remarks[1].startswith("This is 1 of the 5 rows; 2 configurations give all of them")


@pytest.mark.parametrize("given", EXACT)
def test_adapters_with_recipes_of_their_own_are_one_way_of_tuning(given: dict[str, Any]) -> None:
    made = headers(**given)
    assert len(reproduction_recipes("x", made, episodes=7)) == 1


def test_a_key_that_one_adapter_lacks_is_empty_in_its_recipe() -> None:
    made = headers(
        adapter=["aim", "bitfit", "lora"], tuning={"batch": 2}, recipes={"lora": {"batch": None}}
    )
    recipe = recipe_of(made)
    assert parse_yaml(recipe.config, "recipe")["recipes"] == {"lora": {"batch": None}}
    assert "exactly these rows" in recipe.remarks[0]


def test_what_cannot_be_checked_here_is_said() -> None:
    (made,) = headers()
    made["identity"]["config"]["adapter"] = {"name": "not-installed", "options": {}}
    recipe = recipe_of([made])
    assert "could not be checked here: unknown adapter 'not-installed'" in recipe.remarks[0]


def test_paths_that_the_header_has_are_whole_again() -> None:
    (made,) = headers()
    made["identity"]["config"] |= {"split": "mine"}
    made["identity"]["config"]["encoder"] |= {"name": "own", "pretrained": "w.safetensors"}
    made["split"]["path"] = "/data/mine.yaml"
    made["encoder"]["pretrained"] = "/data/w.safetensors"
    config = parse_yaml(recipe_of([made]).config, "recipe")
    assert config["split"] == "/data/mine.yaml"
    assert config["encoder"]["pretrained"] == "/data/w.safetensors"


def test_a_number_that_is_not_recorded_is_named() -> None:
    made = headers(sampling="disjoint")
    assert "--partitions" in recipe_of(made).remarks[1]
    noted = [{**header, "partitions": 3} for header in made]
    recipe = recipe_of(noted)
    assert load_config(parse_yaml(recipe.config, "recipe")).partitions == 3
    assert len(recipe.remarks) == 1


def test_a_shipped_configuration_goes_on_by_its_name() -> None:
    made = [
        {"name": "quickstart", "identity": {"config": row.identity()}}
        for row in expand_rows(load_config("quickstart"))
    ]
    folder, flags = Path("my runs/x"), ["--episodes", "50"]
    assert continuation_commands(folder, made, flags) == [
        "fewshot-i2v evaluate quickstart --output 'my runs/x' --episodes 50"
    ]
    assert continuation_commands(folder, made[:2], flags)[0].startswith("fewshot-i2v config show")


def test_other_rows_go_on_from_a_written_configuration(tmp_path: Path) -> None:
    made = headers(adapter=["frozen", "aim"], shot=[1, 5])
    made[0]["split"]["root"] = str(tmp_path)
    assert parse_yaml(recipe_of(made).config, "recipe")["root"] == str(tmp_path)
    write, go_on = continuation_commands(Path("runs/x"), made, ["--until", "1"])
    assert write == "fewshot-i2v config show runs/x > x-again.yaml"
    expected = ["x-again.yaml", "--output", "runs/x", "--until", "1"]
    assert shlex.split(go_on) == ["fewshot-i2v", "evaluate", *expected]


def test_rows_of_no_configuration_have_no_command() -> None:
    assert continuation_commands(Path("x"), tuned_in_two_ways(), ["--until", "1"]) == []
