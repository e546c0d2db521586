"""How to run an evaluation again: the configuration gives the very rows it was made from."""

from __future__ import annotations

from typing import Any

import pytest

from fewshot_i2v.config import load_config
from fewshot_i2v.reproduction import recipe_of
from fewshot_i2v.yaml_loader import parse_yaml


def headers(**given: Any) -> list[dict[str, Any]]:
    """Headers of the rows of a configuration, as a run writes them."""
    config = load_config({"split": "motions", "adapter": "frozen", **given})
    return [
        {
            "identity": {"config": row.identity()},
            "split": {"name": "motions", "path": "/gone/episodes/motions.yaml"},
            "encoder": {"name": "demo", "pretrained": "shipped", "architecture": None},
        }
        for row in config.rows()
    ]


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
    {"head": ['text-prototype:templates=["a video of {}, here"]']},
]


@pytest.mark.parametrize("given", EXACT)
def test_the_configuration_gives_exactly_the_rows(given: dict[str, Any]) -> None:
    made = headers(**given)
    recipe = recipe_of("runs/x", made, episodes=7)
    config = load_config(parse_yaml(recipe.config, "recipe"))
    identities = [row.identity() for row in config.rows()]
    assert sorted(map(str, identities)) == sorted(str(h["identity"]["config"]) for h in made)
    assert config.episodes == 7
    assert "exactly these rows" in recipe.remarks[0]
    assert recipe.command.startswith("fewshot-i2v evaluate run.yaml")


def test_rows_that_are_no_product_get_more_and_it_says_how_many() -> None:
    made = headers(adapter=["frozen", "aim"], shot=[1, 5])
    assert "and 1 more" in recipe_of("x", made[:3], episodes=1).remarks[0]


def test_settings_that_one_configuration_cannot_hold_are_said() -> None:
    made = headers(adapter="aim", tuning={"lr": 0.1}) + headers(adapter="aim", tuning={"lr": 0.2})
    assert "cannot hold" in recipe_of("x", made, episodes=1).remarks[0]


def test_what_cannot_be_checked_here_is_said() -> None:
    (made,) = headers()
    made["identity"]["config"]["adapter"] = {"name": "not-installed", "options": {}}
    recipe = recipe_of("x", [made], episodes=1)
    assert "could not be checked here: unknown adapter 'not-installed'" in recipe.remarks[0]


def test_paths_that_the_header_has_are_whole_again() -> None:
    (made,) = headers()
    made["identity"]["config"] |= {"split": "mine"}
    made["identity"]["config"]["encoder"] |= {"name": "own", "pretrained": "w.safetensors"}
    made["split"]["path"] = "/data/mine.yaml"
    made["encoder"]["pretrained"] = "/data/w.safetensors"
    config = parse_yaml(recipe_of("x", [made], episodes=1).config, "recipe")
    assert config["split"] == "/data/mine.yaml"
    assert config["encoder"]["pretrained"] == "/data/w.safetensors"


def test_a_number_that_is_not_recorded_is_named() -> None:
    made = headers(sampling="disjoint")
    assert "--partitions" in recipe_of("x", made, episodes=1).remarks[1]
    noted = [{**header, "partitions": 3} for header in made]
    recipe = recipe_of("x", noted, episodes=1)
    assert load_config(parse_yaml(recipe.config, "recipe")).partitions == 3
    assert len(recipe.remarks) == 1
