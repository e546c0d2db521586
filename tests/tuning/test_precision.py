"""The precision "auto": what the device has instructions for, recorded as what it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.errors import CheckpointError, RecordError
from fewshot_i2v.evaluation import evaluate
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.reproduce import continuation_commands
from fewshot_i2v.runs.header import read_header
from fewshot_i2v.training.state import check_same_training
from fewshot_i2v.training.train import _TrainingSetup
from fewshot_i2v.tuning.run_context import resolve_precision
from fewshot_i2v.utils import environment
from fewshot_i2v.utils.environment import has_bfloat16_products
from tests.tiny import tiny_folder, tiny_run

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
Machine = Callable[[bool], None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Makes the machine one with instructions for bfloat16, or without."""

    def make(has_products: bool) -> None:
        monkeypatch.setattr(environment, "has_bfloat16_products", lambda _device: has_products)

    return make


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("precision"))


@pytest.mark.parametrize(("amx", "avx512"), [(False, False), (True, False), (False, True)])
def test_the_processor_is_asked(amx: bool, avx512: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"_is_amx_tile_supported": amx, "_is_avx512_bf16_supported": avx512}
    for name, answer in names.items():
        monkeypatch.setattr(torch.cpu, name, lambda answer=answer: answer, raising=False)
    assert has_bfloat16_products(CPU) == (amx or avx512)


def test_a_torch_that_cannot_say_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert not has_bfloat16_products(CPU)


@pytest.mark.parametrize("is_supported", [True, False])
def test_a_gpu_is_asked_for_real_support(
    is_supported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(*, including_emulation: bool) -> bool:
        assert not including_emulation, "emulated, it is slower than float32"
        return is_supported

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", answer)
    assert has_bfloat16_products(CUDA) == is_supported


@pytest.mark.parametrize("has_products", [True, False])
def test_auto_is_what_the_device_multiplies(has_products: bool, machine: Machine) -> None:
    machine(has_products)
    config = EvaluationConfig(split="motions")
    assert config.precision == "auto"
    assert resolve_precision(config, CPU).precision == ("mixed" if has_products else "fp32")


@pytest.mark.parametrize("precision", ["mixed", "fp32", "bf16"])
def test_a_precision_that_is_given_stays(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_device: torch.device) -> bool:
        raise AssertionError("nobody asked")

    monkeypatch.setattr(environment, "has_bfloat16_products", refuse)
    config = EvaluationConfig.model_validate({"split": "motions", "precision": precision})
    assert resolve_precision(config, CPU) is config


def test_a_run_records_what_auto_was_and_stops_where_it_is_another(
    folder: Path, tmp_path: Path, machine: Machine
) -> None:
    machine(True)
    result = evaluate.run(tiny_run(folder, tmp_path / "run", episodes=1, precision="auto"))
    (row,) = result.rows
    header = read_header(row.folder / "run.json")
    assert header is not None
    assert header["identity"]["config"]["precision"] == "mixed"
    context = EvaluationContext.of(tiny_run(folder, tmp_path / "run", episodes=1, precision="auto"))
    assert context.encoder.tower.dtype == torch.bfloat16
    assert context.encoder.tower.exact.dtype == torch.float32

    machine(False)
    with pytest.raises(RecordError) as caught:
        evaluate.run(tiny_run(folder, tmp_path / "run", episodes=2, precision="auto"))
    assert 'config.precision: "mixed" in the folder, "fp32" requested' in str(caught.value)
    assert str(caught.value).endswith("its precision: --precision mixed")
    again = evaluate.run(tiny_run(folder, tmp_path / "run", episodes=2, precision="mixed"))
    assert again.rows[0].episodes == 2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_old_runs_continue_with_their_precision(
    folder: Path, tmp_path: Path, machine: Machine, precision: str
) -> None:
    """The default was fp32 at first, and bf16 later where the device has it."""
    machine(False)
    evaluate.run(tiny_run(folder, tmp_path / "run", episodes=1, precision=precision))
    # the same identity as of a version with another default: no word of auto
    assert "auto" not in next(tmp_path.glob("run/*/run.json")).read_text(encoding="utf-8")
    machine(True)
    with pytest.raises(RecordError, match=f"its precision: --precision {precision}"):
        evaluate.run(tiny_run(folder, tmp_path / "run", episodes=2, precision="auto"))
    again = evaluate.run(tiny_run(folder, tmp_path / "run", episodes=2, precision=precision))
    assert again.rows[0].episodes == 2


def test_the_command_that_goes_on_names_the_precision(tmp_path: Path, machine: Machine) -> None:
    machine(True)
    context = EvaluationContext.of(evaluate.load_config("quickstart", {"output": tmp_path}))
    headers = [
        json.loads(json.dumps({"name": "quickstart", "identity": {"config": row.identity()}}))
        for row in evaluate.expand_rows(context.config)
    ]
    (command,) = continuation_commands(tmp_path, headers, ["--episodes", "50"])
    assert command.startswith("fewshot-i2v evaluate quickstart --precision mixed --output")


def test_a_training_records_it_too(tmp_path: Path, machine: Machine) -> None:
    from fewshot_i2v.config.loading import load_train_config

    identities = []
    for has_products in (True, False):
        machine(has_products)
        config = load_train_config("train/motions", {"output": str(tmp_path / "start")})
        setup = _TrainingSetup.of(config)
        assert (setup.context.encoder.tower.dtype == torch.bfloat16) == has_products
        identities.append(setup.identity())
    assert [i["config"]["precision"] for i in identities] == ["mixed", "fp32"]
    with pytest.raises(CheckpointError, match="its precision: --precision mixed"):
        check_same_training(tmp_path, *identities)
