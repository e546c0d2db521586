"""open_clip's text transformers: built from a configuration, filled strictly from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fewshot_i2v.encoders import _weights
from fewshot_i2v.encoders._architecture import Architecture
from fewshot_i2v.errors import EncoderError, UnknownNameError

ADVICE = (
    "Heads that read class names, such as zero-shot, tip and text-prototype, need one: use a head "
    "that does not, such as prototype or linear, or weights with both towers, such as the shipped "
    "encoder 'demo' or a tag of open_clip"
)
"""What to say after "has no text tower"."""

# What a CLIP checkpoint holds beside its text tower; the last three are sizes, in OpenAI's files.
_BESIDE = ("visual.", "text_decoder.", "logit_scale", "logit_bias")
_SIZES = {"input_resolution", "context_length", "vocab_size"}
# What decides the embeddings besides the names, shapes and values of the weights.
_DECIDING = (
    "context_length",
    "heads",
    "no_causal_mask",
    "pool_type",
    "embed_cls",
    "pad_id",
    "eos_id",
    "act_kwargs",
    "norm_kwargs",
)
_FOREIGN = ("hf_model_name", "hf_tokenizer_name", "tokenizer_kwargs")


def text_config(model: Architecture) -> Mapping[str, Any]:
    """The `text_cfg` of an architecture.

    Raises:
        EncoderError: when there is none, or its text model or tokenizer is not open_clip's own and
            would have to be fetched from somewhere.
        UnknownNameError: for a key that open_clip does not have.
    """
    from open_clip.model import CLIPTextCfg

    config = model.config.get("text_cfg")
    if config is None:
        where = f"no 'text_cfg' in {model.origin}"
        raise EncoderError(f"encoder {model.name!r} has no text tower ({where}). {ADVICE}")
    if not isinstance(config, dict):
        raise EncoderError(f"{model.origin}: 'text_cfg' is not an object")
    known = {entry.name for entry in fields(CLIPTextCfg)}
    for key in config:
        if key not in known:
            raise UnknownNameError(f"key of 'text_cfg' in {model.origin}", key, known)
    foreign = [f"{key}={config[key]!r}" for key in _FOREIGN if config.get(key)]
    if foreign:
        raise EncoderError(
            f"the text tower of encoder {model.name!r} cannot be used ({', '.join(foreign)}): only "
            "open_clip's own text transformer with CLIP's byte-pair tokenizer can, since others "
            f"are fetched by address. {ADVICE}"
        )
    return config


def facts(model: Architecture) -> dict[str, Any]:
    """What of a `text_cfg`, defaults included, decides the embeddings besides the weights."""
    from open_clip.model import CLIPTextCfg

    config = CLIPTextCfg(**text_config(model))
    return {key: getattr(config, key) for key in _DECIDING}


def build_text(model: Architecture, *, quick_gelu: bool) -> nn.Module:
    """The text tower of an architecture with meaningless weights, in memory.

    Args:
        model: with a `text_cfg` that `text_config` accepts.
        quick_gelu: whether the weights were trained with QuickGELU.

    Raises:
        EncoderError: when the configuration cannot be built.
    """
    from open_clip.model import CLIPTextCfg, _build_text_tower

    config = CLIPTextCfg(**(dict(text_config(model)) | {"output_tokens": False}))
    try:
        # its constructor draws from the global generator
        with torch.random.fork_rng(devices=[]):
            text: nn.Module = _build_text_tower(model.config["embed_dim"], config, quick_gelu)
    except Exception as error:  # the constructors check little, so a bad value raises anything
        raise EncoderError(
            f"{model.origin}: open_clip cannot build this text tower: {error or type(error)}"
        ) from error
    return text.eval().requires_grad_(False)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Everything but the visual tower of a local CLIP checkpoint, by its name in the whole model.

    Raises:
        EncoderError: when it cannot be read, or has no text weights.
    """
    from safetensors import safe_open

    # refuses what is absent, damaged or more than data
    if not _weights.read_checkpoint(path).text:
        raise EncoderError(f"{path} has no text tower: it holds no text weights. {ADVICE}")
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            kept = [name for name in file.keys() if not _is_visual(name)]  # noqa: SIM118
            tensors = {name: file.get_tensor(name) for name in kept}
    else:
        loaded = _weights.load_pickle(path)
        loaded = loaded.get("state_dict", loaded)
        tensors = {name: value for name, value in loaded.items() if not _is_visual(name)}
    return {name.removeprefix("module."): value.detach() for name, value in tensors.items()}


def _is_visual(name: str) -> bool:
    return name.removeprefix("module.").startswith("visual.")


def fill_text(text: nn.Module, tensors: Mapping[str, Tensor], origin: str) -> float:
    """Puts the weights of a whole CLIP model into its text tower.

    Args:
        text: as `build_text` gives it.
        tensors: by their name in the whole model, those of the text tower with or without `text.`
            in front; floating ones of any precision become float32.
        origin: where they are from, for messages.

    Returns:
        The temperature that both towers were trained with, e to the power of `logit_scale`.

    Raises:
        EncoderError: listing names and shapes that do not fit, or tensors that are not finite, or
            because there is no `logit_scale`.
    """
    own = {n: t for n, t in tensors.items() if not n.startswith(_BESIDE) and n not in _SIZES}
    if all(name.startswith("text.") for name in own):
        own = {name.removeprefix("text."): tensor for name, tensor in own.items()}
    whole_numbers = [name for name, tensor in own.items() if not tensor.is_floating_point()]
    if whole_numbers:
        raise EncoderError(f"{origin}: {whole_numbers[0]!r} does not hold floating-point numbers")
    try:
        text.load_state_dict(own, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:600]
        raise EncoderError(f"{origin} does not fit this text tower: {reason}") from error
    _weights.check_finite(text.state_dict(), origin)
    return _scale(tensors.get("logit_scale"), origin)


def _scale(logit_scale: Tensor | None, origin: str) -> float:
    if logit_scale is None:
        raise EncoderError(
            f"{origin} has no 'logit_scale', the logarithm of the temperature that both towers "
            "were trained with; save the state_dict() of the whole model"
        )
    if logit_scale.numel() != 1 or not logit_scale.double().exp().isfinite().all():
        raise EncoderError(f"{origin}: 'logit_scale' is {logit_scale}; expected one finite number")
    return float(logit_scale.double().exp())
