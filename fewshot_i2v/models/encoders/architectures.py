"""Model configurations: open_clip's own by name, the shipped one, or a user's JSON file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fewshot_i2v.errors import EncoderError, UnknownNameError
from fewshot_i2v.models.encoders import catalog
from fewshot_i2v.utils.input_files import parse_json, read_regular

_SIZE_LIMIT = 1 << 20


@dataclass(frozen=True)
class Architecture:
    """What a visual tower looks like, without weights.

    Attributes:
        name: for people.
        config: open_clip's model configuration: `embed_dim`, `vision_cfg`, maybe `quick_gelu`.
        preprocess: `mean` and `std` where the configuration brings them.
        origin: the file, or "open_clip".
    """

    name: str
    config: Mapping[str, Any]
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    origin: str = "open_clip"


def find(name: str, path: str | Path | None) -> Architecture:
    """The architecture that a name, or a file of the user's own with a name for it, stands for.

    Raises:
        UnknownNameError: for a name open_clip does not have.
        EncoderError: when the file cannot be read or lacks something.
    """
    if path is None:
        return shipped() if name == "demo" else named(name)
    # "demo" is what the name is when none was given
    return from_file(Path(path), "" if name == "demo" else name)


def named(name: str) -> Architecture:
    """One of open_clip's own architectures.

    Raises:
        UnknownNameError: for a name open_clip does not have.
        EncoderError: for names that would be fetched from somewhere.
    """
    if ":" in name:
        raise EncoderError(
            f"encoder {name!r}: models are never fetched by address; download the checkpoint "
            "yourself and give its path as `pretrained` and its configuration as `architecture`"
        )
    import open_clip

    clean = name.replace("/", "-")
    config = open_clip.get_model_config(clean)
    if config is None:
        known = {"demo", *open_clip.list_models()}
        hint = "For a model of your own give its configuration as `architecture`."
        raise UnknownNameError("encoder", name, known, hint)
    return Architecture(clean, config)


def shipped() -> Architecture:
    """The small model that comes with the package.

    Raises:
        EncoderError: when the installation lacks it.
    """
    path = catalog.DEMO_CONFIG
    if not path.is_file():
        raise EncoderError(f"the shipped encoder is missing: no {path}; install the package again")
    return from_file(path, "demo")


def from_file(path: Path, name: str = "") -> Architecture:
    """A configuration of the user's own, in open_clip's format; a text tower may be absent.

    Args:
        path: JSON with `embed_dim` and `vision_cfg`, and `preprocess_cfg` with `mean` and `std` or
            not; or an `open_clip_config.json`, which holds the former under `model_cfg`.
        name: what to call it; the file's stem when empty.

    Raises:
        EncoderError: when it cannot be read or lacks something.
    """
    whole = _read_object(path)
    config = whole.get("model_cfg", whole)
    if not isinstance(config, dict):
        raise EncoderError(f"{path}: 'model_cfg' is not an object")
    for key, kind in (("embed_dim", int), ("vision_cfg", dict)):
        if not isinstance(config.get(key), kind):
            raise EncoderError(
                f"{path}: expected {key!r} ({kind.__name__}) in a model configuration"
            )
    preprocess = whole.get("preprocess_cfg", {})
    if not isinstance(preprocess, dict):
        raise EncoderError(f"{path}: 'preprocess_cfg' is not an object")
    return Architecture(name or path.stem, config, preprocess, str(path))


def _read_object(path: Path) -> dict[str, Any]:
    try:
        whole = parse_json(read_regular(path, _SIZE_LIMIT))
    except FileNotFoundError as error:
        raise EncoderError(
            f"{path}: no such file; expected a model configuration (JSON)"
        ) from error
    except OSError as error:
        raise EncoderError(f"{path}: {error.strerror}; not a model configuration") from error
    except ValueError as error:
        raise EncoderError(f"{path}: not JSON that can be read: {error}") from error
    if not isinstance(whole, dict):
        raise EncoderError(f"{path}: expected a JSON object, found {type(whole).__name__}")
    return whole


def build_visual(architecture: Architecture, *, in_memory: bool) -> nn.Module:
    """The visual tower of an architecture, without a text tower and with meaningless weights.

    Args:
        architecture: what to build; nothing it names is fetched.
        in_memory: whether the weights need memory already; where they will all be assigned, they
            are left without, which is quicker.

    Raises:
        EncoderError: when the configuration cannot be built.
    """
    from open_clip.model import CLIPVisionCfg, _build_vision_tower

    wanted = dict(architecture.config["vision_cfg"])
    known = {entry.name for entry in fields(CLIPVisionCfg)}
    for key in wanted:
        if key not in known:
            raise UnknownNameError(f"key of 'vision_cfg' in {architecture.origin}", key, known)
    timm_name = wanted.get("timm_model_name")
    if timm_name and not str(timm_name).replace("_", "").replace(".", "").isalnum():
        raise EncoderError(
            f"{architecture.origin}: timm_model_name {timm_name!r} is not a plain name; "
            "models are never fetched by address"
        )
    # timm keeps buffers outside the state dict, which would be lost on the meta device.
    device = "cpu" if in_memory or timm_name else "meta"
    wanted["timm_model_pretrained"] = False
    quick_gelu = bool(architecture.config.get("quick_gelu", False))
    try:
        with torch.random.fork_rng(devices=[]), torch.device(device):
            visual: nn.Module = _build_vision_tower(
                architecture.config["embed_dim"], CLIPVisionCfg(**wanted), quick_gelu
            )
    except Exception as error:  # the constructors check little, so a bad value raises anything
        raise EncoderError(
            f"{architecture.origin}: open_clip cannot build this model: {error or type(error)}"
        ) from error
    return visual.eval()
