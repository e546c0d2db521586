"""A training on a device: no step waits for it, and numbers that broke are found all the same."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from fewshot_i2v import registry
from fewshot_i2v.errors import TuningError
from fewshot_i2v.training import unread_steps
from fewshot_i2v.training.base_objectives import Episodic
from fewshot_i2v.training.loop import TrainingLoop
from fewshot_i2v.training.objective import MicroBatch, MicroBatchLoss, NotFiniteError
from fewshot_i2v.training.train import TrainedStart, train
from fewshot_i2v.training.unread_steps import UnreadSteps
from tests.needs_learn2learn import learn2learn_algorithms
from tests.pretended_cuda import Log, pretended_cuda
from tests.training.training_samples import train_config, training_folder

ADAPTERS = [name for name in registry.method_names("adapters") if name != "frozen"]
_NO_VALIDATION = {"subset": "off", "every": 2}
_FEW_CLIPS: dict[str, Any] = {"way": 2, "query": 1, "batch": 1, "clips": 2, "steps": 2}
_FEW_CLIPS |= {"validation": _NO_VALIDATION}
CASES: dict[str, dict[str, Any]] = {
    **{name: {"objective": "both", "adapter": name, "augment": "off"} for name in ADAPTERS},
    "augmented": {"objective": "both", "clip_norm": 0.1},
    "accumulated": {"objective": "both", "batch": 2, "accumulate": 2, "checkpointing": True},
    "mixed": {"objective": "episodic", "adapter": "aim", "precision": "mixed"},
    "validated": {"objective": "episodic", "validation": {"every": 2, "episodes": 2, "query": 2}},
    "trx": {"objective": "episodic", "head": "trx", "shot": 2},
    "reptile": {"objective": "reptile", "inner": {"steps": 2, "views": 2}},
    "reptile trx": {"objective": "reptile", "head": "trx", "shot": 2, "inner": {"steps": 1}},
    "maml": {"objective": "maml", "inner": {"steps": 2, "views": 2}},
    "maml second order": {"objective": "maml", "inner": {"steps": 1, "second_order": True}},
    "meta-sgd": {"objective": "meta-sgd", "inner": {"steps": 1}},
    "anil": {"objective": "anil", "head": "linear"},
}
NEEDS_LEARN2LEARN = {"maml", "meta-sgd", "anil"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training_folder(tmp_path_factory.mktemp("pretended"))


def _train(folder: Path, output: Path, device: str, **changes: Any) -> TrainedStart:
    config = train_config(folder, output, **{"steps": 3, "save_every": 0, **changes})
    return train(config.model_copy(update={"device": device}))


def _watch_steps(log: Log, monkeypatch: pytest.MonkeyPatch) -> list[Counter[str]]:
    """Returns a list that will have the waits up to the end of each step."""
    waits: list[Counter[str]] = []
    real = TrainingLoop._step

    def step(loop: TrainingLoop, number: int) -> None:
        real(loop, number)
        waits.append(log.waits.copy())

    monkeypatch.setattr(TrainingLoop, "_step", step)
    return waits


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.learn2learn)
        if case["objective"] in NEEDS_LEARN2LEARN
        else name
        for name, case in CASES.items()
    ],
)
def test_it_runs_on_the_device_and_no_step_waits_for_it(
    folder: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = {**_FEW_CLIPS, **CASES[name]}
    if case["objective"] in NEEDS_LEARN2LEARN:
        learn2learn_algorithms()
    with pretended_cuda() as log:
        if name == "m-adapter":  # writes the features of a clip to disk when it first reads it
            _train(folder, tmp_path / "first", "cuda", **case)
        waits = _watch_steps(log, monkeypatch)
        _train(folder, tmp_path / "start", "cuda", **case)
    assert not log.faults
    first, second = waits
    assert not second - first


@pytest.mark.parametrize("name", ["aim", "reptile"])
def test_the_losses_are_those_of_the_cpu(folder: Path, tmp_path: Path, name: str) -> None:
    case = {**_FEW_CLIPS, **CASES[name], "validation": {"subset": "off", "every": 1}}
    with pretended_cuda():
        ours = _train(folder, tmp_path / "cuda", "cuda", **case)
    theirs = _train(folder, tmp_path / "cpu", "cpu", **case)
    losses = [[entry["loss"] for entry in start.start["curve"]] for start in (ours, theirs)]
    # attention has another kernel there
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


_PLAIN: dict[str, Any] = {**_FEW_CLIPS, "objective": "episodic", "adapter": "bitfit", "steps": 6}
_PLAIN |= {"augment": "off", "validation": {"every": 6, "subset": "off"}}


def _break(
    monkeypatch: pytest.MonkeyPatch, broken_step: int, failing_step: int | None = None
) -> list[int]:
    """The gradient of a step breaks, and a later one may raise; returns the steps that ran."""
    real, ran = Episodic.backward, list[int]()

    def backward(self: Episodic, part: MicroBatch) -> MicroBatchLoss:
        if part.step + 1 == failing_step:
            raise ArithmeticError("a matrix that cannot be inverted")
        losses = real(self, part)
        if part.step + 1 == broken_step:
            for parameter in self.encoder.adapter.parameters():
                if parameter.grad is not None:
                    parameter.grad.fill_(math.nan)
        ran.append(part.step + 1)
        return losses

    monkeypatch.setattr(Episodic, "backward", backward)
    return ran


def test_numbers_that_broke_are_found_before_a_state_is_saved(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = {**_PLAIN, "save_every": 2}
    with pretended_cuda():
        whole = _train(folder, tmp_path / "whole", "cuda", **case)
        with monkeypatch.context() as patch:
            ran = _break(patch, 3)
            message = r"the gradient of step 3 is not finite; the state after step 2 is saved in"
            with pytest.raises(TuningError, match=message):
                _train(folder, tmp_path / "broken", "cuda", **case)
        assert ran == [1, 2, 3, 4]  # nothing was read after step 3
        again = _train(folder, tmp_path / "broken", "cuda", **case)
    assert again.digest == whole.digest
    assert again.start["curve"] == whole.start["curve"]


def test_the_first_step_whose_numbers_broke_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = _break(monkeypatch, 2, failing_step=4)
    message = "the gradient of step 2 is not finite; no state was saved before it"
    with pretended_cuda(), pytest.raises(TuningError, match=message):
        _train(folder, tmp_path, "cuda", **_PLAIN)
    assert ran == [1, 2, 3]
    assert not (tmp_path / ".training" / "state").exists()
    assert not (tmp_path / "adapter.json").exists()


def test_an_error_of_a_step_is_itself_where_no_number_broke(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _break(monkeypatch, 0, failing_step=4)
    with pretended_cuda(), pytest.raises(ArithmeticError, match="cannot be inverted"):
        _train(folder, tmp_path, "cuda", **_PLAIN)


def test_when_losses_are_read_changes_nothing_but_when_an_error_comes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, at_once = tmp_path / "late", tmp_path / "at once"
    with pretended_cuda() as log:
        first = _train(folder, late, "cuda", **_PLAIN)
        waits = sum(log.waits.values())
        monkeypatch.setattr(unread_steps, "READ_SECONDS", 0.0)
        second = _train(folder, at_once, "cuda", **_PLAIN)
        assert sum(log.waits.values()) - waits == waits + 5  # six readings in place of one
        ran = _break(monkeypatch, 2)
        with pytest.raises(TuningError, match="the gradient of step 2"):
            _train(folder, tmp_path / "broken", "cuda", **_PLAIN)
    assert ran == [1, 2]
    assert first.start == second.start
    assert (late / "adapter.safetensors").read_bytes() == (
        at_once / "adapter.safetensors"
    ).read_bytes()


def test_on_the_cpu_losses_are_read_at_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _train(folder, tmp_path / "whole", "cpu", **_PLAIN)
    ran = _break(monkeypatch, 2)
    with pytest.raises(TuningError, match="the gradient of step 2"):
        _train(folder, tmp_path / "broken", "cpu", **_PLAIN)
    assert ran == [1, 2]
    monkeypatch.undo()
    monkeypatch.setattr(UnreadSteps, "is_due", False)
    late = _train(folder, tmp_path / "late", "cpu", **_PLAIN)
    assert late.start == whole.start


def test_many_steps_are_read_with_one_wait() -> None:
    steps = UnreadSteps()
    assert (steps.is_due, steps.read()) == (False, [])
    with pretended_cuda() as log:
        for step in range(4):
            value = torch.full((), 0.5 + step, device="cuda")
            parts = [MicroBatchLoss(value, [value.expand(2)], ["inner step 1"])] * 2
            steps.add(step, parts, value)
        assert not log.waits
        assert steps.read() == [1.0, 3.0, 5.0, 7.0]
        assert sum(log.waits.values()) == 1
        assert steps.read() == []


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("place", "message"),
    [
        (0, "the loss of step 2 is not finite at the inner step 1"),
        (1, "the loss of step 2 is not finite at the query clips"),
        (2, "the loss of step 2 is not finite"),
        (3, "the gradient of step 2 is not finite"),
    ],
)
def test_the_first_number_that_broke_is_named(bad: float, place: int, message: str) -> None:
    steps = UnreadSteps()
    for step in range(3):
        numbers = [1.0] * 4
        if step:  # what follows a broken number breaks too
            numbers[place:] = [bad] * (4 - place)
        inner, queries, value, norm = torch.tensor(numbers)
        losses = torch.stack([torch.ones(()), inner]), torch.stack([queries, torch.ones(())])
        places = ["inner step 1", "query clips"]
        steps.add(step, [MicroBatchLoss(value, losses, places)], norm)
    with pytest.raises(NotFiniteError, match=f"^{message}$"):
        steps.read()
