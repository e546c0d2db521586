"""AdamW of fine-tuning: that of PyTorch, without the import of PyTorch's compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fewshot_i2v.tuning.optimizers import AdamW


def _parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 3, 4), (2, 5), (2,), (2, 1)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def _groups(parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
    return [
        {"params": parameters[:2], "lr": 0.1, "weight_decay": 0.3},
        {"params": parameters[2:], "lr": 0.02, "weight_decay": 0.0},
    ]


def test_steps_are_bit_equal_to_those_of_pytorch() -> None:
    ours, theirs = _parameters(), _parameters()
    optimizers = AdamW(_groups(ours)), torch.optim.AdamW(_groups(theirs), fused=True)
    before = [p.detach().clone() for p in ours]
    for step in range(6):
        generator = torch.Generator().manual_seed(step)
        gradients = [torch.randn(p.shape, generator=generator) for p in ours]
        for parameters, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            assert all(p.grad is None for p in parameters)
            # one has no gradient in the first steps, one never
            for parameter, gradient in list(zip(parameters, gradients, strict=True))[:3]:
                if step > 1 or parameter.ndim > 2:
                    parameter.grad = gradient.clone()
            for group in optimizer.param_groups:
                group["lr"] *= 0.9
            optimizer.step()
        assert all(map(torch.equal, ours, theirs))
    assert [torch.equal(*pair) for pair in zip(ours, before, strict=True)] == [False] * 3 + [True]


_PROGRAM = """
import sys
import torch
from fewshot_i2v.config.base import FinetuneConfig
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.heads.linear import LinearHead, LinearOptions
from fewshot_i2v.tuning.finetune import EpisodeInputs, finetune
from tests.models.tiny_adapters import make_adapter
from tests.tiny import tiny_tower

tower = tiny_tower(layers=2)
encoder = AdaptedEncoder(tower, make_adapter("st-adapter", tower, frames=4, seeds=[0, 1]))
head = LinearHead(LinearOptions(), width=tower.width, way=2, frames=4, seeds=[0, 1])
tokens = encoder.compute_prefix(torch.randn(2, 2, 4, 3, 32, 32))
labels = torch.arange(2).expand(2, -1)
before = [p.detach().clone() for p in head.parameters()]
finetune(encoder, head, EpisodeInputs(lambda _: tokens, labels, tokens), FinetuneConfig(steps=2))
assert not all(map(torch.equal, before, head.parameters()))
print("torch._dynamo" in sys.modules)
"""


def test_fine_tuning_does_not_import_the_compiler() -> None:
    paths = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"
