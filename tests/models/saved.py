"""Adapters and heads to be saved, on the tiny encoder, and what they compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fewshot_i2v import registry
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.encoders.loading import Encoder, load_encoder
from fewshot_i2v.models.heads.base.head import ClassTexts, Head
from tests.models.tiny_adapters import make_adapter, make_clips, perturb
from tests.tiny import tiny_architecture

FRAMES, WAY = 4, 3


def tiny_encoder(folder: Path, mean: float = 0.5, **more: Any) -> Encoder:
    """The tiny encoder with random weights; its configuration is written into `folder`."""
    path = tiny_architecture(folder)
    return load_encoder("tiny", architecture=path, pretrained="random", mean=mean, **more)


def make_head(name: str, encoder: Encoder, episodes: int = 2, **options: object) -> Head:
    cls = registry.load_method("heads", name)
    more = {}
    if cls.uses_class_names:
        names = torch.randn(episodes, WAY, 32, generator=torch.Generator().manual_seed(3))
        unit = torch.nn.functional.normalize(names, dim=-1)
        more["texts"] = ClassTexts(unit, encoder.tower.projection, 50.0)
    head: Head = cls(
        cls.Options.model_validate(options),
        width=encoder.tower.width,
        way=WAY,
        frames=FRAMES,
        seeds=list(range(episodes)),
        **more,
    )
    return head


def moved_adapter(name: str, encoder: Encoder, seeds: tuple[int, ...] = (1, 2)) -> Adapter:
    return perturb(make_adapter(name, encoder.tower, frames=FRAMES, seeds=seeds), seeds)


@torch.no_grad()
def features_of(encoder: Encoder, adapter: Adapter, frames: int = FRAMES) -> Features:
    adapted = AdaptedEncoder(encoder.tower, adapter)
    kept = adapted.compute_prefix(make_clips(encoder.tower, 2 * WAY, frames=frames))
    features: Features = adapted(kept.expand(adapter.episodes, *kept.shape))
    return features


def only(features: Features, episode: int) -> Features:
    return Features(features.frames[episode, None], features.clip[episode, None])
