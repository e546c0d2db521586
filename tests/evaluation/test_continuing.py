"""Going on with a run from what its folder says: for no key of a configuration is that refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.config.start_names import shipped_starts_folder
from fewshot_i2v.data.episodes.episode_file import make_episode_file, write_episode_file
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.evaluation import evaluate
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.reproduce import continuation_commands, reproduction_recipes
from fewshot_i2v.evaluation.row_expansion import load_config
from fewshot_i2v.runs.run_folder import read_run
from fewshot_i2v.utils import resources
from fewshot_i2v.utils.yaml import parse_yaml
from tests.tiny import tiny_folder, tiny_run

VALUES: dict[str, Any] = {
    "citation": "@misc{other,\n  author = {Other, A.},\n  title = {Another},\n  year = {2020},\n"
    "  url = {https://example.org}\n}",
    **{"name": "other", "source": "a paper", "seed": 3, "output": None, "verify": True},
    **{"encoder.image_size": 48, "encoder.mean": 0.4, "encoder.std": 0.3},
    **{"video.frames": 2, "video.policy": "uniform", "video.crop": 0.9, "video.backend": "decord"},
    **{"limits.frames": 7000, "limits.pixels": 9000, "limits.seconds": 5.0, "limits.memory": 2.0},
    **{"precision": "bf16", "device": "cpu", "deterministic": True, "compile": True},
    **{"workers": 2, "cache_limit": "1GB", "feature_cache": False},
    **{"way": 2, "query": 1, "episodes": 3, "until": 3.0},
    **{"tuning.recipe": "none", "tuning.steps": 2, "tuning.lr": 0.5},
    **{"tuning.head_lr": 0.5, "tuning.weight_decay": 0.5, "tuning.warmup": 0.5},
    **{"tuning.schedule": "constant", "tuning.clip_norm": None, "tuning.flip": "on"},
    **{"tuning.crop_scale": [0.5, 1.0], "tuning.colour": 0.5, "tuning.temporal": True},
    **{"tuning.label_smoothing": 0.5, "tuning.untuned_weight": 0.5, "tuning.min_loss": 0.5},
    **{"at_once": 2, "max_failed": 4, "shot": [1, 2], "adapter": ["frozen", "lora:rank=2"]},
    **{"head": ["prototype", "linear"], "training_seeds": [3, 4], "tokens": "grid1"},
    **{"frame_order": "reversed", "recipes": {"lora": {"steps": 1}}},
}
"""A value that is no default, by key."""
TOGETHER: dict[str, dict[str, Any]] = {
    "video.stride": {"video": {"policy": "dense", "stride": 2}},
    "tuning.batch": {"tuning": {"batch": 1}, "head": "linear"},
    "tuning.views": {"tuning": {"views": 2, "flip": "on"}},
    "max_episodes": {"until": 3.0, "max_episodes": 30},
    "sampling": {"sampling": "disjoint", "way": 2, "query": 1, "episodes": "all"},
    "partitions": {"sampling": "disjoint", "partitions": 2, "way": 2, "query": 1, "episodes": 2},
    "uneven_shots": {"shot": "1-2", "uneven_shots": True},
    "untuned": {"untuned": True, "start": "demo-motions"},
    "start": {"start": ["fresh", "demo-motions"]},
    "allow_seen": {"allow_seen": True, "start": "demo-motions", "subset": "base"},
    "subset": {"subset": "base"},
}
"""Keys that need others, and the keys whose values need the shipped encoder and split."""
WITH_FILES = {
    "class_texts",
    "disjoint_groups",
    "split",
    "root",
    "cache",
    "trials",
    "encoder.architecture",
    "encoder.pretrained",
}
"""Each has a test of its own below, or is given in every one."""
ELSEWHERE = {
    "encoder.name": "the encoders of all cases have names",
    "tuning.optimizer": "needs a start of meta-training; it is in the identity",
    "draws": "needs a split with published draws; it is in the identity",
}


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _keys(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("continuing"))


def _headers(config: EvaluationConfig) -> list[dict[str, Any]]:
    """Contents of `run.json` of the rows of a run, as its folder has them."""
    runners = evaluate.build_row_runners(EvaluationContext.of(config))
    made = []
    for runner in runners:
        facts, identity = runner.header()
        made.append(json.loads(json.dumps({**facts, "identity": identity})))
    return made


def _shown(headers: list[dict[str, Any]]) -> dict[str, Any]:
    """What `config show RUN` prints, read again."""
    (recipe,) = reproduction_recipes("x", headers, episodes=2)
    assert "exactly these rows" in recipe.remarks[0]
    shown: dict[str, Any] = parse_yaml(recipe.config, "run")
    return shown


def _assert_goes_on(config: EvaluationConfig) -> dict[str, Any]:
    headers = _headers(config)
    shown = _shown(headers)
    again = _headers(load_config(shown, {"output": config.output, "cache": config.cache}))
    by_row = [
        sorted(json.dumps(h["identity"], sort_keys=True) for h in m) for m in (headers, again)
    ]
    assert by_row[0] == by_row[1]
    kept = [[h["settings"] for h in made] for made in (headers, again)]
    assert kept[0] == kept[1]
    return shown


def test_every_key_has_a_case() -> None:
    cases = [VALUES, TOGETHER, WITH_FILES, ELSEWHERE]
    assert sorted(_keys(EvaluationConfig)) == sorted(key for case in cases for key in case)


@pytest.mark.parametrize("key", dict.fromkeys(key.partition(".")[0] for key in VALUES))
def test_a_run_with_any_key_goes_on(key: str, folder: Path, tmp_path: Path) -> None:
    """A section has all its keys at once."""
    base = tiny_run(folder, tmp_path / "run", adapter=["lora"], head="prototype", episodes=2)
    if key == "until":
        base = load_config(base.model_dump(exclude_unset=True, exclude={"episodes"}), {})
    inner = {k[len(key) + 1 :]: v for k, v in VALUES.items() if k.startswith(f"{key}.")}
    overrides = {key: VALUES.get(key, inner)}
    if key == "output":
        overrides = {"output": tmp_path / "elsewhere"}
    _assert_goes_on(load_config(base.model_dump(exclude_unset=True), overrides))


@pytest.mark.parametrize("key", TOGETHER)
def test_a_run_with_keys_that_need_others_goes_on(key: str, folder: Path, tmp_path: Path) -> None:
    given = TOGETHER[key]
    if {"start", "subset"} & given.keys():
        base: dict[str, Any] = {"split": "motions", "adapter": ["st-adapter"], "head": "prototype"}
        base |= {"video": {"crop": 1.0}, "output": tmp_path / "run", "cache": tmp_path}
        config = load_config(base | {"episodes": 2} | given)
    else:
        tiny = tiny_run(folder, tmp_path / "run", adapter=["lora"], head="prototype")
        config = load_config(tiny.model_dump(exclude_unset=True), given)
    _assert_goes_on(config)


def test_files_that_a_run_was_given_are_given_again(folder: Path, tmp_path: Path) -> None:
    """A split with groups and a folder of clips, which are others than a shipped split's."""
    split = tmp_path / "motions.yaml"
    text = (folder / "tiny.yaml").read_text(encoding="utf-8")
    split.write_text(f"{text}group: '-([0-9]+)[.]mp4'\n", encoding="utf-8")
    tiny = tiny_run(folder, tmp_path / "run", head="prototype", episodes=2, way=2, query=1)
    given = {"split": str(split), "root": str(tmp_path), "disjoint_groups": True}
    shown = _assert_goes_on(load_config(tiny.model_dump(exclude_unset=True), given))
    assert (shown["split"], shown["root"]) == (str(split), str(tmp_path))


def test_a_shipped_split_in_another_place_keeps_its_name(folder: Path, tmp_path: Path) -> None:
    headers = _headers(_quickstart(tmp_path))
    for header in headers:
        header["split"]["path"] = str(tmp_path / "motions.yaml")
    (tmp_path / "motions.yaml").write_bytes(resources.data_file("episodes", "motions").read_bytes())
    assert _shown(headers)["split"] == "motions"


def _quickstart(output: Path, **given: Any) -> EvaluationConfig:
    return load_config("quickstart", {"output": output, "cache": output, "episodes": 2, **given})


def test_a_shipped_configuration_with_a_file_does_not_go_on_by_its_name(tmp_path: Path) -> None:
    """Its rows are the same but for the episodes, which a file of episodes gives."""
    context = EvaluationContext.of(_quickstart(tmp_path))
    plain = _headers(context.config)
    assert len(continuation_commands(tmp_path, plain, [])) == 1
    trials = tmp_path / "trials.csv"
    (source,) = context.sources.values()
    episodes = [source[index] for index in range(3)]
    write_episode_file(make_episode_file(context.split, "novel", episodes, {}), trials)
    config = _quickstart(tmp_path, trials=str(trials))
    assert len(continuation_commands(tmp_path, _headers(config), [])) == 2
    assert _assert_goes_on(config)["trials"] == str(trials)


def test_texts_of_classes_go_on_without_their_file(tmp_path: Path) -> None:
    texts = {name: f"it {name}" for name in load_split("motions").classes("novel")}
    file = tmp_path / "texts.json"
    file.write_text(json.dumps(texts), encoding="utf-8")
    heads = {"head": ["tip", "prototype"], "adapter": "frozen"}
    config = _quickstart(tmp_path, class_texts=str(file), **heads)
    file.unlink()
    assert _assert_goes_on(config)["class_texts"] == {name: [text] for name, text in texts.items()}
    assert len(continuation_commands(tmp_path, _headers(config), [])) == 2


@pytest.mark.parametrize("given", [{"at_once": 2}, {"device": "cpu"}, {"max_failed": 1}])
def test_a_shipped_configuration_with_a_setting_does_not_go_on_by_its_name(
    given: dict[str, Any], tmp_path: Path
) -> None:
    headers = _headers(_quickstart(tmp_path, **given))
    assert len(continuation_commands(tmp_path, headers, [])) == 2
    assert given.items() <= _shown(headers).items()


def test_a_start_of_ones_own_is_given_by_its_folder(tmp_path: Path) -> None:
    """Also one of several in a folder, and one that has the name of a shipped one."""
    own = tmp_path / "mine"
    for adapter in ("st-adapter", "aim"):
        shutil.copytree(shipped_starts_folder() / "demo-motions" / adapter, own / adapter)
    headers = _headers(_quickstart(tmp_path, adapter=["st-adapter"], start=str(own)))
    assert _shown(headers)["start"] == [str(own)]
    other = own.rename(tmp_path / "demo-motions")
    headers = _headers(_quickstart(tmp_path, adapter=["aim"], start=str(other), untuned=False))
    # of equal bytes it is the shipped one
    assert _shown(headers)["start"] == ["demo-motions"]
    facts = other / "aim" / "adapter.json"
    text = facts.read_text(encoding="utf-8")
    facts.write_text(text.replace(json.loads(text)["tensors"]["sha256"], "0" * 64), "utf-8")
    assert _shown(headers)["start"] == [str(other)]


def test_a_run_without_a_record_of_its_settings_goes_on(tmp_path: Path) -> None:
    """As earlier versions wrote it: what tunes side by side and where is in the identity."""
    headers = _headers(_quickstart(tmp_path, at_once=3))
    for header in headers:
        del header["settings"]
    shown = _shown(headers)
    assert (shown["at_once"], shown["device"]) == (3, "cpu")
    headers[0]["identity"]["at_once"] = 7
    assert "at_once" not in _shown(headers)  # as auto gives each row its own


def test_rows_that_differ_in_at_once_have_no_command(tmp_path: Path) -> None:
    headers = _headers(_quickstart(tmp_path, at_once=3, adapter="frozen", shot=[1, 2]))
    headers[1]["settings"], headers[1]["identity"]["at_once"] = {}, 256
    (recipe,) = reproduction_recipes("x", headers, episodes=2)
    assert "cannot hold" in recipe.remarks[0]
    assert continuation_commands(tmp_path, headers, []) == []


def test_the_settings_are_those_of_the_latest_command(folder: Path, tmp_path: Path) -> None:
    for failed in (0, 2):
        result = evaluate.run(
            tiny_run(folder, tmp_path, head="prototype", episodes=1, max_failed=failed)
        )
        header = read_run(result.rows[0].folder).header
        assert header["settings"].get("max_failed", 0) == failed
    assert _shown([header])["max_failed"] == 2
