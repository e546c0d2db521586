"""Answers that also count the logits of the adapter before it is tuned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from fewshot_i2v.cli._root import cli
from fewshot_i2v.errors import UsageError
from fewshot_i2v.evaluation import evaluate
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.export import export_episode
from fewshot_i2v.evaluation.fitting.candidates import load_fit_config
from fewshot_i2v.evaluation.results import EvaluationResult
from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.evaluation.row_runner import RowRunner, TunedGroup
from fewshot_i2v.evaluation.row_work import count_work
from fewshot_i2v.runs.run_folder import read_run
from tests.tiny import tiny_folder, tiny_run

TUNING: dict[str, Any] = {"steps": 4, "lr": 0.1, "recipe": "none"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("untuned-weight"))


def _runner(
    folder: Path, head: str = "prototype", *, adapter: str = "aim", shot: int = 2, **tuning: Any
) -> RowRunner:
    config = tiny_run(
        folder, folder / "out", adapter=adapter, head=head, shot=[shot], tuning=TUNING | tuning
    )
    context = EvaluationContext.of(config)
    runner = evaluate.build_row_runners(context)[0]
    context.decode_episodes(runner.episodes, runner.row.tuning, progress=False)
    return runner


def _tuned(folder: Path, head: str = "prototype", **tuning: Any) -> TunedGroup:
    runner = _runner(folder, head, **tuning)
    return runner.run_group(runner.episodes[:2])


def test_logits_are_the_weighted_mean_of_tuned_and_untuned_ones(folder: Path) -> None:
    alone, untuned = _tuned(folder), _tuned(folder, steps=0)
    assert (alone.logits - untuned.logits).abs().max() > 0.01
    for weight in (0.25, 0.5):
        both = _tuned(folder, untuned_weight=weight)
        torch.testing.assert_close(
            both.logits, (1 - weight) * alone.logits + weight * untuned.logits
        )
        # the tuning itself is the same, to the bit
        assert torch.equal(both.tuned_logits, alone.logits)
        for mixed, single in zip(both.records, alone.records, strict=True):
            assert mixed.losses == single.losses
            expected = both.logits[both.records.index(mixed)].softmax(-1)
            assert np.allclose(mixed.probabilities, expected, atol=1e-6)
    assert torch.equal(alone.logits, alone.tuned_logits)


def test_a_head_that_begins_untrained_has_no_untuned_logits(folder: Path) -> None:
    runner = _runner(folder, "linear", untuned_weight=0.5)
    assert runner.tuning.untuned_weight == 0
    (note,) = (note for note in runner.notes if "untuned_weight" in note)
    assert note.startswith("tuning.untuned_weight 0.5 is not used with head linear")
    both, alone = (_tuned(folder, "linear", untuned_weight=weight) for weight in (0.5, 0))
    assert torch.equal(both.logits, alone.logits)
    # the weight of a recipe is for other heads, and needs no word
    by_recipe = _runner(folder, "linear", shot=1, recipe="auto")
    assert (by_recipe.row.tuning.untuned_weight, by_recipe.tuning.untuned_weight) == (0.5, 0)
    assert not any("untuned_weight" in note for note in by_recipe.notes)


@pytest.mark.parametrize("adapter", ["aim", "frozen"])
def test_a_head_that_begins_untrained_is_tuned_whatever_its_loss(
    folder: Path, adapter: str
) -> None:
    """It knows nothing before the first step: an episode that is left would guess."""
    runner = _runner(folder, "linear", adapter=adapter, min_loss=100.0)
    (note,) = (note for note in runner.notes if "min_loss" in note)
    assert note.startswith("tuning.min_loss 100 is not used with head linear")
    group = runner.run_group(runner.episodes[:2])
    assert [len(record.losses) for record in group.records] == [4, 4]


def test_other_heads_say_that_episodes_are_left(folder: Path) -> None:
    said = [n for n in _runner(folder, min_loss=0.1).notes if "min_loss" in n]
    assert [text.partition(" before")[0] for text in said] == [
        "aim: episodes whose support loss is below 0.1"
    ]
    assert not any("min_loss" in n for n in _runner(folder, adapter="frozen", min_loss=0.1).notes)


def test_rows_of_earlier_versions_go_on(folder: Path) -> None:
    def _identity(**tuning: Any) -> dict[str, Any]:
        config = tiny_run(folder, folder / "out", adapter="aim", tuning=TUNING | tuning)
        identity: dict[str, Any] = expand_rows(config)[0].identity()["tuning"]
        return identity

    assert "untuned_weight" not in _identity()
    assert _identity(untuned_weight=0.5) == _identity() | {"untuned_weight": 0.5}


def test_a_second_prediction_is_counted(folder: Path) -> None:
    (alone,), (both,) = (
        count_work([_runner(folder, untuned_weight=weight)]) for weight in (0, 0.5)
    )
    assert both.predicted_clips == 2 * alone.predicted_clips > 0
    assert (both.steps, both.step_clips) == (alone.steps, alone.step_clips)


def _run(folder: Path, name: str, **tuning: Any) -> EvaluationResult:
    changes = {"adapter": "aim", "head": "prototype", "shot": [1], "query": 4, "episodes": 4}
    return evaluate.run(tiny_run(folder, folder / name, **changes, tuning=TUNING | tuning))


def test_an_export_says_how_good_the_tuned_adapter_alone_is(folder: Path) -> None:
    alone = read_run(_run(folder, "alone", lr=3.0).rows[0].folder).records
    row = _run(folder, "both", lr=3.0, untuned_weight=0.5).rows[0].folder
    both = read_run(row).records
    episode = next(i for i in both if both[i].accuracy != alone[i].accuracy)
    exported = export_episode(
        row,
        episode,
        folder / "exported",
        architecture=folder / "tiny.json",
        cache=folder / "cache",
    )
    assert exported.accuracy == both[episode].accuracy
    assert exported.exported_accuracy == alone[episode].accuracy
    about = json.loads((exported.folder / "adapter.json").read_text(encoding="utf-8"))["about"]
    assert about["accuracy"] == alone[episode].accuracy
    assert about["run_accuracy"] == both[episode].accuracy
    assert exported.difference < 1e-5


@pytest.mark.parametrize("weight", [0.0, 0.01])
def test_an_export_says_what_it_leaves_out_where_no_prediction_differs(
    folder: Path, weight: float
) -> None:
    name = f"as-good-{weight:g}"
    row = _run(folder, name, untuned_weight=weight).rows[0].folder
    places = ["--architecture", str(folder / "tiny.json"), "--cache", str(folder / "cache")]
    out = ["--episode", "0", "--out", str(folder / name / "exported")]
    done = CliRunner().invoke(cli, ["export", str(row), *out, *places])
    assert done.exit_code == 0, done.output
    assert ("(tuning.untuned_weight 0.01), which the folder does not hold" in done.stdout) == (
        weight > 0
    )


def test_a_fit_refuses_it_and_leaves_that_of_recipes_out() -> None:
    with pytest.raises(UsageError, match=r"untuned_weight: has no meaning for a fit"):
        load_fit_config("motions", {"adapter": ["aim"], "tuning": {"untuned_weight": 0.5}})
    config, _ = load_fit_config("motions", {"adapter": ["aim"], "head": ["prototype"]})
    assert config.tuning.untuned_weight == 0


def test_a_weight_of_one_would_leave_tuning_out() -> None:
    with pytest.raises(Exception, match=r"tuning\.untuned_weight"):
        load_config({"split": "motions", "tuning": {"untuned_weight": 1.0}})
