"""Every adapter keeps the contract: each one that is found is checked, with its default options.

The checks are those of `fewshot-i2v check-adapter`, in `fewshot_i2v/tuning/contract/`. That they
find what is wrong is tested in `test_broken_adapters.py`.
"""

from __future__ import annotations

import functools

import pytest
import torch

from fewshot_i2v import registry
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.tuning.contract.adapter_contract import ADAPTER_CHECKS
from fewshot_i2v.tuning.contract.adapter_subject import (
    CELLS,
    AdapterSubject,
    load_adapter_subject,
    run_encoder,
    shared_pixels,
    shared_tower,
)
from fewshot_i2v.tuning.contract.check import Check
from fewshot_i2v.tuning.contract.learning_tasks import choose_task, frozen_accuracies
from tests.contracts._plugins import everything

with everything():
    ROWS = registry.list_methods("adapters")
    NAMES = [row.name for row in ROWS]

every_adapter = pytest.mark.parametrize("name", NAMES)


@functools.cache
def subject(name: str) -> AdapterSubject:
    with everything():
        return load_adapter_subject(name)


@pytest.mark.parametrize("check", ADAPTER_CHECKS, ids=lambda check: check.promise)
@every_adapter
def test_it_keeps_the_contract(name: str, check: Check[AdapterSubject]) -> None:
    check.run(subject(name))


def test_adapters_of_the_package_of_a_folder_and_of_another_package_are_found() -> None:
    assert {"frozen", "st-adapter", "aim", "zeroi2v"} <= set(NAMES)
    origins = {row.name: row.origin for row in ROWS}
    assert "dropped" in origins["scale-shift"]
    assert origins["temporal-shift"] == "video_shift:TemporalShift"
    assert not subject("frozen").is_trained
    assert sum(subject(name).is_trained for name in NAMES) >= 5


def test_promises_are_named_once() -> None:
    promises = [check.promise for check in ADAPTER_CHECKS]
    assert len(set(promises)) == len(promises) > 30


@pytest.mark.parametrize(("task", "limit"), [("order", 0.55), ("shuffle", 0.55), ("look", 0.75)])
def test_the_frozen_encoder_is_at_a_loss_with_the_tasks(task: str, limit: float) -> None:
    accuracy = frozen_accuracies(task)
    assert (accuracy <= limit).all()
    assert (accuracy >= 0.45).all()


def test_the_task_fits_the_method() -> None:
    expected = {"st-adapter": "order", "aim": "order", "lora": "look", "time-smoothing": "shuffle"}
    assert {name: choose_task(subject(name)) for name in expected} == expected


@every_adapter
def test_the_state_of_another_method_is_refused(name: str) -> None:
    another = "st-adapter" if name != "st-adapter" else "aim"
    state = subject(another).build().adapter.state_dict()
    with pytest.raises(RuntimeError, match=r"Unexpected key\(s\)"):
        subject(name).build().adapter.load_state_dict(state)


@pytest.mark.gpu
@every_adapter
def test_on_a_gpu(name: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    encoder = subject(name).build(1, 2, moved=True)
    expected = run_encoder(encoder, shared_pixels(), cells=CELLS)
    for dtype, limit in ((torch.float32, 1e-3), (torch.bfloat16, 3e-2)):
        tower = shared_tower().to("cuda", dtype)
        on_gpu = AdaptedEncoder(tower, encoder.adapter.cuda())
        features = run_encoder(on_gpu, shared_pixels().to("cuda", dtype), cells=CELLS)
        for got, want in (
            (features.frames, expected.frames),
            (features.clip, expected.clip),
            (features.grids[CELLS], expected.grids[CELLS]),
        ):
            assert (got.cpu() - want).norm() < limit * want.norm()
        if subject(name).is_trained:
            torch.autograd.backward(features.frames.square().sum())
