"""Heads with parameters: trained with the adapter, held by the starting point, used from there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fewshot_i2v import evaluate
from fewshot_i2v.errors import ConfigError
from fewshot_i2v.models.checkpoints.starting_point import StartingPoint, read_start
from fewshot_i2v.runs.run_folder import read_run
from fewshot_i2v.training import loop
from fewshot_i2v.training.base_objectives import Episodic
from fewshot_i2v.training.batches import TrainBatches
from fewshot_i2v.training.class_split import TrainValSplit
from fewshot_i2v.training.objective import build_training_encoder, encode_episodes
from fewshot_i2v.training.state import TrainableState, save_state
from fewshot_i2v.training.train import train
from fewshot_i2v.tuning.run_context import RunContext
from tests.training.training_samples import train_config, training_folder

TRX = "trx:cardinalities=[2],channels=8"
_CHANGES: dict[str, Any] = {"head": TRX, "adapter": "st-adapter", "head_lr": 0.05}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training_folder(tmp_path_factory.mktemp("trained_heads"))


def _train(folder: Path, output: Path, **changes: Any) -> StartingPoint:
    train(train_config(folder, output, **_CHANGES | changes))
    return read_start(output, "st-adapter")


def _best_state(**changes: Any) -> dict[str, Any]:
    """Settings under which the last state is the one that is selected."""
    return {"validation": {"subset": "off"}} | changes


@pytest.mark.parametrize("objective", ["episodic", "both"])
def test_the_start_holds_the_head_as_it_was_trained(
    folder: Path, tmp_path: Path, objective: str
) -> None:
    short, trained = (
        _train(folder, tmp_path / str(steps), objective=objective, steps=steps, **_best_state())
        for steps in (1, 6)
    )
    assert short.head is not None
    assert trained.head is not None
    assert trained.head.method.name == "trx"
    assert trained.head.method.options["channels"] == 8
    for name, value in trained.head.tensors.items():
        assert value.shape[0] == 1
        assert not torch.equal(value, short.head.tensors[name])
    again = _train(folder, tmp_path / "again", objective=objective, **_best_state())
    assert again.head is not None
    assert (again.digest, again.head.digest) == (trained.digest, trained.head.digest)
    # finished: the same command reads it, and trains nothing
    assert _train(folder, tmp_path / "6", objective=objective, steps=6, **_best_state()).head


def test_an_evaluation_begins_with_the_trained_head(folder: Path, tmp_path: Path) -> None:
    """Of new classes, without any step: it differs from the untrained head, the prototype."""
    head = "context-prototype:heads=2"
    changes = {"head": head, "head_lr": 0.5, "validation": {"subset": "off"}}
    start = _train(folder, tmp_path / "start", **changes)
    assert start.head is not None
    keys = {
        **{
            key: train_config(folder, tmp_path).model_dump(mode="json")[key]
            for key in ("split", "encoder", "video")
        },
        **{
            "adapter": "st-adapter",
            "start": str(tmp_path / "start"),
            "cache": str(folder / "cache"),
        },
        **{"way": 2, "shot": 2, "query": 2, "episodes": 3, "tuning": {"steps": 0}, "workers": 1},
        **{
            "head": [head, "prototype:pooling=ordered,center=true"],
            "output": str(tmp_path / "run"),
        },
    }
    context, prototype = evaluate(keys).rows
    assert context.parameters > prototype.parameters
    logits = [
        [r.probabilities for r in read_run(row.folder).records.values()]
        for row in (context, prototype)
    ]
    assert logits[0] != logits[1]


def test_gradients_are_those_of_a_head_for_each_episode(folder: Path, tmp_path: Path) -> None:
    config = train_config(folder, tmp_path, **_CHANGES | {"steps": 1})
    context = RunContext.open(config)
    classes = TrainValSplit.of(context.split, config)
    encoder = build_training_encoder(config, context.encoder.tower)
    objective = Episodic(config, encoder, classes.classes)
    batches = TrainBatches(context, config, classes, objective)
    batches.prepare(progress=False)
    (micro_batch,) = batches.micro_batches(0)
    loss = objective.backward(micro_batch).value
    batch = micro_batch.require_episodes()
    support, query = encode_episodes(encoder, batch, ())
    alone = []
    for e in range(2):
        rows = slice(e, e + 1)
        scores = objective.head(
            query.map(lambda x, rows=rows: x[rows]),
            support.map(lambda x, rows=rows: x[rows]),
            batch.support_labels[rows],
        )
        alone.append(nn.functional.cross_entropy(scores[0], batch.query_labels[e]))
    mean = torch.stack(alone).mean()
    assert float(loss) == pytest.approx(float(mean.detach()), abs=1e-5)
    parameters = list(objective.head.parameters())
    slopes = torch.autograd.grad(mean, parameters)
    for parameter, slope in zip(parameters, slopes, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, slope, atol=1e-5, rtol=1e-3)


def test_the_head_is_that_of_the_best_step_and_survives_a_stop(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validated with the trained head itself, and stopped after its first saved states."""
    validation = {"every": 2, "episodes": 6, "way": 2, "shot": 1, "query": 2, "head": TRX}
    held: list[dict[str, Any]] = []
    store = TrainableState.store_best

    def remember(state: TrainableState) -> None:
        store(state)
        held.append({n: t.clone() for n, t in state.start_extra.state_dict().items()})

    monkeypatch.setattr(TrainableState, "store_best", remember)
    straight = _train(folder, tmp_path / "straight", validation=validation)
    assert straight.head is not None
    for name, tensor in straight.head.tensors.items():
        assert torch.equal(tensor, held[-1][name])
    monkeypatch.undo()

    class _StoppedError(Exception):
        """Stands for a kill."""

    def stop(*args: Any) -> None:
        save_state(*args)
        raise _StoppedError

    monkeypatch.setattr(loop, "save_state", stop)
    with pytest.raises(_StoppedError):
        _train(folder, tmp_path / "stopped", validation=validation)
    monkeypatch.undo()
    resumed = _train(folder, tmp_path / "stopped", validation=validation)
    assert resumed.head is not None
    assert resumed.head.digest == straight.head.digest


def test_a_best_state_of_an_earlier_version_gives_a_start_without_a_head(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier versions saved the adapter of the best step alone: its head is not known."""
    store = TrainableState.store_best

    def forget(state: TrainableState) -> None:
        store(state)
        state.best_extra = {}

    monkeypatch.setattr(TrainableState, "store_best", forget)
    start = _train(folder, tmp_path / "s", objective="reptile", inner={"steps": 1})
    assert start.head is None
    assert start.metadata.head is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": "linear"}, r"head: linear has \d+ parameters .* for any classes, such as trx"),
        ({"validation": {"head": "trx:channels=4"}}, r"validation\.head: trx:channels=4 has"),
        ({"objective": "classify", "validation": {"head": TRX}}, r"validation\.head: trx:.* has"),
    ],
)
def test_heads_that_fit_no_other_classes_are_refused(
    folder: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        _train(folder, tmp_path / "s", **changes)


def test_a_classifier_of_base_classes_is_dropped(folder: Path, tmp_path: Path) -> None:
    start = _train(folder, tmp_path / "s", objective="classify", head="prototype")
    assert start.head is None
    assert all(name.startswith("adapter.") for name in start.tensors)
