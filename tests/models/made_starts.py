"""Starting points made without a training: moved adapters, with what one would say of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fewshot_i2v.config.method import MethodSpec
from fewshot_i2v.models.checkpoints.adapter_checkpoint import save_adapter
from fewshot_i2v.models.checkpoints.metadata import CheckpointMetadata
from fewshot_i2v.models.checkpoints.start_head import head_facts
from fewshot_i2v.models.encoders.loading import Encoder
from fewshot_i2v.models.factory import build_head
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
        changes: of `facts`.
    """
    adapter = make_adapter(name, encoder.tower, frames=frames, seeds=seeds, **(options or {}))
    perturb(adapter, seeds)
    if half:
        adapter, changes = adapter.half(), {"stored": "float16", **changes}
    if not head:
        return save_adapter(folder, encoder, name, adapter, about={"start": facts(**changes)})
    method = MethodSpec.parse(head)
    trained = build_head(method, encoder.tower, way=way, frames=frames, seeds=[seeds[0]])
    perturb(trained, [seeds[0]])
    about = {"start": facts(head=head_facts(trained), **changes)}
    return save_adapter(folder, encoder, name, adapter, method.name, trained, about=about)
