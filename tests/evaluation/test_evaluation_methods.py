"""Adapters and heads through the main job: grids of tokens, presets, remarks, side branches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fewshot_i2v import registry
from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.errors import ConfigError, HeadError, RecordError, UnknownNameError
from fewshot_i2v.evaluation import evaluate
from fewshot_i2v.evaluation.context import EvaluationContext
from tests.tiny import tiny_folder, tiny_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Architecture, split and decoded clips that the tests of this file share."""
    return tiny_folder(tmp_path_factory.mktemp("methods"))


def _config(folder: Path, output: Path, **changes: Any) -> EvaluationConfig:
    return tiny_run(folder, output, **{"episodes": 3, "tuning": {"steps": 2}} | changes)


def test_heads_can_see_a_grid_of_patch_tokens(folder: Path, tmp_path: Path) -> None:
    adapters = ["frozen", "aim", "m-adapter"]
    heads = ["prototype:pooling=ordered,center=true", "linear"]
    config = _config(folder, tmp_path, adapter=adapters, head=heads, tokens="grid2")
    result = evaluate.run(config)
    assert {row.head for row in result.rows} == {
        "prototype:center=true,pooling=ordered,tokens=grid2",
        "linear:tokens=grid2",
    }
    width = 32
    frozen = next(row for row in result.rows if row.adapter == "frozen" and "linear" in row.head)
    assert frozen.parameters == (2 * 2 * width + 1) * 3
    assert all(row.episodes == 3 for row in result.rows)


def test_a_grid_finer_than_the_patches_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    config = _config(folder, tmp_path, head=["prototype"], tokens="grid9")
    with pytest.raises(HeadError, match=r"grid9: this encoder has 2 x 2 patches"):
        evaluate.run(config)
    assert list(tmp_path.iterdir()) == []


def test_a_preset_is_what_it_stands_for(folder: Path, tmp_path: Path) -> None:
    adapters = ["aim:preset=ssv2", "aim:temporal_adapters=2,scale=1.0"]
    result = evaluate.run(_config(folder, tmp_path, adapter=adapters))
    preset, spelt = result.rows
    assert preset.adapter == "aim:preset=ssv2"
    assert preset.parameters == spelt.parameters
    assert dict(preset.accuracies) == dict(spelt.accuracies)


def test_an_unknown_preset_is_refused_before_any_decoding(folder: Path, tmp_path: Path) -> None:
    config = _config(folder, tmp_path / "out", adapter=["aim:preset=ssv1"])
    with pytest.raises(UnknownNameError, match="ssv2"):
        evaluate.run(config)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("head", ["linear", "trx"])
@pytest.mark.parametrize("at_once", ["auto", 2])
def test_a_head_that_no_step_trains_is_refused_before_any_decoding(
    folder: Path, tmp_path: Path, head: str, at_once: str | int
) -> None:
    """Random values would score like guessing, with nothing that says why."""
    given = {"head": ["prototype", head], "shot": [1, 2], "at_once": at_once}
    fresh = {"cache": str(tmp_path / "cache")}
    config = _config(folder, tmp_path / "out", tuning={"steps": 0}, **given, **fresh)
    said = rf"head: {head} has \d+ parameters .* no step trains .*--steps of 1 or more, or a head"
    for job in (evaluate.run, evaluate.dry_run):
        with pytest.raises(ConfigError, match=said):
            job(config)
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_without_steps_counts_for_its_adapter(folder: Path, tmp_path: Path) -> None:
    recipes = {"aim": {"steps": 0}}
    config = _config(
        folder, tmp_path / "out", adapter=["frozen", "aim"], head="linear", recipes=recipes
    )
    with pytest.raises(ConfigError, match=r"linear has \d+ parameters"):
        evaluate.dry_run(config)
    rows = evaluate.dry_run(config.model_copy(update={"recipes": {}}))["cost"]["rows"]
    assert len(rows) == 2


def test_large_copies_run_one_episode_at_a_time_and_the_run_says_so(
    folder: Path, tmp_path: Path
) -> None:
    config = _config(folder, tmp_path, adapter=["full", "aim"])
    result = evaluate.run(config)
    assert len(result.remarks) == 1
    assert result.remarks[0].startswith("full: episodes run one at a time")
    header = json.loads((result.rows[0].folder / "run.json").read_text(encoding="utf-8"))
    assert header["identity"]["at_once"] == 1
    asked = evaluate.run(_config(folder, tmp_path / "two", adapter=["full"], at_once=2))
    assert asked.remarks == ()
    assert dict(asked.rows[0].accuracies) == dict(result.rows[0].accuracies)


@pytest.mark.parametrize("tokens", ["summary", "all"])
def test_the_levels_of_a_clip_are_computed_once_per_run(
    folder: Path, tmp_path: Path, tokens: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[EvaluationContext] = []
    original = EvaluationContext.of

    def _open(config: EvaluationConfig) -> EvaluationContext:
        opened.append(original(config))
        return opened[0]

    monkeypatch.setattr(EvaluationContext, "of", _open)
    config = _config(folder, tmp_path, adapter=[f"m-adapter:tokens={tokens}"], shot=[1, 2])
    evaluate.run(config)
    (bank,) = opened[0].caches.by_key.values()
    clips = {
        n for specs in opened[0].episodes.values() for spec in specs for n in spec.clip_names()
    }
    assert bank.clips_encoded == len(clips)


def test_banks_that_no_later_row_reads_are_freed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[EvaluationContext] = []
    original = EvaluationContext.of

    def _of(config: EvaluationConfig) -> EvaluationContext:
        opened.append(original(config))
        return opened[0]

    monkeypatch.setattr(EvaluationContext, "of", _of)
    adapters = ["aim", "frozen", "st-adapter", "m-adapter"]
    evaluate.run(_config(folder, tmp_path, adapter=adapters))
    assert [key.levels for key in opened[0].caches.by_key] == [(0, 1)]


def test_a_resumed_run_with_an_edited_plug_in_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (Path(registry.__file__).parent / "models" / "heads" / "linear.py").read_text(
        encoding="utf-8"
    )
    own = tmp_path / "plug-ins" / "heads" / "mine.py"
    own.parent.mkdir(parents=True)
    own.write_text(source, encoding="utf-8")
    monkeypatch.setenv("FEWSHOT_I2V_PLUGINS", str(tmp_path / "plug-ins"))
    config = _config(folder, tmp_path / "out", head=["mine"])
    evaluate.run(config)
    evaluate.run(config)
    own.write_text(source + "\n# changed\n", encoding="utf-8")
    with pytest.raises(RecordError, match=r"methods\.head\.code"):
        evaluate.run(config)


@pytest.mark.slow
def test_every_adapter_runs_with_every_head(folder: Path, tmp_path: Path) -> None:
    heads = [
        h
        for h in registry.method_names("heads")
        if not registry.load_method("heads", h).uses_class_names
    ]
    config = _config(
        folder,
        tmp_path,
        adapter=registry.method_names("adapters"),
        head=heads,
        episodes=2,
        shot=[2],
    )
    result = evaluate.run(config)
    assert len(result.rows) == len(registry.method_names("adapters")) * len(heads)
    assert all(row.episodes == 2 for row in result.rows)
