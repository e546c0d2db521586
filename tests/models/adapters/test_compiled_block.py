"""Compiled blocks give what plain ones give, and whatever wants them runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx

from fewshot_i2v import registry
from fewshot_i2v.errors import AdapterError
from fewshot_i2v.evaluation import evaluate
from fewshot_i2v.models.adapters.base import compiled_block
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.checkpoints.starting_point import read_start
from fewshot_i2v.models.encoders.block import FrozenBlock
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.runs.run_folder import RunData, read_run
from fewshot_i2v.training.train import train
from tests.models.tiny_adapters import make_adapter, make_clips, perturb
from tests.needs_learn2learn import learn2learn_algorithms
from tests.tiny import tiny_folder, tiny_run, tiny_tower
from tests.training.training_samples import train_config, training_folder

_IN_BLOCKS = [
    name for name in registry.method_names("adapters") if name not in ("frozen", "m-adapter")
]


class Graphs:
    """A compiler that leaves graphs as they are; `made` and `run` count them."""

    def __init__(self) -> None:
        self.made = self.run = 0

    def __call__(self, graph: fx.GraphModule, _inputs: list[Tensor]) -> Callable[..., Any]:
        self.made += 1

        def _run(*inputs: Tensor) -> object:
            self.run += 1
            return graph(*inputs)

        return _run


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Graphs]:
    compiler = Graphs()
    monkeypatch.setattr(compiled_block, "BACKEND", compiler)
    yield compiler
    torch._dynamo.reset()


def _encoder(
    name: str = "st-adapter", seeds: tuple[int, ...] = (1, 2), tower: Tower | None = None
) -> AdaptedEncoder:
    tower = tower or tiny_tower(layers=2)
    adapter = perturb(make_adapter(name, tower, seeds=seeds), seeds, std=0.1)
    return AdaptedEncoder(tower, adapter.to(tower.device))


def _run(encoder: AdaptedEncoder, n_clips: int = 2) -> list[Tensor]:
    """Features and gradients; a missing one is zero."""
    clips = make_clips(encoder.tower, encoder.adapter.episodes, n_clips)
    prefix = encoder.compute_prefix(clips.to(encoder.tower.device))
    encoder.adapter.zero_grad()
    features = encoder(prefix)
    torch.autograd.backward(features.clip.square().sum() + features.frames.pow(3).sum())
    parameters = encoder.adapter.parameters()
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    return [features.frames.detach(), features.clip.detach(), *gradients]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_features_and_gradients_are_the_same(graphs: Graphs, checkpointing: bool) -> None:
    encoder = _encoder()
    plain = _run(encoder)
    assert graphs.run == 0
    encoder.compiles, encoder.checkpointing = True, checkpointing
    for compiled, expected in zip(_run(encoder), plain, strict=True):
        torch.testing.assert_close(compiled, expected)
    assert graphs.made == encoder.tower.layers
    assert graphs.run >= encoder.tower.layers


def test_nothing_is_compiled_again_for_other_episodes(graphs: Graphs) -> None:
    for seeds in ((1, 2), (3, 4), (5, 6)):
        encoder = _encoder(seeds=seeds)
        plain = _run(encoder)
        encoder.compiles = True
        for compiled, expected in zip(_run(encoder), plain, strict=True):
            torch.testing.assert_close(compiled, expected)
        assert graphs.made == encoder.tower.layers
    _run(encoder, n_clips=3)
    assert graphs.made == 2 * encoder.tower.layers, "other shapes have code of their own"


def test_there_may_be_more_shapes_than_pytorch_allows_by_default(graphs: Graphs) -> None:
    frozen = tiny_tower(layers=1).blocks[0]

    def _block(i: int, frozen: FrozenBlock, x: Tensor) -> Tensor:
        return x + i * frozen.out_bias.sum()

    for n_clips in range(1, 11):
        compiled_block.run_compiled(_block, 0, frozen, torch.ones(n_clips, requires_grad=True))
    assert graphs.made == 10


def test_without_a_gradient_nothing_is_compiled(graphs: Graphs) -> None:
    encoder = _encoder()
    encoder.compiles = True
    with torch.inference_mode():
        encoder(encoder.compute_prefix(make_clips(encoder.tower, 2, 2)))
    assert graphs.made == 0


def test_what_the_compiler_says_is_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def _fails(*_: object) -> Callable[..., Any]:
        raise RuntimeError("no compiler\nwas installed\n\nand a page of hints")

    monkeypatch.setattr(compiled_block, "BACKEND", _fails)
    encoder = _encoder()
    encoder.compiles = True
    with pytest.raises(AdapterError) as caught:
        _run(encoder)
    message = str(caught.value)
    assert message.startswith("block 0 cannot be compiled: no compiler was installed. ")
    assert message.endswith("--no-compile")


@pytest.mark.parametrize("while_compiling", [False, True])
def test_an_error_of_the_device_stays_what_it_is(
    monkeypatch: pytest.MonkeyPatch, while_compiling: bool
) -> None:
    def _runs_out(*_: object) -> Callable[..., Any]:
        def _run(*_: object) -> object:
            raise torch.OutOfMemoryError("full")

        return _run() if while_compiling else _run

    monkeypatch.setattr(compiled_block, "BACKEND", _runs_out)
    encoder = _encoder()
    encoder.compiles = True
    with pytest.raises(torch.OutOfMemoryError):
        _run(encoder)


def _evaluate(folder: Path, name: str, **changes: Any) -> RunData:
    """Evaluates a fresh ST-Adapter, two episodes side by side and then one."""
    tuning = {"recipe": "none", "steps": 2, "lr": 0.05}
    keys = {"adapter": "st-adapter", "head": "prototype", "shot": [2], "episodes": 3, "at_once": 2}
    config = tiny_run(folder, folder / name, tuning=tuning, **keys | changes)
    return read_run(evaluate.run(config).rows[0].folder)


def test_an_evaluation_tunes_with_compiled_blocks_where_it_says_so(
    tmp_path: Path, graphs: Graphs
) -> None:
    folder = tiny_folder(tmp_path)
    plain = _evaluate(folder, "plain")
    assert graphs.made == 0
    assert "compile" not in plain.header["identity"]["config"], "as in runs of earlier versions"
    compiled = _evaluate(folder, "compiled", compile=True)
    assert graphs.made > 0
    assert compiled.header["identity"]["config"]["compile"] is True
    for index, record in compiled.records.items():
        assert record.losses == pytest.approx(plain.records[index].losses, rel=1e-4)
        assert record.predictions == plain.records[index].predictions


@pytest.mark.parametrize(
    "objective",
    ["classify", "reptile"]
    + [pytest.param(name, marks=pytest.mark.learn2learn) for name in ("maml", "anil")],
)
def test_a_training_takes_its_steps_with_compiled_blocks(
    tmp_path: Path, graphs: Graphs, objective: str
) -> None:
    if objective in ("maml", "anil"):
        learn2learn_algorithms()
    folder = training_folder(tmp_path)
    keys = {"adapter": "st-adapter", "objective": objective, "head": "linear", "steps": 3}
    states = []
    for is_compiled in (False, True):
        output = folder / str(is_compiled)
        train(
            train_config(folder, output, compile=is_compiled, validation={"subset": "off"}, **keys)
        )
        states.append(read_start(output, "st-adapter").tensors)
        assert (graphs.made > 0) == is_compiled
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["st-adapter", "aim"])
def test_compiled_blocks_of_a_gpu_give_the_same(name: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    torch._dynamo.reset()
    encoder = _encoder(name, tower=tiny_tower(layers=2).to("cuda"))
    plain = _run(encoder)
    encoder.compiles = True
    for compiled, expected in zip(_run(encoder), plain, strict=True):
        torch.testing.assert_close(compiled, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", _IN_BLOCKS)
def test_pytorch_s_own_compiler_gives_the_same(name: str) -> None:
    torch._dynamo.reset()
    encoder = _encoder(name)
    plain = _run(encoder)
    encoder.compiles = True
    for compiled, expected in zip(_run(encoder), plain, strict=True):
        torch.testing.assert_close(compiled, expected, rtol=1e-3, atol=1e-4)
