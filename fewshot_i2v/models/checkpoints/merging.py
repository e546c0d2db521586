"""Merges one episode's adapter into the weights of its encoder, as files open_clip can load."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from fewshot_i2v.errors import ExportError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.adapters.base.layers import EpisodeLayerNorm
from fewshot_i2v.models.checkpoints.files import CONFIG_FILE, WEIGHTS_FILE, episode_tensors
from fewshot_i2v.models.checkpoints.metadata import head_offsets
from fewshot_i2v.models.encoders import architectures, loading, weights
from fewshot_i2v.models.encoders.architectures import Architecture
from fewshot_i2v.models.encoders.block import LayerNorm
from fewshot_i2v.models.encoders.loading import Encoder, load_encoder
from fewshot_i2v.models.encoders.open_clip_conversion import open_clip_state_dict
from fewshot_i2v.models.encoders.tower import Tower

# Largest difference of a feature that merging may make, relative to the largest feature: merging
# rounds products of float32 weights once more, some 1e-6 of their size.
_TOLERANCE = 1e-4
_VISUAL_PREFIX = "visual."
# What open_clip reads of `preprocess_cfg` besides size, mean and std.
_PREPROCESS_KEYS = ("mode", "interpolation", "resize_mode", "fill_color")


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


def write_open_clip_folder(
    folder: Path,
    tower: Tower,
    *,
    name: str,
    pretrained: str | None = None,
    architecture: Path | None = None,
) -> bool:
    """Write a model's configuration with its text tower and a new visual tower.

    Args:
        folder: where to write; it exists.
        tower: the visual tower, of the model's shapes.
        name: of the model, as for `load_encoder`.
        pretrained: where its text tower is, as for `load_encoder`.
        architecture: the model's configuration, as for `load_encoder`.

    Returns:
        Whether the text tower is written too. Without one the file holds the visual tower alone,
        under the visual tower's names, and loads into `create_model(...).visual`.

    Raises:
        EncoderError: when the tower cannot be written or the text tower cannot be loaded.
    """
    model = architectures.find_architecture(name, architecture)
    text_tensors, settings = _read_text_tower(model, pretrained)
    config = _model_config(model, tower)
    tensors = open_clip_state_dict(
        tower, layer_scale=config["vision_cfg"].get("ls_init_value") is not None
    )
    has_text_tower = bool(text_tensors) and "text_cfg" in config
    if has_text_tower:
        tensors = {
            f"{_VISUAL_PREFIX}{key}": tensor for key, tensor in tensors.items()
        } | text_tensors
    stored_settings = {
        key: settings[key] for key in _PREPROCESS_KEYS if settings.get(key) is not None
    }
    pixel_settings = {
        "size": [tower.image_size, tower.image_size],
        "mean": tower.mean.tolist(),
        "std": tower.std.tolist(),
    }
    folder_config = {"model_cfg": config, "preprocess_cfg": stored_settings | pixel_settings}
    (folder / CONFIG_FILE).write_text(json.dumps(folder_config, indent=2) + "\n", encoding="utf-8")
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    # safetensors lets nobody else read
    shutil.copymode(folder / CONFIG_FILE, folder / WEIGHTS_FILE)
    return has_text_tower


def _model_config(model: Architecture, tower: Tower) -> dict[str, Any]:
    """Return the model's configuration, with the settings that its weights were loaded with."""
    config: dict[str, Any] = copy.deepcopy(dict(model.config))
    config["vision_cfg"]["image_size"] = tower.image_size
    # a tag may ask for it where the name does not
    if tower.blocks and tower.blocks[0].activation_gain != 1.0:
        config["quick_gelu"] = True
    return config


def _read_text_tower(
    model: Architecture, pretrained: str | None
) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """Return the text tower and the temperature, or nothing, and the pixel settings."""
    is_random = pretrained == loading.RANDOM_WEIGHTS
    source = None if is_random else loading.find_weights(model, pretrained)
    if source is None:
        return {}, model.preprocess
    settings = source.model.preprocess
    if source.file is not None:
        checkpoint = weights.read_checkpoint(source.file, text=True)
        text_tensors = checkpoint.tensors if checkpoint.has_text_tower else {}
    else:
        clip_model, settings = loading.load_pretrained_clip(model, str(source.tag))
        text_tensors = {
            k: t for k, t in clip_model.state_dict().items() if not k.startswith(_VISUAL_PREFIX)
        }
    # copies: tied weights share memory, which a safetensors file cannot
    return {
        k: t.detach().to("cpu", copy=True).contiguous() for k, t in text_tensors.items()
    }, settings
