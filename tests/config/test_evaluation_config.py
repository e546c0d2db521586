"""Run configurations: flags over YAML over defaults, nothing unknown, nothing silently wrong."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from fewshot_i2v.config.base import EncoderConfig
from fewshot_i2v.config.evaluation import EvaluationConfig, RowConfig
from fewshot_i2v.config.loading import config_schema, load_train_config
from fewshot_i2v.config.origins import find_setting_origins
from fewshot_i2v.config.training import TrainingConfig
from fewshot_i2v.errors import ConfigError, UnknownNameError, UsageError
from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.utils import resources
from fewshot_i2v.utils.yaml import dump_yaml, parse_yaml

BASE: dict[str, Any] = {"split": "motions", "adapter": "frozen"}


def write(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# --- where a configuration comes from -----------------------------------------------------------


@pytest.mark.parametrize(
    "name", [n for n in resources.data_names("configs") if not n.startswith("train/")]
)
def test_every_shipped_configuration_loads(name: str) -> None:
    config = load_config(name)
    assert expand_rows(config)
    assert config.source, "a recipe says where it is from"


def test_without_a_source_it_is_quickstart() -> None:
    assert load_config() == load_config("quickstart")
    assert load_config().name == "quickstart"
    assert load_config(None, {"split": "motions", "way": 3}).name == "quickstart"


def test_on_other_clips_than_quickstart_s_flags_start_from_the_defaults() -> None:
    run = load_config(None, {"split": "ego clips.yaml", "encoder.name": "ViT-B-16"})
    same = EvaluationConfig(split="ego clips.yaml", encoder=EncoderConfig(name="ViT-B-16"))
    assert run == same.model_copy(update={"name": "ego-clips"})
    assert (run.video.crop, run.tuning.steps, run.episodes) == (0.875, 30, 200)
    assert [choice.label for choice in run.adapter] == ["frozen"]
    named = load_config("quickstart", {"split": "shapes"})
    assert (named.video.crop, named.split) == (1.0, "shapes")


def test_what_is_not_at_its_default_is_told_with_where_it_came_from() -> None:
    over = {"tuning.lr": 0.5, "adapter": ["aim:scale=1.0"], "encoder": "ViT-B-16", "way": 5}
    found = find_setting_origins(load_config("quickstart", over), "quickstart", over)
    assert found["flags"] == {
        "tuning.lr": "0.5",
        "adapter": "aim:scale=1.0",
        "encoder.name": "ViT-B-16",
    }
    assert found["quickstart"]["video.crop"] == "1.0"
    assert found["quickstart"]["episodes"] == "12"
    assert not {"tuning.lr", "start", "way", "split"} & found["quickstart"].keys()
    assert find_setting_origins(load_config({"split": "x"}), "mine", {}) == {}


def test_what_is_not_at_its_default_is_told_as_a_user_writes_it() -> None:
    """The same text in a file or behind a flag gives the same value again."""
    config = {
        "tuning.clip_norm": "off",
        "tuning.temporal": True,
        "recipes": {"aim": {"clip_norm": "off"}},
        "feature_cache": False,
    }
    found = find_setting_origins(load_config("quickstart", config), "quickstart", config)
    assert found["flags"] == {
        "tuning.clip_norm": "off",
        "tuning.temporal": "true",
        "recipes.aim.clip_norm": "off",
        "feature_cache": "false",
    }
    training = {"validation.subset": "off", "clip_norm": "off", "augment": "off"}
    found = find_setting_origins(load_train_config("motions", training), "motions", training)
    assert found["flags"] == {"validation.subset": "off", "clip_norm": "off"}
    assert {key: value for key, value in found["motions"].items() if "augment" in key} == {
        "augment.flip": "off",
        "augment.crop_scale": "null",
        "augment.colour": "0.0",
        "augment.temporal": "false",
    }
    again = load_train_config("motions", {"augment.crop_scale": None, "validation.subset": "off"})
    assert again.augment.crop_scale is None


def test_the_name_is_the_file_stem_made_safe(tmp_path: Path) -> None:
    text = "split: motions\nadapter: frozen\n"
    assert load_config(write(tmp_path, text, "my run ü.yaml")).name == "my-run-"
    assert load_config(write(tmp_path, text + "name: other\n")).name == "other"
    assert load_config(BASE).name == "run"
    assert load_config(BASE).output_folder == Path("runs/run")
    assert load_config(BASE, {"output": "there"}).output_folder == Path("there")


def test_a_missing_file_and_an_unknown_name_are_different_errors(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown config 'quickstrat'; did you mean"):
        load_config("quickstrat")
    with pytest.raises(ConfigError, match=r"absent\.yaml: no such file; .*list configs"):
        load_config(tmp_path / "absent.yaml")


def test_a_file_must_be_a_mapping(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mine\.yaml: got list; expected a mapping of keys"):
        load_config(write(tmp_path, "- a\n"))


def test_python_and_json_forms_read_back_as_the_same() -> None:
    config = load_config(
        {**BASE, "shot": [1, 5], "recipes": {"frozen": {"lr": 0.5}}, "encoder": {"mean": 0.5}},
        {"adapter": ["frozen", "st-adapter:width=8"], "output": Path("x")},
    )
    assert load_config(config.model_dump()) == config
    assert load_config(json.loads(config.model_dump_json())) == config
    assert load_config(parse_yaml(dump_yaml(config.model_dump(mode="json")), "x")) == config


# --- precedence ---------------------------------------------------------------------------------


def test_flags_win_over_yaml_and_yaml_over_defaults(tmp_path: Path) -> None:
    path = write(tmp_path, "split: motions\nadapter: frozen\ntuning: {lr: 0.5, steps: 7}\n")
    config = load_config(path, {"tuning.lr": 0.25, "way": 3})
    assert (config.tuning.lr, config.tuning.steps, config.tuning.head_lr) == (0.25, 7, 1e-2)
    assert (config.way, config.query) == (3, 5)


@pytest.mark.parametrize(
    ("yaml", "override", "expected"),
    [
        ("tuning: {clip_norm: 1.0}", {"tuning.clip_norm": None}, {"clip_norm": None}),
        ("tuning: {clip_norm: 1.0}", {"tuning.clip_norm": "off"}, {"clip_norm": None}),
        ("tuning: {warmup: 0.5}", {"tuning.warmup": 0.0}, {"warmup": 0.0}),
        ("tuning: {flip: on}", {"tuning.flip": "off"}, {"flip": "off"}),
        ("tuning: {steps: 5}", {"tuning": {"steps": 0}}, {"steps": 0}),
    ],
)
def test_an_empty_or_zero_flag_wins_too(
    tmp_path: Path, yaml: str, override: dict[str, Any], expected: dict[str, Any]
) -> None:
    path = write(tmp_path, f"split: motions\nadapter: frozen\n{yaml}\n")
    tuning = load_config(path, override).tuning
    assert {key: getattr(tuning, key) for key in expected} == expected


def test_false_and_zero_win_at_the_top_level(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "split: motions\nadapter: frozen\ndeterministic: true\nmax_failed: 9\nworkers: 3\n",
    )
    config = load_config(path, {"deterministic": False, "max_failed": 0, "workers": None})
    assert (config.deterministic, config.max_failed, config.workers) == (False, 0, None)


def test_lists_are_replaced_as_a_whole() -> None:
    config = load_config({**BASE, "shot": [1, 5], "adapter": ["frozen", "aim"]}, {"shot": 2})
    assert config.shot == (2,)
    assert len(config.adapter) == 2


def test_a_tuning_flag_wins_over_the_recipe_of_an_adapter() -> None:
    base = {**BASE, "adapter": ["frozen", "aim"], "recipes": {"aim": {"lr": 0.5, "steps": 3}}}
    frozen, aim = expand_rows(load_config(base))
    assert (frozen.tuning.lr, aim.tuning.lr, aim.tuning.steps) == (1e-3, 0.5, 3)
    frozen, aim = expand_rows(load_config(base, {"tuning.lr": 0.1}))
    assert (frozen.tuning.lr, aim.tuning.lr, aim.tuning.steps) == (0.1, 0.1, 3)
    _, aim = expand_rows(load_config(base, {"recipes.aim.lr": 0.2}))
    assert (aim.tuning.lr, aim.tuning.steps) == (0.2, 3)


def test_another_encoder_drops_the_keys_of_the_one_in_the_file() -> None:
    base = {**BASE, "encoder": {"name": "ViT-B-16", "pretrained": "openai", "mean": 0.5}}
    same = load_config(base, {"encoder.name": "ViT-B-16", "encoder.std": 0.2}).encoder
    assert (same.pretrained, same.mean, same.std) == ("openai", 0.5, 0.2)
    other = load_config(base, {"encoder.name": "ViT-L-14"}).encoder
    assert (other.pretrained, other.mean) == (None, None)
    assert load_config(base, {"encoder": "demo"}).encoder.pretrained is None


@pytest.mark.parametrize(
    ("adapters", "starts"),
    [
        (["frozen", "st-adapter"], ("fresh", "demo-motions")),
        (["frozen", "lora"], ("fresh",)),
        (["st-adapter", "lora"], ("fresh",)),
        (["frozen"], ("fresh",)),
    ],
)
def test_other_adapters_drop_the_starting_points_that_are_not_for_them(
    adapters: list[str], starts: tuple[str, ...]
) -> None:
    assert load_config("quickstart", {"adapter": adapters}).start == starts
    if "demo-motions" not in starts:
        with pytest.raises(ConfigError, match="start demo-motions"):
            load_config("quickstart", {"adapter": adapters, "start": "demo-motions"})
        with pytest.raises(ConfigError, match="start demo-motions"):
            load_config({**BASE, "adapter": adapters, "start": "demo-motions"})


def test_another_encoder_drops_the_starting_points_of_the_one_in_the_file() -> None:
    base = {**BASE, "encoder": "ViT-B-16", "start": ["fresh", "no-such-start"]}
    assert load_config(base, {"encoder": "demo"}).start == ("fresh",)
    for over in ({"encoder": "ViT-B-16"}, {"encoder": "demo", "start": "no-such-start"}):
        with pytest.raises(UnknownNameError, match="no-such-start"):
            load_config(base, over)


# --- paths --------------------------------------------------------------------------------------


def test_relative_paths_in_a_file_are_relative_to_it(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "split: lists/mine.yaml\nadapter: frozen\nroot: ../clips\noutput: out\ncache: /c\n"
        "encoder: {name: x, architecture: a.json, pretrained: w.safetensors}\n",
    )
    config = load_config(path)
    assert config.split == str(tmp_path / "lists" / "mine.yaml")
    assert config.root == tmp_path / "../clips"
    assert config.output == tmp_path / "out"
    assert config.cache == Path("/c")
    assert config.encoder.architecture == tmp_path / "a.json"
    assert config.encoder.pretrained == str(tmp_path / "w.safetensors")


def test_names_and_flags_are_not_made_relative_to_the_file(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "split: motions\nadapter: frozen\nroot: a\nencoder: {name: x, pretrained: openai}\n",
    )
    config = load_config(path, {"root": "b"})
    assert (config.split, config.encoder.pretrained) == ("motions", "openai")
    assert config.root == Path("b")


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("way", 1, "greater than or equal to 2"),
        ("way", "5", "a whole number"),
        ("way", True, "a whole number"),
        ("shot", 0, "greater than or equal to 1"),
        ("shot", [], "at least one"),
        ("shot", [1, 1], "1 is listed twice"),
        ("query", 0, "greater than or equal to 1"),
        ("episodes", 0, "greater than or equal to 1 or all"),
        ("episodes", 2.0, "a whole number"),
        ("seed", -1, "greater than or equal to 0"),
        ("max_failed", -1, "greater than or equal to 0"),
        ("workers", 0, "greater than 0"),
        ("at_once", 0, "from 1, or auto"),
        ("at_once", "many", "from 1, or auto"),
        ("device", "gpu", "auto, cpu, cuda or cuda:N"),
        ("precision", "fp16", "'auto', 'mixed', 'fp32' or 'bf16'"),
        ("name", "../x", "letters, digits"),
        ("root", 3, "a path"),
        ("deterministic", "yes", "true or false"),
        ("video.frames", 0, "greater than 0"),
        ("video.crop", 0.0, "greater than 0"),
        ("limits.frames", 0, "greater than 0"),
        ("limits.seconds", float("inf"), "finite"),
        ("limits.memory", 0.1, "0 for no limit, or at least 0.5 GiB"),
        ("video.crop", 1.5, "less than or equal to 1"),
        ("video.policy", "random", "'segment-center', 'uniform' or 'dense'"),
        ("tuning.crop_scale", 0.5, "two fractions of the area"),
        ("tuning.crop_scale", [0.5], "two fractions of the area"),
        ("tuning.crop_scale", [float("nan"), 1], "two fractions of the area"),
        ("tuning.crop_scale", [False, True], "two fractions of the area"),
        ("tuning.clip_norm", "Off", "expected a number or off"),
        ("tuning.lr", 0.0, "greater than 0"),
        ("tuning.lr", float("inf"), "finite"),
        ("tuning.warmup", 1.5, "less than or equal to 1"),
        ("tuning.warmup", float("nan"), "a number"),
        ("tuning.steps", -1, "greater than or equal to 0"),
        ("tuning.clip_norm", 0.0, "greater than 0"),
        ("tuning.crop_scale", [0.5, 0.2], "smallest <= largest"),
        ("encoder.mean", [0.1, 0.2], "one number, or three"),
        ("encoder.mean", float("nan"), "finite"),
        ("encoder.std", 0.0, "greater than 0"),
        ("encoder.std", [1.0, 1.0, 0.0], "greater than 0"),
        ("encoder.image_size", 0, "greater than 0"),
        ("adapter", "frozen:width", "NAME:key=value"),
        ("adapter", "frozen:width=1,width=2", "has two values"),
        ("adapter", ["frozen", "frozen"], "'frozen' is listed twice"),
        ("adapter", {"width": 3}, "adapter[0].name: missing"),
        ("recipes", {"frozen": {"lr": -1.0}}, "greater than 0"),
    ],
)
def test_a_value_out_of_bounds_is_named_with_what_was_expected(
    key: str, value: object, expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(BASE, {key: value})
    message = str(caught.value)
    assert expected in message
    assert re.search(rf"\b{re.escape(key)}\b", message)
    assert "missing" in message or "from a flag or override" in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("way", 2),
        ("video.crop", 1.0),
        ("tuning.steps", 0),
        ("encoder.mean", 0),
        ("device", "cuda:1"),
    ],
)
def test_the_bounds_themselves_are_accepted(key: str, value: object) -> None:
    assert expand_rows(load_config(BASE, {key: value}))


def test_all_bad_keys_are_listed_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "split: motions\nadapter: frozen\nway: 1\nquerry: 5\ntuning: {lr: -1, setps: 3}\n",
    )
    with pytest.raises(ConfigError) as caught:
        load_config(path, {"seed": -2})
    message = str(caught.value)
    assert f"{path}: 5 bad values" in message
    assert "way: got 1; expected" in message
    assert "tuning.lr: got -1; expected" in message
    assert "seed: got -2 (from a flag or override); expected" in message
    assert "did you mean 'query'?" in message
    assert "did you mean 'tuning.steps'" in message


def test_one_unknown_key_names_the_file_and_the_near_key(tmp_path: Path) -> None:
    path = write(tmp_path, "split: motions\nadapter: frozen\nepisode: 3\n")
    with pytest.raises(UnknownNameError, match="unknown config key 'episode'") as caught:
        load_config(path)
    assert "did you mean 'episodes'" in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_key_of_a_section_is_pointed_to() -> None:
    with pytest.raises(UnknownNameError, match="'lr' is a key of 'tuning'"):
        load_config(BASE, {"lr": 1.0})


def test_missing_keys_are_named() -> None:
    with pytest.raises(ConfigError, match="split: missing, and has no default"):
        load_config({"adapter": "frozen"})


def test_unknown_adapters_and_heads_are_refused_when_the_file_is_read() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown adapter 'frozn'; did you mean 'frozen'"):
        load_config(BASE, {"adapter": ["frozn"]})
    with pytest.raises(UnknownNameError, match=r"unknown head 'linaer'; did you mean 'linear'"):
        load_config(BASE, {"head": "linaer"})
    with pytest.raises(UnknownNameError, match="unknown adapter 'nope'"):
        load_config(BASE, {"recipes": {"nope": {}}})


def test_a_key_cannot_be_a_value_and_a_section() -> None:
    with pytest.raises(ConfigError, match="'tuning' has a single value too"):
        load_config(BASE, {"tuning": 1, "tuning.lr": 2.0})


def test_a_key_that_is_no_text_is_an_error_and_not_a_crash() -> None:
    with pytest.raises(ConfigError, match=r"override 1: expected a key such as 'tuning.steps'"):
        load_config(BASE, {1: 2})  # type: ignore[dict-item]


@pytest.mark.parametrize("section", ["encoder", "video", "tuning", "recipes"])
@pytest.mark.parametrize("value", [3, True, [1]])
def test_a_section_of_another_type_is_an_error_and_not_a_crash(section: str, value: object) -> None:
    with pytest.raises(UsageError, match=section):
        load_config({**BASE, section: value}, {"tuning.lr": 0.1, "encoder.image_size": 32})
    with pytest.raises(UsageError, match=section):
        load_config(BASE, {section: value})


def test_a_heading_with_nothing_below_it_is_no_section(tmp_path: Path) -> None:
    path = write(tmp_path, "split: motions\nadapter: frozen\ntuning:\n  # lr: 1\nrecipes:\n")
    assert load_config(path) == load_config({**BASE, "name": "mine"})


def test_configurations_cannot_be_changed() -> None:
    config = load_config(BASE)
    with pytest.raises(ValidationError):
        config.way = 3


# --- schema -------------------------------------------------------------------------------------


def test_the_schema_names_every_key_and_allows_short_forms() -> None:
    schema = config_schema()
    assert set(schema["properties"]) == set(EvaluationConfig.model_fields)
    assert schema["required"] == ["split"]
    assert {"type": "string"} in schema["$defs"]["MethodSpec"]["anyOf"]
    assert schema["additionalProperties"] is False
    json.dumps(schema)


def properties(schema: object, parent: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the properties of all objects of a schema, by name."""
    if isinstance(schema, list):
        for item in schema:
            yield from properties(item, parent)
    elif isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            for name, value in schema["properties"].items():
                yield f"{schema.get('title', parent)}.{name}", value
        for key, value in schema.items():
            yield from properties(value, key)


@pytest.mark.parametrize("model", [EvaluationConfig, TrainingConfig, RowConfig])
def test_every_key_of_a_schema_has_a_description(model: type[BaseModel]) -> None:
    described = dict(properties(model.model_json_schema()))
    assert {"EncoderConfig.name", "VideoConfig.crop"} <= described.keys()
    texts = {name: value.get("description", "") for name, value in described.items()}
    bad = [name for name, text in texts.items() if not re.fullmatch(r"[A-Za-z].*\.", text)]
    assert bad == [], "a sentence each"


# --- hostile input ------------------------------------------------------------------------------

_leaf = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))
_any = st.recursive(
    _leaf,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.sampled_from(sorted(EvaluationConfig.model_fields)), _any)
def test_any_value_is_used_or_refused_with_a_plain_error(key: str, value: object) -> None:
    with contextlib.suppress(UsageError):
        assert expand_rows(load_config({**BASE, key: value}))


@pytest.mark.parametrize("policy", ["uniform", "dense"])
def test_frames_are_jittered_within_segments_only(policy: str) -> None:
    jittered = {"split": "motions", "tuning": {"temporal": True}}
    assert load_config(jittered).tuning.temporal
    said = rf"tuning.temporal .*needs video.policy segment-center; with {policy} give tuning.temp"
    with pytest.raises(ConfigError, match=said):
        load_config({**jittered, "video": {"policy": policy}})
    recipes = {"split": "motions", "adapter": "aim", "recipes": {"aim": {"temporal": True}}}
    assert load_config(recipes).recipes["aim"].temporal
    with pytest.raises(ConfigError, match=r"recipes.aim.temporal chooses frames"):
        load_config({**recipes, "video": {"policy": policy}})


@pytest.mark.parametrize(
    "change",
    [{"crop_scale": [0.5, 1]}, {"colour": 0.2}, {"temporal": True}, {"flip": "auto"}],
    ids=str,
)
def test_several_views_need_augmentation(change: dict[str, object]) -> None:
    tuning = {"views": 2, **change}
    assert load_config({"split": "motions", "tuning": tuning}).tuning.views == 2
    with pytest.raises(ConfigError, match=r"got 2 without any augmentation.*or views 1"):
        load_config({"split": "motions", "tuning": {"views": 2, "label_smoothing": 0.1}})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("views", 0),
        ("views", 65),
        ("colour", -0.1),
        ("colour", 1.5),
        ("label_smoothing", 1.0),
        ("label_smoothing", -0.1),
        ("temporal", "often"),
    ],
)
def test_impossible_changes_of_support_clips_are_refused(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        load_config({"split": "motions", "tuning": {key: value, "flip": "on"}})


def test_the_limit_of_the_cache_has_a_unit_and_is_no_part_of_the_identity() -> None:
    plain, limited = load_config("quickstart"), load_config("quickstart", {"cache_limit": "20GB"})
    assert limited.cache_limit == "20GB"
    assert plain.identity() == limited.identity()
    with pytest.raises(
        ConfigError, match=r"cache_limit: .*expected a size with a unit, such as 20"
    ):
        load_config("quickstart", {"cache_limit": "20"})


def test_what_a_protocol_cites_is_no_part_of_what_decides_results() -> None:
    entry = "@misc{doe2024, title = {A Protocol}}"
    plain, citing = (load_config({**BASE, **more}) for more in ({}, {"citation": entry}))
    rows = [expand_rows(config)[0] for config in (plain, citing)]
    assert [row.citation for row in rows] == ["", entry]
    assert rows[0].identity() == rows[1].identity()
    assert find_setting_origins(citing, "mine", {}) == find_setting_origins(plain, "mine", {})
    with pytest.raises(ConfigError, match=r"citation: .*expected BibTeX entries: "):
        load_config({**BASE, "citation": "Doe, A Protocol"})


def test_flags_of_sections_that_do_not_go_together_are_named() -> None:
    flags = {"video.policy": "uniform", "tuning.temporal": True}
    with pytest.raises(ConfigError, match=r"from flags or overrides: video.policy, tuning.tempo"):
        load_config("quickstart", flags)
    with pytest.raises(ConfigError, match=r"from flags or overrides: tuning.temporal$"):
        load_config({**BASE, "video": {"policy": "uniform"}}, {"tuning.temporal": True})
