"""Rows that are tuned with the rates of their starting point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.errors import CheckpointError, ConfigError
from fewshot_i2v.evaluation import evaluate
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.inputs import load_inputs
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.models.checkpoints.adapter_checkpoint import load_adapter
from fewshot_i2v.models.checkpoints.start_extras import rates_facts
from fewshot_i2v.models.checkpoints.starting_point import read_start
from fewshot_i2v.models.device_memory import PartSize
from fewshot_i2v.runs.run_folder import read_run
from tests.evaluation.exports import Runs
from tests.models.made_starts import make_start

LEARNED = {"steps": 2, "optimizer": "start-rates"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The tiny encoder, split and clips, and starts with and without rates."""
    runs = Runs(tmp_path_factory.mktemp("rates"))
    inner = {"config": {"inner": {"steps": 2}}, "kind": "meta-trained", "objective": "meta-sgd"}
    make_start(runs.folder / "linear", runs.encoder(), head="linear", rate=0.01, **inner)
    make_start(runs.folder / "prototype", runs.encoder(), rate=0.01, **inner)
    make_start(runs.folder / "plain", runs.encoder())
    return runs


def _config(runs: Runs, start: str, output: Path, **changes: Any) -> EvaluationConfig:
    settings = {"adapter": "st-adapter", "head": "linear", "tuning": LEARNED}
    where = "fresh" if start == "fresh" else str(runs.folder / start)
    return runs.config("x", **(settings | {"start": where} | changes | {"output": str(output)}))


def _runner(config: EvaluationConfig) -> RowRunner:
    return evaluate.build_row_runners(EvaluationContext.of(config))[0]


def test_steps_are_those_of_gradient_descent_with_the_rates(runs: Runs, tmp_path: Path) -> None:
    config = _config(runs, "linear", tmp_path / "r")
    runner = _runner(config)
    episode = runner.episodes[3]
    runner.context.decode_clips(set(episode.clip_names()), progress=False)
    tuned = runner.run_group([episode])
    encoder, head = runner.build_encoder([3]), runner.build_head([3])
    inputs = load_inputs(
        runner.row, runner.context, [episode], encoder, grid_sizes=(), part_size=PartSize()
    )
    start = read_start(runs.folder / "linear", "st-adapter")
    assert start.rates is not None
    for step in range(2):
        logits = head.compute_support_logits(encoder(inputs.support_at(step)), inputs.labels)
        loss = functional.cross_entropy(logits[0], inputs.labels[0])
        for module in (encoder.adapter, head):
            module.zero_grad()
        torch.autograd.backward(loss)
        for kind, module in (("adapter", encoder.adapter), ("head", head)):
            for name, parameter in module.named_parameters():
                if parameter.grad is not None:
                    rate = start.rates.tensors[f"rates.{kind}.{name}"]
                    parameter.data -= rate * parameter.grad
    for module, expected in ((tuned.encoder.adapter, encoder.adapter), (tuned.head, head)):
        for name, value in expected.state_dict().items():
            torch.testing.assert_close(module.state_dict()[name], value, atol=1e-6, rtol=1e-4)


def test_rows_side_by_side_are_continued_and_exported(runs: Runs, tmp_path: Path) -> None:
    folder = evaluate.run(_config(runs, "linear", tmp_path / "r")).rows[0].folder
    one = evaluate.run(_config(runs, "linear", tmp_path / "o", at_once=1)).rows[0].folder
    for a, b in zip(*(read_run(f).records.values() for f in (folder, one)), strict=True):
        for p, q in zip(a.probabilities, b.probabilities, strict=True):
            assert p == pytest.approx(q, abs=1e-5)
    assert evaluate.run(_config(runs, "linear", tmp_path / "r")).rows[0].folder == folder
    assert runs.export(folder, tmp_path / "e").difference <= 1e-5
    assert evaluate.dry_run(_config(runs, "linear", tmp_path / "d"))["cost"]["rows"]


def test_the_rates_are_part_of_the_identity(runs: Runs, tmp_path: Path) -> None:
    learned = _runner(_config(runs, "linear", tmp_path / "r"))
    identity = learned.header()[1]
    start = read_start(runs.folder / "linear", "st-adapter")
    assert start.rates is not None
    assert identity["config"]["tuning"]["optimizer"] == "start-rates"
    assert identity["start"]["rates"] == start.rates.digest
    plain = _runner(_config(runs, "linear", tmp_path / "p", tuning={"steps": 2})).header()[1]
    assert "optimizer" not in plain["config"]["tuning"]
    assert "rates" not in plain["start"]
    assert learned.notes == []
    more = _config(runs, "linear", tmp_path / "m", tuning=LEARNED | {"steps": 3})
    assert any("those of 2 inner steps, and tuning.steps is 3" in n for n in _runner(more).notes)


@pytest.mark.parametrize(
    ("start", "head", "message"),
    [
        ("plain", "prototype", r"needs a start of meta-training.* begins .*plain, which has"),
        ("fresh", "prototype", r"st-adapter begins fresh, which has none"),
        ("prototype", "linear", r"head linear begins fresh, and the start .* has no rates for it"),
        ("linear", "trx", r"head trx begins fresh"),
    ],
)
def test_rows_without_rates_are_refused(
    runs: Runs, tmp_path: Path, start: str, head: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluate.run(_config(runs, start, tmp_path / "r", head=head))
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("start", ["linear", "prototype"])
def test_a_head_without_parameters_needs_no_rates(runs: Runs, tmp_path: Path, start: str) -> None:
    config = _config(
        runs, start, tmp_path / "r", head="prototype", adapter=["frozen", "st-adapter"]
    )
    assert len(evaluate.run(config).rows) == 2


def test_a_start_with_rates_loads_as_an_adapter_too(runs: Runs) -> None:
    loaded = load_adapter(runs.folder / "linear", runs.encoder())
    start = read_start(runs.folder / "linear", "st-adapter")
    for name, value in loaded.adapter.state_dict().items():
        assert torch.equal(value, start.tensors[f"adapter.{name}"])


def test_rates_of_other_values_are_refused(runs: Runs, tmp_path: Path) -> None:
    encoder = runs.encoder()
    start = read_start(runs.folder / "linear", "st-adapter")
    assert start.rates is not None
    make_start(tmp_path / "s", encoder, rate=0.01, rates=rates_facts({}))
    with pytest.raises(CheckpointError, match=r"damaged: its rates have the sha256"):
        read_start(tmp_path / "s", "st-adapter")
    runner = _runner(_config(runs, "prototype", tmp_path / "r", head="prototype"))
    rates = read_start(runs.folder / "prototype", "st-adapter").rates
    linear = _runner(_config(runs, "linear", tmp_path / "l")).build_head([0])
    assert rates is not None
    with pytest.raises(CheckpointError, match=r"the head has a parameter weight of .* shape None"):
        rates.of("head", linear)
    assert runner.learned_rates(runner.build_encoder([0]), runner.build_head([0])) is not None
