"""Model configurations: open_clip's by name, the shipped one, or a user's JSON file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fewshot_i2v.errors import EncoderError, UnknownNameError
from fewshot_i2v.models.encoders import catalog
from fewshot_i2v.models.encoders.plain_transformer import plain_vision_transformer
from fewshot_i2v.utils.input_files import parse_json, read_regular

_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Architecture:
    """Configuration of a visual tower, without weights.

    Attributes:
        name: for people.
        config: open_clip's model configuration: `embed_dim`, `vision_cfg`, maybe `quick_gelu`.
        preprocess: `mean` and `std`, if the configuration has them.
        origin: the file, or "open_clip".
    """

    name: str
    config: Mapping[str, Any]
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    origin: str = "open_clip"


def find_architecture(name: str, path: str | Path | None) -> Architecture:
    """Return the architecture of a name, or that of a user's file with a name for it.

    Raises:
        UnknownNameError: for a name open_clip does not have.
        EncoderError: when the file cannot be read or lacks something, or for the raw pixels, which
            have no architecture.
    """
    if name == catalog.PIXELS:
        raise EncoderError(
            f"encoder {name!r} is the raw pixels of a frame: it has no architecture, no weights "
            "and no text tower. Leave out `architecture` and `pretrained`, and use a head that "
            "reads no class names; give a model of your own another name"
        )
    if path is None:
        if name != "demo":
            return open_clip_architecture(name)
        path = catalog.DEMO_CONFIG
        if not path.is_file():
            raise EncoderError(
                f"the shipped encoder is missing: no {path}; install the package again"
            )
        return architecture_from_file(path, name)
    # "demo" is what the name is when none was given
    return architecture_from_file(Path(path), "" if name == "demo" else name)


def open_clip_architecture(name: str) -> Architecture:
    """Return an architecture of open_clip by its name.

    Raises:
        UnknownNameError: for a name open_clip does not have.
        EncoderError: for names that would be fetched from an address.
    """
    if ":" in name:
        raise EncoderError(
            f"encoder {name!r}: models are never fetched by address; download the checkpoint "
            "yourself and give its path as `pretrained` and its configuration as `architecture`"
        )
    import open_clip

    config_name = name.replace("/", "-")
    config = open_clip.get_model_config(config_name)
    if config is None:
        available = {"demo", catalog.PIXELS, *open_clip.list_models()}
        hint = "For a model of your own give its configuration as `architecture`."
        raise UnknownNameError("encoder", name, available, hint)
    return Architecture(config_name, config)


def architecture_from_file(path: Path, name: str = "") -> Architecture:
    """Read a user's configuration, in open_clip's format; a text tower may be absent.

    Args:
        path: JSON with `embed_dim` and `vision_cfg`, and optionally `preprocess_cfg` with `mean`
            and `std`; or an `open_clip_config.json`, which holds the former under `model_cfg`.
        name: what to call it; the file's stem when empty.

    Raises:
        EncoderError: when it cannot be read or lacks something.
    """
    data = _read_json_object(path)
    config = data.get("model_cfg", data)
    if not isinstance(config, dict):
        raise EncoderError(f"{path}: 'model_cfg' is not an object")
    for key, expected_type in (("embed_dim", int), ("vision_cfg", dict)):
        if not isinstance(config.get(key), expected_type):
            raise EncoderError(
                f"{path}: expected {key!r} ({expected_type.__name__}) in a model configuration"
            )
    preprocess = data.get("preprocess_cfg", {})
    if not isinstance(preprocess, dict):
        raise EncoderError(f"{path}: 'preprocess_cfg' is not an object")
    return Architecture(name or path.stem, config, preprocess, str(path))


def _read_json_object(path: Path) -> dict[str, Any]:
    try:
        data = parse_json(read_regular(path, _MAX_BYTES))
    except FileNotFoundError as error:
        raise EncoderError(
            f"{path}: no such file; expected a model configuration (JSON)"
        ) from error
    except OSError as error:
        raise EncoderError(f"{path}: {error.strerror}; not a model configuration") from error
    except ValueError as error:
        raise EncoderError(f"{path}: not JSON that can be read: {error}") from error
    if not isinstance(data, dict):
        raise EncoderError(f"{path}: expected a JSON object, found {type(data).__name__}")
    return data


def build_visual_tower(architecture: Architecture, *, in_memory: bool) -> nn.Module:
    """Build the visual tower of an architecture, without a text tower and with meaningless weights.

    Args:
        architecture: what to build; nothing it names is fetched.
        in_memory: whether to allocate memory for the weights; without it the tower is built faster,
            for weights that are all assigned later.

    Raises:
        EncoderError: when the configuration cannot be built.
    """
    if not in_memory:
        plain = plain_vision_transformer(architecture.config)
        if plain is not None:
            return plain
    from open_clip.model import CLIPVisionCfg, _build_vision_tower

    vision_config = dict(architecture.config["vision_cfg"])
    allowed = {entry.name for entry in fields(CLIPVisionCfg)}
    for key in vision_config:
        if key not in allowed:
            raise UnknownNameError(f"key of 'vision_cfg' in {architecture.origin}", key, allowed)
    timm_name = vision_config.get("timm_model_name")
    if timm_name and not str(timm_name).replace("_", "").replace(".", "").isalnum():
        raise EncoderError(
            f"{architecture.origin}: timm_model_name {timm_name!r} is not a plain name; "
            "models are never fetched by address"
        )
    # timm keeps buffers outside the state dict, which would be lost on the meta device.
    device = "cpu" if in_memory or timm_name else "meta"
    vision_config["timm_model_pretrained"] = False
    quick_gelu = bool(architecture.config.get("quick_gelu", False))
    try:
        with torch.random.fork_rng(devices=[]), torch.device(device):
            visual: nn.Module = _build_vision_tower(
                architecture.config["embed_dim"], CLIPVisionCfg(**vision_config), quick_gelu
            )
    except Exception as error:  # the constructors check little, so a bad value raises anything
        raise EncoderError(
            f"{architecture.origin}: open_clip cannot build this model: {error or type(error)}"
        ) from error
    return visual.eval()
