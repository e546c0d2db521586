"""Training end to end on a tiny encoder and generated clips: what is kept, resumed and refused."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from fewshot_i2v import load_adapter
from fewshot_i2v.errors import (
    CheckpointError,
    ConfigError,
    EpisodeError,
    RecordError,
    TuningError,
    UnknownNameError,
    VideoUnreadable,
)
from fewshot_i2v.models.encoders.loading import load_encoder
from fewshot_i2v.models.encoders.weights import tensor_digest
from fewshot_i2v.runs.lock import RunLock
from fewshot_i2v.statistics import mean_interval
from fewshot_i2v.training import loop
from fewshot_i2v.training import train as train_module
from fewshot_i2v.training.objective import MicroBatch, MicroBatchLoss, Objective
from fewshot_i2v.training.state import save_state
from fewshot_i2v.training.train import TrainedStart, train
from fewshot_i2v.training.validation import EpisodicValidation
from fewshot_i2v.tuning.run_context import RunContext
from tests import killed
from tests.training.training_samples import settings, train_config, training_folder

_STEADY: dict[str, Any] = {"schedule": "constant", "warmup": 0.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Architecture, split and decoded clips that the tests of this file share."""
    return training_folder(tmp_path_factory.mktemp("training"))


def _run(folder: Path, output: Path, **changes: Any) -> TrainedStart:
    return train(train_config(folder, output, **changes))


def _files(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.iterdir()}


class _StoppedError(Exception):
    """Stands for a kill."""


def _stop_after(saves: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training ends right after its nth saved state, as if it were killed there."""
    real, count = save_state, iter(range(1, 1000))

    def save(*args: Any) -> None:
        real(*args)
        if next(count) == saves:
            raise _StoppedError

    monkeypatch.setattr(loop, "save_state", save)


def test_a_start_says_how_it_was_trained_and_loads(folder: Path, tmp_path: Path) -> None:
    done = _run(folder, tmp_path / "start")
    assert sorted(_files(tmp_path / "start")) == ["adapter.json", "adapter.safetensors"]
    start = json.loads((tmp_path / "start" / "adapter.json").read_text())["about"]["start"]
    assert start == done.start
    assert start["kind"] == "base-trained"
    assert start["classes"] == [
        "grows",
        "moves-left",
        "moves-right",
        "rotates-clockwise",
        "shrinks",
    ]
    watched = start["validation"].pop("clip_names")
    assert start["validation"] == {"subset": "val", "classes": ["moves-down", "moves-up"]}
    assert watched == sorted(watched)
    assert {name.partition("/")[0] for name in watched} == {"moves-down", "moves-up"}
    assert not set(watched) & set(start["clip_names"])
    assert len(start["clip_names"]) == 5 * 8
    assert start["split"]["name"] == "few-motions"
    assert (start["seed"], start["steps"], start["subset"]) == (0, 6, "base")
    assert [entry["step"] for entry in start["curve"]] == [0, 3, 6]
    assert start["curve"][0]["loss"] is None
    assert all(entry["half_width"] >= 0 for entry in start["curve"])
    assert start["config"] == train_config(folder, tmp_path / "other").identity()
    assert str(folder) not in json.dumps(start)
    encoder = load_encoder(
        "tiny", architecture=folder / "tiny.json", pretrained="random", mean=0.5, std=0.5
    )
    adapter = load_adapter(tmp_path / "start", encoder, adapter="temporal-embedding").adapter
    assert (
        tensor_digest({f"adapter.{n}": t for n, t in adapter.state_dict().items()}) == done.digest
    )


def test_a_validation_of_few_episodes_has_no_interval(folder: Path, tmp_path: Path) -> None:
    few = _run(folder, tmp_path / "start", validation={"every": 3, "episodes": 5, "query": 2})
    for entry in few.start["curve"]:
        assert entry["accuracy"] is not None
        assert entry["half_width"] is None or entry["half_width"] == 0, "all are equally good"


def test_it_learns_the_classes_it_is_trained_on(folder: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"adapter": "st-adapter", "objective": "classify", "clips": 20}
    changes |= {"steps": 60, "augment": "off", "validation": {"subset": "off", "every": 10}}
    done = _run(folder, tmp_path, classifier="linear:pooling=ordered", **changes)
    losses = [entry["loss"] for entry in done.start["curve"]]
    assert losses[0] < 3 * math.log(5)
    assert losses[-1] < 0.75 * math.log(5)
    assert done.start["best_step"] == 60
    assert done.clips_per_second is not None


_BOTH: dict[str, Any] = {"objective": "both", "adapter": "st-adapter"}


@pytest.fixture(scope="module")
def files_of_both(folder: Path) -> dict[str, bytes]:
    """Files of a training that was not stopped."""
    _run(folder, folder / "both", **_BOTH)
    return _files(folder / "both")


@pytest.mark.parametrize("saves", [1, 2, 3, 4])
def test_a_stopped_training_ends_with_the_same_files(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files_of_both: dict[str, bytes],
    saves: int,
) -> None:
    """Saves come after steps 2, 3, 4 and 6, the last of them before the start is written."""
    _stop_after(saves, monkeypatch)
    with pytest.raises(_StoppedError):
        _run(folder, tmp_path / "stopped", **_BOTH)
    assert sorted(_files_below(tmp_path / "stopped")) == ["state"]
    monkeypatch.undo()
    done = _run(folder, tmp_path / "stopped", **_BOTH)
    assert _files(tmp_path / "stopped") == files_of_both
    assert (done.clips_per_second is None) == (saves == 4)


def _files_below(output: Path) -> Iterator[str]:
    return (path.name for path in output.rglob("*") if path.is_file())


def test_a_killed_training_ends_with_the_same_digest(folder: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"steps": 100, "save_every": 5, "validation": {"subset": "off"}}
    whole = _run(folder, tmp_path / "whole", **changes)
    config = train_config(folder, tmp_path / "killed", **changes)
    process = killed.start(train, config)
    end = time.monotonic() + 60
    while not (tmp_path / "killed" / ".training" / "state").exists():
        assert process.is_alive()
        assert time.monotonic() < end
        time.sleep(0.005)
    process.kill()
    process.join()
    assert not (tmp_path / "killed" / "adapter.json").exists()
    notes: list[str] = []
    again = train(config, log=notes.append)
    assert "after step" in notes[0]
    assert again.digest == whole.digest
    assert again.start == whole.start


def test_a_finished_training_is_not_run_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _run(folder, tmp_path)
    monkeypatch.setattr(loop.TrainingLoop, "run", lambda *_: pytest.fail("it was run again"))
    again = _run(folder, tmp_path)
    assert again.digest == first.digest
    assert again.clips_per_second is None


def test_another_configuration_in_the_folder_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stop_after(1, monkeypatch)
    with pytest.raises(_StoppedError):
        _run(folder, tmp_path / "begun")
    monkeypatch.undo()
    _run(folder, tmp_path / "done")
    for name in ("begun", "done"):
        before = _files(tmp_path / "done")
        for job in (train, train_module.dry_run):
            with pytest.raises(CheckpointError, match=r"config.lr: 0.01 in the .*, 0.02 requested"):
                job(train_config(folder, tmp_path / name, lr=0.02))
        assert _files(tmp_path / "done") == before


def test_a_dry_run_says_how_far_the_training_is(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "start"
    _stop_after(1, monkeypatch)
    with pytest.raises(_StoppedError):
        _run(folder, output)
    monkeypatch.undo()
    before = [*_files_below(output)]
    (note,) = train_module.dry_run(train_config(folder, output))["notes"]
    assert note == f"{output} holds a state of this training: it goes on after step 2"
    assert [*_files_below(output)] == before
    _run(folder, output)
    (note,) = train_module.dry_run(train_config(folder, output))["notes"]
    assert note == f"{output} holds this training, finished: nothing would be done"


def _plan(folder: Path, output: Path) -> None:
    train_module.dry_run(train_config(folder, output))


def test_folders_of_something_else_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"holds todo.txt and no training"):
        _run(folder, tmp_path / "notes")
    todo = tmp_path / "notes" / "todo.txt"
    for output, job in ((todo, _run), (todo / "below", _plan), (todo, _plan)):
        with pytest.raises(CheckpointError, match=r"todo.txt is a file; expected a folder"):
            job(folder, output)
    (tmp_path / "busy" / ".training").mkdir(parents=True)
    marker = RunLock(tmp_path / "busy" / ".training")
    try:
        with pytest.raises(RecordError, match="in use by process"):
            _run(folder, tmp_path / "busy")
    finally:
        marker.release()


def test_numbers_that_break_stop_it_with_step_and_last_state(folder: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"lr": 1e30, "steps": 20, "save_every": 1, **_STEADY}
    with pytest.raises(TuningError, match=r"step \d+") as caught:
        _run(folder, tmp_path / "broken", **changes)
    found = str(caught.value)
    assert "not finite" in found
    state = tmp_path / "broken" / ".training" / "state"
    kept = f"the state after step {int(found.split('the state after step ')[1].split()[0])}"
    assert f"{kept} is saved in {tmp_path / 'broken'}" in found
    assert state.is_file()
    assert not (tmp_path / "broken" / "adapter.json").exists()


def test_a_gradient_that_breaks_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = train_config(folder, tmp_path).objective
    real = train_module.OBJECTIVES[name]

    def broken(*args: Any) -> Objective:
        objective = real(*args)
        whole = objective.backward

        def backward(part: MicroBatch) -> MicroBatchLoss:
            loss = whole(part)
            grad = next(objective.encoder.adapter.parameters()).grad
            if part.step == 4 and grad is not None:
                grad.fill_(math.nan)
            return loss

        monkeypatch.setattr(objective, "backward", backward)
        return objective

    monkeypatch.setitem(train_module.OBJECTIVES, name, cast("type[Objective]", broken))
    message = r"the gradient of step 5 is not finite; the state after step 4 is saved in"
    with pytest.raises(TuningError, match=message):
        _run(folder, tmp_path)


def test_the_first_of_the_best_states_is_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = iter([0.2, 0.4, 0.6, 0.6, 0.1])
    monkeypatch.setattr(EpisodicValidation, "accuracy", lambda _: mean_interval([next(script)] * 2))
    watched = {"every": 2, "episodes": 2, "query": 2}
    best = _run(folder, tmp_path / "best", steps=8, validation=watched, **_STEADY)
    assert best.start["best_step"] == 4
    assert [entry["accuracy"] for entry in best.start["curve"]] == [0.2, 0.4, 0.6, 0.6, 0.1]
    last = _run(folder, tmp_path / "last", steps=4, validation={"subset": "off"}, **_STEADY)
    assert best.digest == last.digest


def test_held_out_classes_are_watched_and_never_trained_on(folder: Path, tmp_path: Path) -> None:
    held = ["moves-left", "moves-right"]
    done = _run(folder, tmp_path, validation={"classes": held, "every": 3, "query": 2})
    assert done.start["classes"] == ["grows", "rotates-clockwise", "shrinks"]
    watched = done.start["validation"]
    assert (watched["subset"], watched["classes"]) == (None, held)
    assert {name.partition("/")[0] for name in watched["clip_names"]} == set(held)
    assert not [name for name in done.start["clip_names"] if name.startswith("moves")]


def test_only_base_and_validation_clips_are_decoded(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[str] = set()
    real = RunContext.decode_clips

    def prepare(self: RunContext, clips: Iterable[str], *, progress: bool) -> None:
        names = list(clips)
        seen.update(name.split("/")[0] for name in names)
        real(self, names, progress=progress)

    monkeypatch.setattr(RunContext, "decode_clips", prepare)
    _run(folder, tmp_path)
    assert seen >= {"moves-up", "grows"}
    assert not seen & {"brightens", "darkens"}


@pytest.mark.parametrize("objective", ["episodic", "classify", "both"])
def test_only_the_clips_that_steps_draw_are_generated(
    folder: Path, tmp_path: Path, objective: str
) -> None:
    changes = {"steps": 2, "batch": 1, "clips": 3, "cache": str(tmp_path / "cache")}
    config = train_config(folder, tmp_path / "start", objective=objective, **changes)
    plan = train_module.dry_run(config)
    assert not (tmp_path / "cache" / "generated").exists()
    done = train(config)
    written = {path.name for path in (tmp_path / "cache").rglob("*.mp4")}
    assert len(written) == plan["cost"]["clips_to_generate"]
    trained = {name.partition("/")[2] for name in done.start["clip_names"]}
    # three classes of three clips an episode, three clips to classify, two steps
    most = {"episodic": 18, "classify": 6, "both": 24}[objective]
    assert 3 <= len(written & trained) <= most
    assert len(trained) == 40, "the record names all that it could see, as before"
    assert train_module.dry_run(config)["cost"]["clips_to_generate"] == 0
    assert 0 < plan["cost"]["generation_seconds"] < 60


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"head": "linear"}, ConfigError, "parameters of its own.*meta objective"),
        ({"head": "text-prototype"}, ConfigError, "reads class names"),
        ({"validation": {"head": "linear"}}, ConfigError, "validation.head: linear"),
        ({"validation": {"classes": ["growz"]}}, UnknownNameError, "did you mean 'grows'"),
        (
            {"validation": {"classes": ["grows", "shrinks", "moves-left", "moves-right"]}},
            ConfigError,
            "leave 1 class ",
        ),
        ({"subset": "train"}, UnknownNameError, "subset 'train'"),
        (
            {"validation": {"way": 3}},
            EpisodeError,
            r"validation.way: got 3; expected at most 2, the number of classes of 'val' of split "
            r"'few-motions' \(--set validation.way=2\)",
        ),
        (
            {"validation": {"classes": ["grows", "shrinks"], "shot": 7}},
            EpisodeError,
            r"validation.shot 7 and validation.query 5 need 12 clips in every class; in "
            "validation.classes of split 'few-motions' grows has 8",
        ),
        (
            {"subset": "val", "way": 3, "validation": {"subset": "off"}},
            EpisodeError,
            r"way: got 3; expected at most 2, the number of classes of 'val' .*\(--way 2\)",
        ),
        ({"validation": {"subset": "dev"}}, ConfigError, "hold out classes of 'base'"),
        ({"validation": {"classes": ["grows"]}}, ConfigError, "'grows' alone; expected at least 2"),
    ],
)
def test_wrong_choices_show_before_anything_is_decoded(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.setattr(
        RunContext, "decode_clips", lambda *_, **__: pytest.fail("clips were decoded")
    )
    with pytest.raises(error, match=message):
        _run(folder, tmp_path / "new", **changes)
    assert not (tmp_path / "new").exists()


def test_clips_that_cannot_be_read_are_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = RunContext.decode_clips

    def prepare(self: RunContext, clips: Iterable[str], *, progress: bool) -> None:
        real(self, clips, progress=progress)
        self.unreadable["grows/x.mp4"] = VideoUnreadable("grows/x.mp4", "no frames")

    monkeypatch.setattr(RunContext, "decode_clips", prepare)
    with pytest.raises(TuningError, match=r"1 clip .*\n  grows/x.mp4: no frames"):
        _run(folder, tmp_path)


@pytest.mark.parametrize("objective", ["episodic", "both"])
def test_accumulated_and_checkpointed_steps_give_the_same(
    folder: Path, tmp_path: Path, objective: str
) -> None:
    changes: dict[str, Any] = {"objective": objective, "adapter": "st-adapter", "steps": 2}
    changes |= {"validation": {"subset": "off"}, "lr": 1e-3}
    whole = _run(folder, tmp_path / "whole", **changes)
    again = _run(folder, tmp_path / "again", checkpointing=True, **changes)
    parts = _run(folder, tmp_path / "parts", accumulate=2, **changes)
    assert again.digest == whole.digest
    losses = [start.start["curve"][-1]["loss"] for start in (whole, parts)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_meta_objectives_run_in_the_same_loop(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {"objective": "reptile", "inner": {"steps": 2}, "augment": "off"}
    changes |= {"shot": 2, "steps": 4}
    whole = _run(folder, tmp_path / "whole", **changes)
    assert whole.start["kind"] == "meta-trained"
    _stop_after(1, monkeypatch)
    with pytest.raises(_StoppedError):
        _run(folder, tmp_path / "stopped", **changes)
    monkeypatch.undo()
    assert _run(folder, tmp_path / "stopped", **changes).digest == whole.digest


def test_reptile_moves_by_its_rate_whatever_the_limit_of_gradients(
    folder: Path, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"objective": "reptile", "inner": {"steps": 2}, "augment": "off"}
    changes |= {"shot": 2, "steps": 2}
    digests = {_run(folder, tmp_path / str(n), **changes, clip_norm=n).digest for n in (1e-4, 1e4)}
    assert len(digests) == 1


def test_bfloat16_towers_train_float32_adapters(folder: Path, tmp_path: Path) -> None:
    done = _run(folder, tmp_path, precision="bf16", adapter="aim")
    encoder = load_encoder(
        "tiny", architecture=folder / "tiny.json", pretrained="random", mean=0.5, std=0.5
    )
    adapter = load_adapter(done.folder, encoder).adapter
    assert {p.dtype for p in adapter.parameters()} == {torch.float32}


@pytest.mark.parametrize("adapter", ["aim", "m-adapter"])
def test_a_training_in_mixed_precision_adapts_in_bfloat16(
    folder: Path, tmp_path: Path, adapter: str
) -> None:
    digests = {
        precision: _run(
            folder,
            tmp_path / precision,
            precision=precision,
            adapter=adapter,
            steps=2,
            validation={"subset": "off"},
        ).digest
        for precision in ("mixed", "bf16", "fp32")
    }
    assert digests["mixed"] == digests["bf16"] != digests["fp32"]


def test_the_rate_of_the_encoders_width_is_used_said_and_recorded(
    folder: Path, tmp_path: Path
) -> None:
    keys = settings(folder, tmp_path / "by-width", steps=2, lr_by_width={64: 0.02, 8: 0.5})
    del keys["lr"]
    notes: list[str] = []
    by_width = train(keys, log=notes.append)
    width = load_encoder(
        "tiny", architecture=folder / "tiny.json", pretrained="random", mean=0.5, std=0.5
    ).tower.width
    assert 8 < width <= 64
    assert notes[0] == f"lr 0.02, for an encoder of width {width}"
    assert by_width.start["config"]["lr"] == 0.02
    assert by_width.digest == _run(folder, tmp_path / "same", steps=2, lr=0.02).digest


def test_a_head_of_another_number_of_classes_is_refused_before_a_clip_is_decoded(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        RunContext, "decode_clips", lambda *_, **__: pytest.fail("clips were decoded")
    )
    changes = {"objective": "reptile", "head": "linear", "way": 3, "validation": {"way": 2}}
    for job in (train, train_module.dry_run):
        with pytest.raises(ConfigError, match=r"has parameters for 3 classes and validation.way"):
            job(train_config(folder, tmp_path / "new", **changes))
    assert not (tmp_path / "new").exists()


def test_a_plan_writes_nothing_and_counts(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        RunContext, "decode_clips", lambda *_, **__: pytest.fail("clips were decoded")
    )
    plan = train_module.dry_run(train_config(folder, tmp_path / "new", objective="both"))
    assert plan["cost"]["clips"] == 40
    assert 0 < plan["cost"]["validation_clips"] <= 16
    assert len(plan["first_batch"]) == plan["cost"]["clips_per_step"] == 2 * 3 * 3 + 6
    assert plan["classes"]["watched"] == ["moves-down", "moves-up"]
    assert not (tmp_path / "new").exists()
