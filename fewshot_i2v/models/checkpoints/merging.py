"""Merges one episode's adapter into the weights of its encoder, as files open_clip can load."""

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
from fewshot_i2v.models.checkpoints.files import episode_tensors
from fewshot_i2v.models.checkpoints.metadata import head_offsets
from fewshot_i2v.models.encoders.block import LayerNorm
from fewshot_i2v.models.encoders.loading import Encoder, load_encoder
from fewshot_i2v.models.encoders.to_open_clip import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    write_open_clip_folder,
)
from fewshot_i2v.models.encoders.tower import Tower

_TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class MergedAdapter:
    """Result of merging an adapter.

    Attributes:
        encoder: with the merged weights, loaded from the files that were written.
        remainder: the adapter that remains after merging, with E = 1.
        usage: how to load the folder, and what to watch for.
    """

    encoder: Encoder
    remainder: Adapter
    usage: str


def merge_into(
    folder: Path,
    encoder: Encoder,
    adapter_name: str,
    adapter: Adapter,
    episode: int,
    probe: Tensor,
    source: Mapping[str, Any],
) -> MergedAdapter:
    """Merges one episode's adapter, writes the weights and checks the written files.

    Args:
        folder: where to write; it exists.
        encoder: the frozen encoder, in float32 on the CPU.
        adapter_name: for names and messages.
        adapter: of E copies, on any device.
        episode: which of the E copies.
        probe: normalised pixels of clips, (clips, T, 3, H, W) float32, on which the merged weights
            must give the same features as before.
        source: `name`, `pretrained` and `architecture` that the encoder was loaded with.

    Raises:
        AdapterError: when the method cannot be merged.
        EncoderError: when the weights cannot be written.
        ExportError: when the merged weights give other features.
    """
    single_adapter = _single_episode_adapter(encoder.tower, adapter, episode)
    tower, remainder = single_adapter.merge(encoder.tower)
    tower = _with_final_norm(tower, remainder)
    is_complete_model = write_open_clip_folder(folder, tower, **source)
    merged = load_encoder(
        f"{encoder.name} with {adapter_name}",
        architecture=folder / CONFIG_FILE,
        pretrained=folder / WEIGHTS_FILE,
    )
    before = _encode_probe(encoder.tower, single_adapter, probe)
    after = _encode_probe(merged.tower, remainder, probe)
    for expected, actual in ((before.frames, after.frames), (before.clip, after.clip)):
        max_difference = float((expected - actual).abs().max())
        limit = _TOLERANCE * max(1.0, float(expected.abs().max()))
        if not max_difference <= limit:
            raise ExportError(
                f"{adapter_name}: after merging the features differ by {max_difference:.2g}, more "
                f"than {limit:.2g}; nothing is written. Export without merging (--no-merge)"
            )
    return MergedAdapter(
        merged, remainder, _usage_note(remainder, is_complete_model=is_complete_model)
    )


def _single_episode_adapter(tower: Tower, adapter: Adapter, episode: int) -> Adapter:
    """Copies one episode's adapter as an adapter with E = 1, on the CPU."""
    single_adapter = type(adapter)(tower, adapter.options, frames=adapter.frames, seeds=[0])
    state = episode_tensors("adapter", adapter, episode)
    single_adapter.load_state_dict(
        {name.partition(".")[2]: tensor for name, tensor in state.items()}
    )
    return single_adapter


def _with_final_norm(tower: Tower, remainder: Adapter) -> Tower:
    """Replaces the tower's last layer norm by its trained copy, if there is one."""
    norm = getattr(remainder, "ln_post", None)
    if not isinstance(norm, EpisodeLayerNorm):
        return tower
    weight, bias = norm.weight.detach()[0].clone(), norm.bias.detach()[0].clone()
    return replace(tower, norm_post=LayerNorm(weight, bias, norm.eps))


@torch.no_grad()
def _encode_probe(tower: Tower, adapter: Adapter, probe: Tensor) -> Features:
    encoder = AdaptedEncoder(tower, adapter)
    features: Features = encoder(encoder.compute_prefix(probe[None]))
    return features


def _usage_note(remainder: Adapter, *, is_complete_model: bool) -> str:
    sentences = [
        "fewshot_i2v.load_merged(FOLDER) gives the merged encoder, what remains of the adapter "
        "and the head. "
    ]
    if is_complete_model:
        sentences.append("open_clip.create_model('local-dir:FOLDER') loads the merged weights. ")
    else:
        sentences.append(
            f"{WEIGHTS_FILE} holds the visual tower alone, by open_clip's own names: no text tower "
            f"came with these weights. Build the visual tower that {CONFIG_FILE} describes and "
            "give it the tensors with load_state_dict(..., strict=True). "
        )
    offsets = head_offsets(remainder)
    if offsets is not None:
        sentences.append(
            f"The merged weights are right with the head offsets {offsets} only: another "
            "table, or open_clip's own forward pass, which shifts no head, gives other features of "
            "clips that move. "
        )
    elif not remainder.state_dict():
        model, forward = (
            ("model.visual", "encode_image") if is_complete_model else ("visual", "its forward")
        )
        sentences.append(
            "Nothing else remains: open_clip's own forward pass is the adapted encoder and one "
            f"product more. {forward} gives the features of a frame times {model}.proj; after "
            f"`{model}.proj = None` it gives the features that this toolkit's heads see. "
        )
    sentences.append("Do not apply the adapter to these weights a second time.")
    return "".join(sentences)
