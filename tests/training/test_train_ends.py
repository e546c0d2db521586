"""How trainings end: by hand, in a folder of somebody else, with numbers that broke, damaged."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from fewshot_i2v.errors import (
    CheckpointError,
    ConfigError,
    FewshotError,
    RecordError,
    TuningError,
    VideoChangedError,
)
from fewshot_i2v.models.checkpoints.starting_point import read_start
from fewshot_i2v.statistics import Interval, mean_interval
from fewshot_i2v.training import loop, output_folder
from fewshot_i2v.training.base_objectives import Episodic
from fewshot_i2v.training.class_split import TrainValSplit
from fewshot_i2v.training.objective import MicroBatch, MicroBatchLoss, NotFiniteError
from fewshot_i2v.training.state import save_state
from fewshot_i2v.training.train import TrainedStart, train
from fewshot_i2v.training.validation import EpisodicValidation
from fewshot_i2v.tuning.run_context import RunContext
from tests.training.training_samples import train_config, training_folder

_STEADY: dict[str, Any] = {"schedule": "constant", "warmup": 0.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Architecture, split and decoded clips that the tests of this file share."""
    return training_folder(tmp_path_factory.mktemp("endings"))


def _run(folder: Path, output: Path, **changes: Any) -> TrainedStart:
    return train(train_config(folder, output, **changes))


class _StoppedError(Exception):
    """Stands for a kill."""


def _killed_after(step: int, folder: Path, output: Path, **changes: Any) -> None:
    """Runs a training until the state after a step is saved."""
    real = save_state

    def save(*args: Any) -> None:
        real(*args)
        if args[3].step == step:
            raise _StoppedError

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "save_state", save)
        with pytest.raises(_StoppedError):
            _run(folder, output, **changes)


def _scripted(accuracies: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation gives these one after the other; NaN: its scores break."""
    left = iter(accuracies)

    def accuracy(_: EpisodicValidation) -> Interval:
        value = next(left)
        if math.isnan(value):
            raise NotFiniteError("a score of the validation is not finite")
        return mean_interval([value, value])

    monkeypatch.setattr(EpisodicValidation, "accuracy", accuracy)


@pytest.mark.parametrize("name", ["state", ".training"])
def test_a_folder_of_the_user_is_refused_and_left_as_it_is(
    folder: Path, tmp_path: Path, name: str
) -> None:
    own = tmp_path / "mine" / name / "precious.tfstate"
    own.parent.mkdir(parents=True)
    own.write_text("x")
    with pytest.raises(CheckpointError, match=rf"{name}.* and no training; give a new --output"):
        _run(folder, tmp_path / "mine")
    assert own.read_text() == "x"
    assert [path.name for path in (tmp_path / "mine").iterdir()] == [name]


def test_what_a_user_put_beside_the_state_stays(folder: Path, tmp_path: Path) -> None:
    _killed_after(2, folder, tmp_path / "out", save_every=2)
    (tmp_path / "out" / "log.txt").write_text("mine")
    _run(folder, tmp_path / "out", save_every=2)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["adapter.json", "adapter.safetensors", "log.txt"]


def test_a_stopped_training_is_finished_with_its_best_state(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"steps": 6, "validation": {"every": 1, "query": 2}, **_STEADY}
    _scripted([0.2, 0.4, 0.6, 0.5, 0.1], monkeypatch)
    _killed_after(4, folder, tmp_path / "out", **changes)
    ended = train(train_config(folder, tmp_path / "out", **changes), finish=True)
    assert (ended.start["steps"], ended.start["best_step"]) == (4, 2)
    assert len(ended.start["curve"]) == 5
    two = _run(folder, tmp_path / "two", **{**changes, "steps": 2, "validation": {"subset": "off"}})
    assert ended.digest == two.digest
    assert read_start(tmp_path / "out", "temporal-embedding").digest == ended.digest
    assert not (tmp_path / "out" / ".training").exists()


def test_without_validation_the_last_saved_state_is_finished(folder: Path, tmp_path: Path) -> None:
    changes = {"steps": 6, "validation": {"subset": "off"}, "save_every": 2, **_STEADY}
    _killed_after(4, folder, tmp_path / "out", **changes)
    ended = train(train_config(folder, tmp_path / "out", **changes), finish=True)
    assert (ended.start["steps"], ended.start["best_step"]) == (4, 4)
    assert ended.digest == _run(folder, tmp_path / "four", **{**changes, "steps": 4}).digest


def test_nothing_can_be_finished_before_a_state_is_saved(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no state was saved"):
        train(train_config(folder, tmp_path / "out"), finish=True)


def test_scores_that_break_are_no_class_and_the_best_state_can_be_had(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"steps": 6, "validation": {"every": 1, "query": 2}}
    _scripted([0.2, 0.4, 0.3, math.nan], monkeypatch)
    message = (
        r"after step 3 a score of the validation is not finite; the state after step 2 is saved in "
        r".* the same command with --finish makes a start of the best so far, 40.0 % on "
        r"validation after step 1\."
    )
    with pytest.raises(TuningError, match=message):
        _run(folder, tmp_path, **changes)
    assert train(train_config(folder, tmp_path, **changes), finish=True).start["best_step"] == 1


def test_features_that_break_are_found_in_a_validation(folder: Path, tmp_path: Path) -> None:
    changes = {"lr": 1e30, "steps": 1, **_STEADY, "validation": {"every": 1, "query": 2}}
    with pytest.raises(TuningError, match="after step 1 a score of the validation is not finite"):
        _run(folder, tmp_path, **changes)


def test_without_validation_the_state_that_is_kept_is_tried(folder: Path, tmp_path: Path) -> None:
    changes = {"lr": 1e30, "steps": 1, **_STEADY, "validation": {"subset": "off"}}
    with pytest.raises(TuningError, match="the loss of the state after step 1 is not finite"):
        _run(folder, tmp_path, **changes)
    assert not (tmp_path / "adapter.json").exists()
    with pytest.raises(TuningError, match="the loss of the state after step 1 is not finite"):
        train(train_config(folder, tmp_path, **changes), finish=True)


def test_what_an_objective_finds_is_told_with_the_last_state(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Episodic.backward

    def backward(self: Episodic, part: MicroBatch) -> MicroBatchLoss:
        losses = real(self, part)
        inner = torch.tensor([[1.0, 2.0], [3.0, math.inf]] if part.step == 4 else [[1.0, 2.0]] * 2)
        return losses._replace(inner=list(inner), places=["inner step 1", "query clips"])

    monkeypatch.setattr(Episodic, "backward", backward)
    message = (
        r"the loss of step 5 is not finite at the query clips; the state after step 4 is saved in"
    )
    with pytest.raises(TuningError, match=message):
        _run(folder, tmp_path, save_every=2)
    # the trial for the estimate meets it first, and leaves it to the step
    notes: list[str] = []
    with pytest.raises(TuningError, match=message):
        train(train_config(folder, tmp_path, save_every=2), log=notes.append)
    assert notes == []


@pytest.mark.parametrize("damage", ["absent", "cut", "other", "facts"])
def test_a_finished_training_that_is_damaged_is_no_success(
    folder: Path, tmp_path: Path, damage: str
) -> None:
    _run(folder, tmp_path / "out")
    tensors, info = (tmp_path / "out" / f"adapter.{end}" for end in ("safetensors", "json"))
    if damage == "absent":
        tensors.unlink()
    elif damage == "cut":
        tensors.write_bytes(tensors.read_bytes()[:-8])
    elif damage == "other":
        _run(folder, tmp_path / "more", lr=0.02)
        shutil.copy(tmp_path / "more" / tensors.name, tensors)
    else:
        info.write_text(json.dumps(json.loads(info.read_text()) | {"about": {"start": {}}}))
    with pytest.raises(FewshotError, match=r"adapter\.safetensors|about.start"):
        _run(folder, tmp_path / "out")


def test_lists_that_could_not_be_read_again_are_refused_before_the_first_step(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_folder, "MAX_METADATA_BYTES", (1 << 20) + 500)
    monkeypatch.setattr(loop.TrainingLoop, "run", lambda *_, **__: pytest.fail("it was trained"))
    with pytest.raises(ConfigError, match=r"adapter.json: would have \d+ bytes"):
        _run(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_number_of_threads_is_told_on_going_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _killed_after(2, folder, tmp_path, save_every=2)
    notes: list[str] = []
    monkeypatch.setattr(loop, "threads_of", lambda _: 99)
    train(train_config(folder, tmp_path, save_every=2), log=notes.append)
    assert (
        f"CPU threads were {torch.get_num_threads()} up to step 2, and now they are 99" in notes[0]
    )


def _own_folder(tmp_path: Path) -> Path:
    """A folder whose clips no other test reads."""
    folder = tmp_path / "own" / "folder"
    folder.mkdir(parents=True)
    return training_folder(folder)


def _changed_clip(folder: Path, output: Path, subset: str, **changes: Any) -> str:
    """Gives a clip that is read the content of another one; returns its name."""
    config = train_config(folder, output, **changes)
    context = RunContext.open(config)
    class_split = TrainValSplit.of(context.split, config)
    watched = class_split.validation_episodes(config)[0].support_clips
    name, other = (class_split.clips if subset == "base" else watched)[:2]
    path = context.clip_path(name)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(context.clip_path(other).read_bytes())
    assert path.read_bytes() != content
    return name


@pytest.mark.parametrize("subset", ["base", "val"])
@pytest.mark.parametrize("changes", [{}, {"augment": {"flip": "on", "temporal": True}}], ids=str)
def test_a_clip_that_changed_stops_a_training_that_goes_on(
    tmp_path: Path, subset: str, changes: dict[str, Any]
) -> None:
    folder = _own_folder(tmp_path)
    changes = {"save_every": 2, **changes}
    _killed_after(2, folder, tmp_path / "out", **changes)
    state = tmp_path / "out" / ".training" / "state"
    saved = state.read_bytes()
    name = _changed_clip(folder, tmp_path / "out", subset, **changes)
    with pytest.raises(RecordError, match="not what they were when the run began") as error:
        _run(folder, tmp_path / "out", **changes)
    assert str(error.value).startswith(f"{state}: ")
    assert name in str(error.value)
    assert state.read_bytes() == saved
    _run(folder, tmp_path / "other", **changes)  # a new training reads the new clip


def test_a_clip_that_changes_while_it_is_trained_on_stops_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _own_folder(tmp_path)
    record = loop.TrainingLoop._record_clips

    def _then_change(self: loop.TrainingLoop) -> None:
        record(self)
        _changed_clip(folder, tmp_path / "out", "val")

    monkeypatch.setattr(loop.TrainingLoop, "_record_clips", _then_change)
    with pytest.raises(VideoChangedError, match="changed since this run began"):
        _run(folder, tmp_path / "out")


def test_the_state_of_an_earlier_version_goes_on_and_records_the_clips(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(loop.TrainingLoop, "_record_clips", lambda _: None)
        _killed_after(2, folder, tmp_path, save_every=2)
    clips: list[dict[str, str]] = []
    real = save_state

    def save(*args: Any) -> None:
        clips.append(dict(args[3].clips))
        real(*args)

    monkeypatch.setattr(loop, "save_state", save)
    done = _run(folder, tmp_path, save_every=2)
    assert done.digest == _run(folder, tmp_path / "whole", save_every=2).digest
    assert clips[0] == clips[-1]
    assert len(clips[0]) > 5 * 8  # those of the training classes, and some to validate


def test_the_estimate_counts_the_validations_that_are_left(folder: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"steps": 5, "validation": {"every": 2, "query": 2}}
    _killed_after(2, folder, tmp_path, **changes)
    notes: list[str] = []
    train(train_config(folder, tmp_path, **changes), log=notes.append)
    assert notes[0].startswith("after step 2: 3 steps of ")
    assert " and 2 validations of 0." in notes[0]
