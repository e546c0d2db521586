"""Merging one episode's adapter into the weights of its encoder, as files open_clip can load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewshot_i2v.errors import ExportError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.adapters.base.layers import EpisodeLayerNorm
from fewshot_i2v.models.checkpoints.files import copy_of
from fewshot_i2v.models.encoders.block import LayerNorm
from fewshot_i2v.models.encoders.loading import Encoder, load_encoder
from fewshot_i2v.models.encoders.to_open_clip import CONFIG, WEIGHTS, write_model
from fewshot_i2v.models.encoders.tower import Tower

_TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Merge:
    """What came of merging an adapter.

    Attributes:
        encoder: with the merged weights, loaded from the files that were written.
        rest: what remains of the adapter, with E = 1.
        usage: how to load the folder, and what to mind.
    """

    encoder: Encoder
    rest: Adapter
    usage: str


def merge_into(
    folder: Path,
    encoder: Encoder,
    adapter_name: str,
    adapter: Adapter,
    episode: int,
    probe: Tensor,
    source: Mapping[str, Any],
) -> Merge:
    """Merges one episode's adapter, writes the weights and checks what was written.

    Args:
        folder: where to write; it exists.
        encoder: the frozen encoder, in float32 on the CPU.
        adapter_name: for names and messages.
        adapter: of E copies, anywhere.
        episode: which of them.
        probe: normalised pixels of clips, (clips, T, 3, H, W) float32, on which the features of the
            merged weights must be those from before.
        source: `name`, `pretrained` and `architecture` that the encoder was loaded with.

    Raises:
        AdapterError: when the method cannot be merged.
        EncoderError: when the weights cannot be written.
        ExportError: when the merged weights give other features.
    """
    alone = _alone(encoder.tower, adapter, episode)
    tower, rest = alone.merge(encoder.tower)
    tower = _with_final_norm(tower, rest)
    whole = write_model(folder, tower, **source)
    merged = load_encoder(
        f"{encoder.name} with {adapter_name}",
        architecture=folder / CONFIG,
        pretrained=folder / WEIGHTS,
    )
    before = _features(encoder.tower, alone, probe)
    after = _features(merged.tower, rest, probe)
    for one, other in ((before.frames, after.frames), (before.clip, after.clip)):
        distance = float((one - other).abs().max())
        limit = _TOLERANCE * max(1.0, float(one.abs().max()))
        if not distance <= limit:
            raise ExportError(
                f"{adapter_name}: after merging the features differ by {distance:.2g}, more than "
                f"{limit:.2g}; nothing is written. Export without merging (--no-merge)"
            )
    return Merge(merged, rest, _usage(rest, whole=whole))


def _alone(tower: Tower, adapter: Adapter, episode: int) -> Adapter:
    """One episode's copy as an adapter of its own, on the CPU."""
    one = type(adapter)(tower, adapter.options, frames=adapter.frames, seeds=[0])
    state = copy_of("adapter", adapter, episode)
    one.load_state_dict({name.partition(".")[2]: tensor for name, tensor in state.items()})
    return one


def _with_final_norm(tower: Tower, rest: Adapter) -> Tower:
    """A trained copy of the last layer norm takes the place of the tower's own."""
    norm = getattr(rest, "ln_post", None)
    if not isinstance(norm, EpisodeLayerNorm):
        return tower
    weight, bias = norm.weight.detach()[0].clone(), norm.bias.detach()[0].clone()
    return replace(tower, norm_post=LayerNorm(weight, bias, norm.eps))


@torch.no_grad()
def _features(tower: Tower, adapter: Adapter, probe: Tensor) -> Features:
    encoder = AdaptedEncoder(tower, adapter)
    features: Features = encoder(encoder.prefix(probe[None]))
    return features


def _usage(rest: Adapter, *, whole: bool) -> str:
    parts = [
        "fewshot_i2v.load_merged(FOLDER) gives the merged encoder, what remains of the adapter"
    ]
    parts[0] += " and the head. "
    if whole:
        parts.append("open_clip.create_model('local-dir:FOLDER') loads the merged weights. ")
    else:
        parts.append(
            f"{WEIGHTS} holds the visual tower alone, by open_clip's own names: no text tower came "
            f"with these weights. Build the visual tower that {CONFIG} describes and give it the "
            "tensors with load_state_dict(..., strict=True). "
        )
    offsets = getattr(rest, "offsets", None)
    if offsets is not None:
        parts.append(
            f"The merged weights are right with the head offsets {list(offsets)} only: another "
            "table, or open_clip's own forward pass, which shifts no head, gives other features of "
            "clips that move. "
        )
    elif not rest.state_dict():
        model, forward = ("model.visual", "encode_image") if whole else ("visual", "its forward")
        parts.append(
            "Nothing else remains: open_clip's own forward pass is the adapted encoder and one "
            f"product more. {forward} gives the features of a frame times {model}.proj; after "
            f"`{model}.proj = None` it gives the features that this toolkit's heads see. "
        )
    parts.append("Do not apply the adapter to these weights a second time.")
    return "".join(parts)
