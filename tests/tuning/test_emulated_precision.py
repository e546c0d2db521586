"""A precision that the device emulates is said: once, before the work, and never changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fewshot_i2v import FewShotClassifier, fit
from fewshot_i2v.cli._dry_run import evaluation_lines, fit_lines, training_lines
from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.evaluation import doctor, evaluate
from fewshot_i2v.evaluation.evaluate import build_row_runners
from fewshot_i2v.evaluation.export import export_episode
from fewshot_i2v.evaluation.fitting.fit import forecast, run_fit
from fewshot_i2v.training import train as train_module
from fewshot_i2v.tuning.emulation import emulation_note
from fewshot_i2v.utils import environment
from tests.evaluation.fitting.conftest import Material
from tests.tiny import tiny_folder, tiny_run, tiny_tower
from tests.training.training_samples import train_config, training_folder

Machine = Callable[[bool], None]
SAID = "this device (cpu) has no instructions for bf16 products"
ADVICE = "give --precision fp32 or auto"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Makes the machine one with instructions for bfloat16, or without."""

    def make(has_products: bool) -> None:
        monkeypatch.setattr(environment, "has_bfloat16_products", lambda _device: has_products)

    return make


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("emulated"))


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("fit"))


def words(text: str) -> str:
    """The text on one line."""
    return " ".join(text.split())


def run_of(folder: Path, output: Path, precision: str, **changes: Any) -> EvaluationConfig:
    keys: dict[str, Any] = {"adapter": ["frozen", "st-adapter", "aim"], "tuning": {"steps": 1}}
    return tiny_run(folder, output, precision=precision, **{"episodes": 1} | keys | changes)


@pytest.mark.parametrize("has_products", [True, False])
def test_one_function_decides(has_products: bool, machine: Machine) -> None:
    machine(has_products)
    tower = tiny_tower()
    note = emulation_note(tower.to("cpu", torch.bfloat16))
    assert (SAID in note and ADVICE in note and "precision bf16" in note) != has_products
    assert (note == "") == has_products
    assert emulation_note(tower) == ""


def test_an_evaluation_says_it_once_before_its_rows(
    folder: Path, tmp_path: Path, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(False)
    result = evaluate.run(run_of(folder, tmp_path / "x", "bf16"), progress=True)
    said = words(capsys.readouterr().err)
    assert said.count(SAID) == 1
    assert "precision bf16" in said
    assert not any(SAID in remark for remark in result.remarks), "it was shown already"
    # without progress it is one of the remarks
    result = evaluate.run(run_of(folder, tmp_path / "y", "mixed"))
    assert sum(SAID in remark for remark in result.remarks) == 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("precision", "has_products", "adapter"),
    [
        ("auto", True, "st-adapter"),
        ("auto", False, "st-adapter"),
        ("fp32", False, "st-adapter"),
        ("mixed", True, "st-adapter"),
        ("bf16", True, "st-adapter"),
        ("mixed", False, "frozen"),  # which is of fp32
    ],
)
def test_nothing_is_said_where_nothing_is_emulated(
    folder: Path, tmp_path: Path, machine: Machine, precision: str, has_products: bool, adapter: str
) -> None:
    machine(has_products)
    config = run_of(folder, tmp_path / "x", precision, adapter=[adapter])
    plan = evaluate.dry_run(config)
    assert plan["notes"] == []


def test_a_dry_run_says_it_once(folder: Path, tmp_path: Path, machine: Machine) -> None:
    machine(False)
    plan = evaluate.dry_run(run_of(folder, tmp_path / "x", "mixed"))
    assert len(plan["notes"]) == 1
    assert "precision mixed" in plan["notes"][0]
    assert words("\n".join(evaluation_lines(plan))).count(SAID) == 1


def test_a_run_of_another_machine_goes_on_in_its_precision_and_says_so(
    folder: Path, tmp_path: Path, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(True)
    keys = {"adapter": ["st-adapter"], "head": ["linear"]}
    evaluate.run(run_of(folder, tmp_path / "x", "auto", **keys))
    machine(False)
    again = evaluate.run(run_of(folder, tmp_path / "x", "mixed", episodes=2, **keys))
    (row,) = again.rows
    assert row.episodes == 2
    assert sum(SAID in remark for remark in again.remarks) == 1
    (runner,) = build_row_runners(
        evaluate.EvaluationContext.of(run_of(folder, tmp_path / "x", "mixed", **keys))
    )
    assert runner.precision == "bf16", "never in silence another one"
    capsys.readouterr()
    export_episode(row.folder, 0, tmp_path / "out", cache=folder / "cache", progress=True)
    assert words(capsys.readouterr().err).count(SAID) == 1


def test_an_exported_classifier_says_it(folder: Path, tmp_path: Path, machine: Machine) -> None:
    machine(True)
    keys = {"adapter": ["st-adapter"], "head": ["linear"]}
    (row,) = evaluate.run(run_of(folder, tmp_path / "x", "auto", **keys)).rows
    export_episode(row.folder, 0, tmp_path / "out", cache=folder / "cache", merge=False)
    machine(False)
    places = {"cache": folder / "cache", "architecture": folder / "tiny.json"}
    (note,) = FewShotClassifier.load(tmp_path / "out", **places).scorer.notes
    assert SAID in note


@pytest.mark.parametrize("has_products", [True, False])
@pytest.mark.parametrize("precision", ["auto", "bf16"])
def test_a_training_says_it(
    tmp_path_factory: pytest.TempPathFactory, machine: Machine, precision: str, has_products: bool
) -> None:
    machine(has_products)
    folder = training_folder(tmp_path_factory.mktemp("training"))
    config = train_config(
        folder, folder / "start", precision=precision, adapter="st-adapter", steps=1
    )
    expected = int(precision == "bf16" and not has_products)
    plan = train_module.dry_run(config)
    assert words("\n".join(training_lines(plan))).count(SAID) == expected
    log: list[str] = []
    train_module.train(config, log=log.append)
    assert sum(SAID in note for note in log) == expected


def test_a_fit_and_its_model_say_it(
    material: Material, tmp_path: Path, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(False)
    keys = material.keys(head="prototype", adapter="st-adapter", tuning={"steps": 1}, folds=2)
    quiet = run_fit(material.train, keys | {"precision": "bf16"})
    assert sum(SAID in note for note in quiet.tried.notes) == 1
    plan = forecast(material.train, keys | {"precision": "bf16", "progress": True}).to_dict()
    assert words("\n".join(fit_lines(plan))).count(SAID) == 1
    capsys.readouterr()
    shown = run_fit(material.train, keys | {"precision": "bf16", "progress": True})
    assert words(capsys.readouterr().err).count(SAID) == 1
    assert not any(SAID in note for note in shown.tried.notes), "it was shown already"

    shown.classifier.save(tmp_path / "model.safetensors")
    places = {"cache": material.folder / "cache", "workers": 1}
    (note,) = FewShotClassifier.load(tmp_path / "model.safetensors", **places).scorer.notes
    assert SAID in note
    assert ADVICE not in note, "predict has no such flag"
    machine(True)
    assert FewShotClassifier.load(tmp_path / "model.safetensors", **places).scorer.notes == []


def test_predict_shows_it(
    material: Material, tmp_path: Path, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    from fewshot_i2v.cli._root import cli

    machine(True)
    path = tmp_path / "model.safetensors"
    keys = material.keys(head="prototype", adapter="st-adapter", tuning={"steps": 1})
    fit(material.train, path, folds=2, **keys)
    clip = str(next(material.test.rglob("*.mp4")))
    flags = ["--cache", str(material.folder / "cache"), "--workers", "1", "--device", "cpu"]
    for has_products in (True, False):
        machine(has_products)
        cli.main(["predict", str(path), clip, *flags], standalone_mode=False)
        assert words(capsys.readouterr().err).count(SAID) == (not has_products)


@pytest.mark.parametrize("has_products", [True, False])
def test_doctor_says_what_auto_is(tmp_path: Path, machine: Machine, has_products: bool) -> None:
    machine(has_products)
    (check,) = (c for c in doctor.run_checks(tmp_path / "cache") if c.name == "devices")
    precision = "mixed" if has_products else "fp32"
    assert check.values["precision"] == precision
    assert f"precision auto is {precision}" in check.fact
    assert ("emulated" in check.fact) != has_products
