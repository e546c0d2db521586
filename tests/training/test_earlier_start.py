"""A training that begins from a starting point: its values, its facts, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from fewshot_i2v import evaluate
from fewshot_i2v.cli._root import cli
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.errors import CheckpointError, ConfigError, UnknownNameError
from fewshot_i2v.models.checkpoints.starting_point import SeenOverlap, StartingPoint, read_start
from fewshot_i2v.models.encoders.loading import Encoder, load_encoder
from fewshot_i2v.training import loop, output_folder
from fewshot_i2v.training import train as train_module
from fewshot_i2v.training.state import save_state
from fewshot_i2v.training.train import TrainedStart, train
from tests.models.made_starts import make_start
from tests.training.training_samples import settings, train_config, training_folder

ADAPTER = "st-adapter"
TRX = "trx:cardinalities=[2],channels=8"
# a rate that leaves float32 values as they are, so that the start shows where training began
_NO_CHANGE: dict[str, Any] = {"steps": 1, "lr": 1e-30, "validation": {"subset": "off"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Architecture, split and decoded clips that the tests of this file share."""
    return training_folder(tmp_path_factory.mktemp("earlier_start"))


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return load_encoder(
        "tiny", architecture=folder / "tiny.json", pretrained="random", mean=0.5, std=0.5
    )


def _train(folder: Path, output: Path, **changes: Any) -> StartingPoint:
    train(train_config(folder, output, **{"adapter": ADAPTER} | changes))
    return read_start(output, ADAPTER)


@pytest.mark.parametrize("objective", ["episodic", "classify", "both", "reptile"])
def test_it_begins_with_the_values_of_the_start(
    folder: Path, tmp_path: Path, encoder: Encoder, objective: str
) -> None:
    make_start(tmp_path / "first", encoder)
    first = read_start(tmp_path / "first", ADAPTER)
    rate = {"inner": {"steps": 1, "lr": 1e-30}}
    trained = _train(
        folder,
        tmp_path / "next",
        start=str(first.folder),
        objective=objective,
        **_NO_CHANGE,
        **rate,
    )
    untrained = _train(folder, tmp_path / "fresh", objective=objective, **_NO_CHANGE, **rate)
    for name, value in first.tensors.items():
        torch.testing.assert_close(trained.tensors[name], value)
    assert any(not torch.allclose(untrained.tensors[n], v) for n, v in first.tensors.items())


def test_its_start_tells_of_every_training(folder: Path, tmp_path: Path, encoder: Encoder) -> None:
    make_start(tmp_path / "first", encoder, classes=["brightens"], clip_names=["a.mp4"])
    validation = {"classes": ["Darkens"], "clip_names": ["b.mp4"]}
    make_start(tmp_path / "other", encoder, seeds=(8,), validation=validation)
    first = read_start(tmp_path / "first", ADAPTER)
    second = _train(folder, tmp_path / "second", start=str(first.folder))
    third = _train(folder, tmp_path / "third", start=str(second.folder), seed=1)
    (begun_from,) = second.facts.begun_from
    assert (begun_from.start_name, begun_from.digest) == ("first", first.digest)
    assert [earlier.start_name for earlier in third.facts.begun_from] == ["second", "first"]
    assert [t.classes for t in third.facts.trainings] == [
        second.facts.classes,
        second.facts.classes,
        ["brightens"],
    ]
    about = json.loads((third.folder / "adapter.json").read_text(encoding="utf-8"))["about"]
    assert "curve" in about["start"]
    assert not any("curve" in earlier for earlier in about["start"]["begun_from"])

    split = load_split(folder / "few.yaml")
    assert third.facts.overlap_with(split, "novel") == SeenOverlap(classes=("brightens",))
    with pytest.raises(
        ConfigError,
        match=r"was trained on 'base' of split 'few-motions', after 'base' of split 'few-motions', "
        r"after 'base' of split 'elsewhere', and 'novel' of split 'few-motions' has 1 class "
        r"\(brightens\) that it was trained on",
    ):
        third.check_unseen(split, "novel")
    chosen = _train(folder, tmp_path / "chosen", start=str(tmp_path / "other"))
    assert chosen.facts.overlap_with(split, "novel") == SeenOverlap(validation_classes=("darkens",))


class _StoppedError(Exception):
    """Stands for a kill."""


def _stop_at_first_save(monkeypatch: pytest.MonkeyPatch) -> None:
    """The training ends right after its first saved state, as if it were killed there."""

    def save(*args: Any) -> None:
        save_state(*args)
        raise _StoppedError

    monkeypatch.setattr(loop, "save_state", save)


@pytest.mark.parametrize("head", ["prototype:pooling=ordered,center=true", TRX])
def test_a_stopped_one_ends_with_the_same_files(
    folder: Path, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, head: str
) -> None:
    make_start(tmp_path / "first", encoder, head=TRX)
    start, settled = str(tmp_path / "first"), {"head": head, "head_lr": 0.05}
    complete = _train(folder, tmp_path / "complete", start=start, **settled)
    _stop_at_first_save(monkeypatch)
    with pytest.raises(_StoppedError):
        _train(folder, tmp_path / "stopped", start=start, **settled)
    monkeypatch.undo()
    (tmp_path / "first").rename(tmp_path / "moved")  # its content counts, not where it lies
    stopped = _train(folder, tmp_path / "stopped", start=str(tmp_path / "moved"), **settled)
    assert stopped.digest == complete.digest
    if complete.head is not None and stopped.head is not None:
        assert stopped.head.digest == complete.head.digest
    assert (complete.head is None) == (stopped.head is None) == (head != TRX)


def test_another_start_is_another_training(folder: Path, tmp_path: Path, encoder: Encoder) -> None:
    for name, seed in (("first", 7), ("other", 8)):
        make_start(tmp_path / name, encoder, seeds=(seed,))
    begun = _train(folder, tmp_path / "trained", start=str(tmp_path / "first"))
    for start in (str(tmp_path / "other"), "fresh"):
        with pytest.raises(
            CheckpointError, match=r"another training is in this folder:\n  start: "
        ):
            _train(folder, tmp_path / "trained", start=start)
    fresh = _train(folder, tmp_path / "fresh")
    assert fresh.facts.begun_from == []
    with pytest.raises(CheckpointError, match=r"another training is in this folder:\n  start: "):
        _train(folder, tmp_path / "fresh", start=str(tmp_path / "first"))
    assert (
        _train(folder, tmp_path / "trained", start=str(tmp_path / "first")).digest == begun.digest
    )


def test_what_a_start_holds_and_has_seen_is_part_of_the_training(
    folder: Path, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starts with the same adapter, which differ in their head or in the classes of before."""
    changes: list[dict[str, Any]] = [{}, {"classes": ["brightens", "run"]}, {"head": TRX}]
    starts = [str(tmp_path / f"start-{i}") for i in range(3)]
    for start, change in zip(starts, changes, strict=True):
        make_start(Path(start), encoder, **change)
    assert len({read_start(start, ADAPTER).digest for start in starts}) == 1
    _train(folder, tmp_path / "done", start=starts[0])
    _stop_at_first_save(monkeypatch)
    with pytest.raises(_StoppedError):
        _train(folder, tmp_path / "begun", start=starts[0])
    monkeypatch.undo()
    for start in starts[1:]:
        for name in ("done", "begun"):
            with pytest.raises(CheckpointError, match="another training is in this folder"):
                _train(folder, tmp_path / name, start=start)


def test_its_output_does_not_take_the_place_of_its_start(
    folder: Path, tmp_path: Path, encoder: Encoder
) -> None:
    several = tmp_path / "several"
    for name in (ADAPTER, "aim"):
        make_start(several / name, encoder, name)
    own = str(several / ADAPTER)
    with pytest.raises(ConfigError, match=r"start and output are both .*: give another --output"):
        _train(folder, several / ADAPTER, start=own)
    with pytest.raises(ConfigError, match="a second starting point for 'st-adapter' in"):
        _train(folder, several / "next", start=str(several))
    begun = _train(folder, tmp_path / "next", start=str(several))
    assert begun.facts.begun_from[0].digest == read_start(several, ADAPTER).digest
    assert _train(folder, tmp_path / "again", start=own).digest == begun.digest


def test_a_state_of_half_precision_is_where_it_begins(
    folder: Path, tmp_path: Path, encoder: Encoder
) -> None:
    make_start(tmp_path / "half", encoder, half=True)
    first = read_start(tmp_path / "half", ADAPTER)
    begun = _train(folder, tmp_path / "next", start=str(first.folder), **_NO_CHANGE)
    assert begun.facts.stored == "float32"
    assert begun.facts.begun_from[0].digest == first.digest
    for name, value in first.tensors.items():
        torch.testing.assert_close(begun.tensors[name], value)


def test_evaluations_refuse_and_mark_what_an_earlier_training_has_seen(
    folder: Path, tmp_path: Path, encoder: Encoder
) -> None:
    make_start(tmp_path / "first", encoder, classes=["brightens"])
    _train(folder, tmp_path / "next", start=str(tmp_path / "first"))
    shared = ("split", "encoder", "video", "precision", "adapter", "head", "device", "cache")
    keys = settings(folder, tmp_path / "run", adapter=ADAPTER)
    run = {key: keys[key] for key in shared} | {
        **{"start": str(tmp_path / "next"), "way": 2, "shot": 1, "query": 2, "episodes": 2},
        **{"tuning": {"steps": 0, "recipe": "none"}, "output": str(tmp_path / "run")},
    }
    with pytest.raises(ConfigError, match=r"has 1 class \(brightens\) that it was trained on"):
        evaluate(run)
    (row,) = evaluate(run | {"allow_seen": True}).rows
    header = json.loads((row.folder / "run.json").read_text(encoding="utf-8"))
    assert header["marks"]["start"]["seen"]["classes"] == ["brightens"]


def test_names_of_clips_that_are_too_many_to_read_again_are_refused_before_the_first_step(
    folder: Path, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_start(tmp_path / "first", encoder, clip_names=[f"{n}.mp4" for n in range(500)])
    for limit, least in (("MAX_METADATA_BYTES", 1 << 20), ("MAX_JSON_VALUES", 1 << 17)):
        with monkeypatch.context() as patch:
            patch.setattr(output_folder, limit, least + 400)
            patch.setattr(loop.TrainingLoop, "run", lambda *_: pytest.fail("a step was run"))
            with pytest.raises(ConfigError, match="of those that it began from: train on a split"):
                _train(folder, tmp_path / limit, start=str(tmp_path / "first"))


def _log(folder: Path, output: Path, **changes: Any) -> list[str]:
    notes: list[str] = []
    train(train_config(folder, output, **{"adapter": ADAPTER} | changes), log=notes.append)
    return notes


def test_what_it_begins_from_is_said(folder: Path, tmp_path: Path, encoder: Encoder) -> None:
    video = {"frames": 4, "crop": 0.5}
    make_start(tmp_path / "first", encoder, config={"video": video})
    notes = _log(folder, tmp_path / "next", start=str(tmp_path / "first"))
    assert notes[:2] == [
        f"st-adapter begins from {tmp_path / 'first'}: base-trained with 10 steps on 'base' of "
        "split 'elsewhere'",
        "clips are read with other settings than for its start: trained with video.crop 0.5; the "
        "run has video.crop 1.0",
    ]
    assert not any("begins" in note for note in _log(folder, tmp_path / "fresh"))


def test_its_head_begins_as_that_of_the_start_where_it_is_the_same(
    folder: Path, tmp_path: Path, encoder: Encoder
) -> None:
    make_start(tmp_path / "first", encoder, head=TRX)
    start, same = str(tmp_path / "first"), _NO_CHANGE | {"head": TRX, "head_lr": 1e-30}
    first = read_start(start, ADAPTER)
    begun = _train(folder, tmp_path / "same", start=start, **same)
    assert first.head is not None
    assert begun.head is not None
    for name, value in first.head.tensors.items():
        torch.testing.assert_close(begun.head.tensors[name], value)

    other = same | {"head": "trx:cardinalities=[2],channels=4"}
    notes = _log(folder, tmp_path / "other", start=start, **other)
    assert (
        "the head begins fresh, and not as that of the start: the run has channels=4, and the "
        in ("\n".join(notes))
    )
    without = _log(folder, tmp_path / "without", start=start, **_NO_CHANGE)
    assert "the head of the start, trx, is not trained further" in without
    make_start(tmp_path / "plain", encoder)
    plain = _log(folder, tmp_path / "next", start=str(tmp_path / "plain"), **same)
    assert not any("the head" in note for note in plain)


def test_rates_of_the_start_are_not_those_of_its_inner_loop(
    folder: Path, tmp_path: Path, encoder: Encoder
) -> None:
    make_start(tmp_path / "first", encoder, rate=0.01)
    changes = _NO_CHANGE | {"start": str(tmp_path / "first")}
    note = "the inner rates begin as inner.lr, and not as those of the start"
    assert note in _log(folder, tmp_path / "meta", objective="reptile", **changes)
    assert note not in _log(folder, tmp_path / "base", **changes)


def test_a_start_that_does_not_fit_is_refused(
    folder: Path, tmp_path: Path, encoder: Encoder
) -> None:
    make_start(tmp_path / "first", encoder)
    make_start(tmp_path / "seen", encoder, classes=["moves-up", "run"])
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"start": "no-such"}, UnknownNameError, "no-such"),
        ({"adapter": "aim"}, CheckpointError, "expected one for 'aim'"),
        ({"adapter": "st-adapter:width=3"}, CheckpointError, "was trained with width="),
        (
            {"start": str(tmp_path / "seen")},
            ConfigError,
            r"seen: the validation classes of this training have 1 class \(moves-up\) that it was "
            r"trained on, and so cannot tell which state is best. Give another validation.subset, ",
        ),
    ]
    for i, (changes, error, message) in enumerate(cases):
        with pytest.raises(error, match=message):
            _train(folder, tmp_path / f"output-{i}", **{"start": str(tmp_path / "first")} | changes)
        assert not (tmp_path / f"output-{i}" / "adapter.json").exists()
    held_out = {"validation": {"subset": "off"}, "start": str(tmp_path / "seen")}
    assert len(_train(folder, tmp_path / "last-state", **held_out).facts.begun_from) == 1


def test_a_plan_names_it_and_the_command_takes_it(
    folder: Path, tmp_path: Path, encoder: Encoder
) -> None:
    make_start(tmp_path / "first", encoder)
    file = tmp_path / "train.yaml"
    output = tmp_path / "next"
    keys = settings(folder, output, adapter=ADAPTER, start="first")
    file.write_text(json.dumps(keys), encoding="utf-8")  # a path beside the file
    plan = train_module.dry_run(
        train_config(folder, output, adapter=ADAPTER, start=str(tmp_path / "first"))
    )
    assert plan["config"]["start"] == str(tmp_path / "first")
    done = CliRunner().invoke(cli, ["train", str(file), "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "\nstart       first\n" in done.output
    assert "st-adapter begins from" in done.output
    done = CliRunner().invoke(cli, ["train", str(file), "--start", "fresh", "--quiet"])
    assert done.exit_code == 0, done.output
    assert read_start(output, ADAPTER).facts.begun_from == []


def test_a_start_that_no_step_made_better_is_that_of_before(
    folder: Path, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_start(tmp_path / "first", encoder)
    keys = settings(folder, tmp_path / "next", adapter=ADAPTER, start=str(tmp_path / "first"))
    keys["lr"] = 1e-30  # no state is better than the first
    file = tmp_path / "train.yaml"
    file.write_text(json.dumps(keys), encoding="utf-8")
    done = CliRunner().invoke(cli, ["train", str(file)])
    assert done.exit_code == 0, done.output
    assert "no later state was better on validation: the start is the one that it began from" in (
        done.output
    )


def test_facts_of_earlier_versions_have_none(tmp_path: Path, encoder: Encoder) -> None:
    make_start(tmp_path / "first", encoder)
    facts = read_start(tmp_path / "first", ADAPTER).facts
    assert facts.trainings == (facts,)


def test_a_result_says_what_it_began_from(folder: Path, tmp_path: Path, encoder: Encoder) -> None:
    make_start(tmp_path / "first", encoder)
    config = train_config(folder, tmp_path / "next", adapter=ADAPTER, start=str(tmp_path / "first"))
    trained: TrainedStart = train(config)
    assert trained.to_dict()["begun_from"][0]["start_name"] == "first"
