"""What runs on the CPU runs on a CUDA device too, and no step of fine-tuning waits for it."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from fewshot_i2v import registry
from fewshot_i2v.evaluation import evaluate
from fewshot_i2v.evaluation.adapters_ahead import AdaptersAhead
from fewshot_i2v.evaluation.results import EvaluationResult
from fewshot_i2v.models.encoders.transfer import send
from fewshot_i2v.runs.run_folder import read_run
from tests.pretended_cuda import CUDA, Log, pretended_cuda
from tests.tiny import tiny_folder, tiny_run

_ORDERED = "prototype:pooling=ordered,center=true"
_AUGMENTED = {
    "views": 2,
    "crop_scale": [0.6, 1.0],
    "colour": 0.3,
    "temporal": True,
    "flip": "auto",
}
HEADS = [
    *("linear", "logistic", "otam", "bi-mhm", "trx", "context-prototype", "nearest:tokens=motion"),
    *(_ORDERED, f"{_ORDERED},tokens=summary+grid2+frozen-motion,weights=loo"),
]
ADAPTERS = [name for name in registry.method_names("adapters") if name != "frozen"]
CASES: dict[str, dict[str, Any]] = {
    **{name: {"adapter": name, "head": "linear"} for name in ADAPTERS},
    **{head: {"head": head, "shot": 2} for head in HEADS if head != "linear"},
    **{f"frozen {head}": {"adapter": "frozen", "head": head, "shot": 2} for head in HEADS[3:5]},
    "augmented": {"head": _ORDERED, "tuning": _AUGMENTED},
    "mini-batches": {"head": "linear", "shot": 2, "tuning": {"batch": 2}},
    "deterministic": {"head": f"{_ORDERED},tokens=grid2", "deterministic": True},
}
WAITS_OF_A_STEP = {"trx": "heads/trx.py"}
"""The number of clips of a class decides the shapes of TRX, and the labels are on the device."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("pretended"))


def run(folder: Path, name: str, steps: int, device: str) -> EvaluationResult:
    case = {"adapter": "st-adapter", **CASES[name]}
    case["tuning"] = {"steps": steps, "recipe": "none", **case.get("tuning", {})}
    output = folder / "runs" / f"{name}-{steps}-{device}".replace(":", "_")
    config = tiny_run(folder, output, episodes=2, at_once=2, device=device, **case)
    return evaluate.run(config)


def run_pretended(folder: Path, name: str, steps: int) -> tuple[EvaluationResult, Log]:
    with pretended_cuda() as log:
        return run(folder, name, steps, "cuda"), log


@pytest.mark.parametrize("name", ["zeroi2v", f"frozen {HEADS[3]}", HEADS[-1], "augmented"])
def test_the_result_is_that_of_the_cpu(folder: Path, name: str) -> None:
    result, _ = run_pretended(folder, name, 2)
    for rows in zip(result.rows, run(folder, name, 2, "cpu").rows, strict=True):
        for ours, theirs in zip(
            *(read_run(row.folder).records.values() for row in rows), strict=True
        ):
            # attention has another kernel there
            torch.testing.assert_close(
                torch.tensor(ours.probabilities),
                torch.tensor(theirs.probabilities),
                atol=1e-3,
                rtol=0,
            )


@pytest.mark.parametrize("name", CASES)
def test_it_runs_on_the_device_and_no_step_waits_for_it(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits_after_steps: list[Counter[str]] = []
    real = torch.optim.AdamW.step

    def step(optimizer: torch.optim.AdamW) -> None:
        real(optimizer)
        waits_after_steps.append(log.waits.copy())

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pretended_cuda() as log:
        run(folder, name, 2, "cuda")
    assert not log.faults
    first, second = waits_after_steps or (Counter(), Counter())
    more = second - first
    allowed = WAITS_OF_A_STEP.get(name.removeprefix("frozen "))
    assert not [line for line in more if allowed is None or allowed not in line]
    assert bool(more) == bool(allowed), "a head that no longer waits can leave the list"


@pytest.mark.parametrize("name", ["aim", "m-adapter"])
def test_adapters_of_the_next_episodes_are_built_ahead(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: dict[str, list[int]] = {"cuda": [], "cpu": []}
    close = AdaptersAhead.close
    for device, counts in built.items():
        with monkeypatch.context() as patch, contextlib.ExitStack() as stack:
            if device == "cuda":
                log = stack.enter_context(pretended_cuda())

            def count(ahead: AdaptersAhead, counts: list[int] = counts) -> None:
                counts.append(ahead.n_ahead)
                close(ahead)

            patch.setattr(AdaptersAhead, "close", count)
            config = tiny_run(
                folder, folder / "runs" / f"ahead-{name}-{device}",
                episodes=5, at_once=2, device=device, adapter=name, head="linear",
            )  # fmt: skip
            result = evaluate.run(config)
        records = read_run(result.rows[0].folder).records
        probabilities = torch.tensor([records[i].probabilities for i in range(5)])
        if device == "cuda":
            expected = probabilities
    assert built == {"cuda": [3], "cpu": [0]}
    assert not log.faults
    torch.testing.assert_close(probabilities, expected, atol=1e-3, rtol=0)


def test_faults_are_noticed() -> None:
    with pretended_cuda() as log:
        x = torch.ones(3, device="cuda")
        with pytest.raises(RuntimeError, match="one device"):
            x + torch.ones(3)
        x.cumsum(0)
        float(x.sum())
        torch.ones(3).to("cuda")
        assert send(torch.ones(3), CUDA).device == CUDA
        with pytest.raises(TypeError, match="numpy"):
            x.numpy()
    assert len(log.faults) == 2
    assert sum(log.waits.values()) == 2  # not that of `send`
