"""Starting points made without a training: moved adapters, with what one would say of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewshot_i2v.config.method import MethodSpec
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.checkpoints.adapter_checkpoint import save_adapter, write_adapter
from fewshot_i2v.models.checkpoints.files import atomic_folder
from fewshot_i2v.models.checkpoints.metadata import CheckpointMetadata
from fewshot_i2v.models.checkpoints.start_extras import head_facts, rates_facts
from fewshot_i2v.models.encoders.loading import Encoder
from fewshot_i2v.models.factory import build_head
from fewshot_i2v.models.heads.base.head import Head
from tests.models.tiny_adapters import make_adapter, perturb


def facts(**changes: Any) -> dict[str, Any]:
    """`about["start"]` of a training on classes that no other split has."""
    plain: dict[str, Any] = {
        "kind": "base-trained",
        "objective": "episodic",
        "split": {"name": "elsewhere", "version": 1, "digest": "d" * 64},
        "subset": "base",
        "classes": ["run", "walk"],
        "validation": {"subset": "val", "classes": ["jump"]},
        "clips": "c" * 64,
        "clip_names": ["run/1.mp4", "walk/1.mp4"],
        "seed": 0,
        "steps": 10,
        "best_step": 5,
        "curve": [{"step": 5, "loss": 0.5, "accuracy": 0.75, "half_width": 0.1}],
        "config": {},
    }
    return plain | changes


def make_start(
    folder: Path,
    encoder: Encoder,
    name: str = "st-adapter",
    *,
    options: dict[str, Any] | None = None,
    frames: int = 4,
    seeds: Sequence[int] = (7,),
    half: bool = False,
    head: str = "",
    way: int = 3,
    rate: float | None = None,
    **changes: Any,
) -> CheckpointMetadata:
    """Writes the starting point of an adapter, moved away from its initial values.

    Args:
        folder: a new folder.
        encoder: that it belongs to.
        name: of the method.
        options: of the method.
        frames: of a clip.
        seeds: of the copies; the first is saved.
        half: store it in float16.
        head: the head that was trained with it, in text form; empty: none with parameters was.
        way: classes of the episodes of that training.
        rate: about the size of the learned rates of all values; None: none were learned.
        changes: of `facts`.
    """
    adapter = make_adapter(name, encoder.tower, frames=frames, seeds=seeds, **(options or {}))
    perturb(adapter, seeds)
    if half:
        adapter, changes = adapter.half(), {"stored": "float16", **changes}
    trained = method = None
    if head:
        method = MethodSpec.parse(head)
        trained = build_head(method, encoder.tower, way=way, frames=frames, seeds=[seeds[0]])
        changes["head"] = head_facts(perturb(trained, [seeds[0]]))
    if rate is None:
        about = {"start": facts(**changes)}
        return save_adapter(
            folder, encoder, name, adapter, method and method.name, trained, about=about
        )
    rates = made_rates(adapter, trained, rate)
    about = {"start": facts(**{"rates": rates_facts(rates)} | changes)}
    with atomic_folder(folder) as draft:
        return write_adapter(
            draft, encoder, name, adapter, method and method.name, trained, about=about, rates=rates
        )


def made_rates(adapter: Adapter, head: Head | None, rate: float) -> dict[str, Tensor]:
    """Rates that differ from value to value, from `rate` to twice that; every third is negative."""
    rates = {}
    for kind, module in (("adapter", adapter), ("head", head)):
        for name, parameter in () if module is None else module.named_parameters():
            shape = (1, *parameter.shape[1:])
            steps = torch.arange(parameter[0].numel()).reshape(shape)
            signs = torch.where(steps % 3 == 0, -1.0, 1.0)
            rates[f"rates.{kind}.{name}"] = rate * signs * (1 + steps / parameter[0].numel())
    return rates
