"""Evaluations whose heads begin as the head of a starting point, or beside one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.errors import ConfigError
from fewshot_i2v.evaluation import evaluate
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.export import export_episode
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.models.checkpoints.adapter_checkpoint import load_adapter
from fewshot_i2v.models.checkpoints.starting_point import read_start
from fewshot_i2v.runs.run_folder import read_run
from tests.evaluation.exports import Runs
from tests.models.made_starts import make_start

TRX = "trx:cardinalities=[2],channels=8"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The tiny encoder, split and clips, and starts that hold a head or none."""
    runs = Runs(tmp_path_factory.mktemp("heads"))
    for name, head in (("trx", TRX), ("linear", "linear"), ("plain", "")):
        make_start(runs.folder / name, runs.encoder(), head=head)
    return runs


def _config(runs: Runs, start: str, output: Path, **changes: Any) -> EvaluationConfig:
    settings = {"adapter": "st-adapter", "head": TRX, "start": str(runs.folder / start)}
    return runs.config("x", **(settings | changes | {"output": str(output)}))


def _runner(config: EvaluationConfig) -> RowRunner:
    return evaluate.build_row_runners(EvaluationContext.of(config))[0]


def _records(folder: Path) -> list[Any]:
    return list(read_run(folder).records.values())


@pytest.mark.parametrize("steps", [0, 2])
def test_heads_begin_as_that_of_the_start(runs: Runs, tmp_path: Path, steps: int) -> None:
    config = _config(runs, "trx", tmp_path / "r", tuning={"steps": steps})
    runner = _runner(config)
    start = read_start(runs.folder / "trx", "st-adapter")
    assert start.head is not None
    for name, value in runner.build_head([0, 3]).state_dict().items():
        assert torch.equal(value, start.head.tensors[f"head.{name}"].expand_as(value))
    assert runner.notes == []
    identity = runner.header()[1]
    assert identity["start"] == {
        "kind": "base-trained",
        "digest": start.digest,
        "head": start.head.digest,
    }
    started = _records(evaluate.run(config).rows[0].folder)
    one = _config(runs, "trx", tmp_path / "o", tuning={"steps": steps}, at_once=1)
    alone = _records(evaluate.run(one).rows[0].folder)
    assert [len(r.losses) for r in started] == [steps] * 5
    for a, b in zip(started, alone, strict=True):
        assert a.predictions == b.predictions
        for p, q in zip(a.probabilities, b.probabilities, strict=True):
            assert p == pytest.approx(q, abs=1e-5)


def test_values_of_the_head_change_what_is_predicted(runs: Runs, tmp_path: Path) -> None:
    steps = {"steps": 1, "head_lr": 1e-9, "lr": 1e-9}
    folders = [
        evaluate.run(_config(runs, start, tmp_path / start, tuning=steps)).rows[0].folder
        for start in ("trx", "plain")
    ]
    started, fresh = ([r.probabilities for r in _records(folder)] for folder in folders)
    assert started != fresh


@pytest.mark.parametrize(
    ("start", "head", "way", "reason"),
    [
        ("trx", "trx:cardinalities=[2],channels=4", 3, "head of the start channels=8"),
        ("trx", "linear", 3, "it is linear, and the start holds trx"),
        ("linear", "linear", 4, "trained for 3 classes, and the episodes have 4"),
        ("linear", "linear", "2-4", "trained for 3 classes, and the episodes have 2-4"),
    ],
)
def test_another_head_begins_fresh_and_the_run_says_so(
    runs: Runs, tmp_path: Path, start: str, head: str, way: int | str, reason: str
) -> None:
    changes = {"head": head, "way": way}
    config = _config(runs, start, tmp_path / "r", tuning={"steps": 2}, **changes)
    runner = _runner(config)
    assert "begins fresh in every episode" in runner.notes[0]
    assert reason in runner.notes[0]
    identity = runner.header()[1]
    assert identity["start"]["head"] == "fresh"
    plain = _config(runs, "plain", tmp_path / "p", tuning={"steps": 2}, **changes)
    head_now, head_then = (r.build_head([0]).state_dict() for r in (runner, _runner(plain)))
    assert all(torch.equal(head_now[name], head_then[name]) for name in head_now)
    with pytest.raises(ConfigError, match=r"no step trains .* or a start that was trained with"):
        _runner(_config(runs, start, tmp_path / "n", tuning={"steps": 0}, **changes))


@pytest.mark.parametrize(("start", "head"), [("plain", TRX), ("trx", "prototype")])
def test_rows_without_a_head_to_begin_from_have_the_identity_of_before(
    runs: Runs, tmp_path: Path, start: str, head: str
) -> None:
    runner = _runner(_config(runs, start, tmp_path / "r", head=head))
    assert runner.header()[1]["start"].keys() == {"kind", "digest"}
    assert not any("begins fresh" in note for note in runner.notes)


def test_classifiers_of_as_many_classes_begin_as_in_meta_training(
    runs: Runs, tmp_path: Path
) -> None:
    runner = _runner(_config(runs, "linear", tmp_path / "r", head="linear"))
    start = read_start(runs.folder / "linear", "st-adapter")
    assert start.head is not None
    assert torch.equal(
        runner.build_head([2]).state_dict()["weight"], start.head.tensors["head.weight"]
    )


def test_an_episode_is_exported_with_the_head_it_began_from(runs: Runs, tmp_path: Path) -> None:
    config = _config(runs, "trx", tmp_path / "r", tuning={"steps": 0})
    folder = evaluate.run(config).rows[0].folder
    result = runs.export(folder, tmp_path / "e")
    assert result.difference <= 1e-5
    start = read_start(runs.folder / "trx", "st-adapter")
    head = load_adapter(tmp_path / "e", runs.encoder()).head
    assert head is not None
    assert start.head is not None
    for name, value in head.state_dict().items():
        assert torch.equal(value, start.head.tensors[f"head.{name}"])
    places = {"architecture": runs.folder / "tiny.json", "cache": runs.folder / "cache"}
    with pytest.raises(ConfigError, match=r"head of the start .* is None; that of the run was"):
        export_episode(folder, 0, tmp_path / "f", start=runs.folder / "plain", **places)
