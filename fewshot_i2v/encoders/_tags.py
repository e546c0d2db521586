"""Weights by a tag of open_clip: whole models, and the settings of a tag for a local file.

A file of tensors does not say whether they were trained with GELU or QuickGELU, nor for which
pixels. A tag does; a file is therefore read with the settings of the tag that it is given with, or
whose digest it has, and is refused where the tags of its architecture differ in the activation.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fewshot_i2v.encoders import _weights
from fewshot_i2v.encoders._architecture import Architecture
from fewshot_i2v.errors import EncoderError, UnknownNameError


def whole_model(model: Architecture, tag: str) -> tuple[nn.Module, Mapping[str, Any]]:
    """Both towers with the weights of a tag, downloaded once by open_clip where they are absent.

    Args:
        model: one of open_clip's own architectures.
        tag: of its weights.

    Returns:
        The model, on the CPU in float32, and open_clip's settings of the tag: `mean`, `std`,
        maybe `quick_gelu`.

    Raises:
        UnknownNameError: for a tag that open_clip does not know for this architecture.
        EncoderError: when the weights cannot be had.
    """
    import open_clip

    settings = settings_of(model, tag)
    try:
        # open_clip only warns when the tag was trained with the other activation
        with torch.random.fork_rng(devices=[]):
            whole: nn.Module = open_clip.create_model(
                model.name,
                pretrained=tag,
                require_pretrained=True,
                weights_only=True,
                force_quick_gelu=bool(settings.get("quick_gelu", False)),
            )
    except Exception as error:  # downloads and text towers of other packages raise anything
        where = settings.get("hf_hub") or settings.get("url") or settings.get("file")
        raise EncoderError(
            f"the weights {tag!r} of {model.name} ({where}) cannot be had: {error}. Without a "
            f"network, give a checkpoint on this machine instead: "
            f"pretrained={tag}@/path/to/weights{_weights.SUFFIXES[0]} takes all settings of the "
            f"tag (mean={settings['mean']}, std={settings['std']})"
        ) from error
    return whole.eval(), settings


def settings_of(model: Architecture, tag: str) -> Mapping[str, Any]:
    """open_clip's settings of a tag: `mean`, `std`, how pictures are resized, maybe `quick_gelu`.

    Raises:
        EncoderError: where the architecture is not one of open_clip's own, which alone have tags.
        UnknownNameError: for a tag that open_clip does not know for this architecture.
    """
    import open_clip

    if model.origin != "open_clip":
        raise EncoderError(
            f"encoder {model.name!r} has no tag {tag!r}: its configuration is {model.origin}, and "
            "tags belong to open_clip's own architectures. Give the file alone as `pretrained`"
        )
    settings: dict[str, Any] = open_clip.get_pretrained_cfg(model.name, tag)
    if not settings:
        tags = open_clip.list_pretrained_tags_by_model(model.name)
        hint = "The path of a local checkpoint works too (TAG@PATH), and so does 'random'."
        raise UnknownNameError(f"pretrained tag for {model.name}", tag, tags, hint)
    return settings


def for_file(model: Architecture, tag: str | None, file: Path) -> tuple[Architecture, str | None]:
    """The architecture as the weights of a file need it, and the tag that says so.

    Args:
        model: any architecture.
        tag: that the file was given with; None: the one whose digest it has, if any.
        file: the checkpoint.

    Returns:
        With a tag, the architecture with its activation and all of its settings; else as it is.

    Raises:
        UnknownNameError: for a tag that open_clip does not know for this architecture.
        EncoderError: where the digest of the file is known and is not that of this architecture
            and tag; where there is no tag and those of the architecture differ in the activation.
    """
    settings = None if tag is None else settings_of(model, tag)
    if model.origin != "open_clip":
        return model, None
    known = _known_as(file)
    own = [each for name, each in known if name == model.name]
    if known and (tag not in own if tag else not own):
        asked = f"{model.name} with {tag!r}" if tag else model.name
        pairs = " or ".join(f"encoder {name} with pretrained {each}@FILE" for name, each in known)
        raise EncoderError(f"{file}: not {asked}: by its sha256 it is that of {pairs}")
    if tag is None and own:
        tag, settings = own[0], settings_of(model, own[0])
    if own:
        _check_is_data(file, model.name, own[0])
    if settings is None:
        _check_activation(model, file)
        return model, None
    quick = bool(model.config.get("quick_gelu") or settings.get("quick_gelu"))
    return replace(model, config={**model.config, "quick_gelu": quick}, preprocess=settings), tag


def _check_activation(model: Architecture, file: Path) -> None:
    """Refuses a file whose activation cannot be told, since tags of its architecture differ."""
    import open_clip

    own = bool(model.config.get("quick_gelu"))
    words: dict[str, list[str]] = {"QuickGELU": [], "GELU": []}
    for tag in open_clip.list_pretrained_tags_by_model(model.name):
        quick = own or bool(open_clip.get_pretrained_cfg(model.name, tag).get("quick_gelu"))
        words["QuickGELU" if quick else "GELU"].append(tag)
    if not words["GELU" if own else "QuickGELU"]:
        return
    choices = "; ".join(f"{kind}: {', '.join(tags)}" for kind, tags in words.items() if tags)
    example = (words["QuickGELU"] or words["GELU"])[0]
    raise EncoderError(
        f"{file}: a file does not say whether its weights were trained with GELU or QuickGELU, and "
        f"weights of {model.name} with the wrong one give other features without any error. Name "
        f"the tag whose settings it takes, as in pretrained={example}@{file} ({choices}). For "
        "weights of your own: the tag they were tuned from, or an `architecture` file that says "
        '"quick_gelu": true or false, with mean and std'
    )


def _check_is_data(file: Path, name: str, tag: str) -> None:
    """Refuses a program of TorchScript, as OpenAI publishes its weights, with what to do."""
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        if not any("/code/" in each for each in archive.namelist()):
            return
    data = file.with_suffix(_weights.SUFFIXES[0])
    raise EncoderError(
        f"{file}: the weights {tag!r} of {name} as a TorchScript program, and only data is read. "
        f"Give pretrained={tag}, which open_clip fetches as data, or save them as data once, with "
        f"safetensors.torch.save_file(open_clip.load_openai_model({str(file)!r}, 'fp32')"
        f".state_dict(), {str(data)!r}), and give pretrained={tag}@{data}"
    )


def _known_as(file: Path) -> list[tuple[str, str]]:
    """Architectures and tags of the weights that a file holds, by its digest; mostly none."""
    import open_clip

    # what open_clip knows digests of are files of torch; what is absent is refused on reading
    if file.suffix == _weights.SUFFIXES[0] or not file.is_file():
        return []
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    urls = {
        (name, tag): str(open_clip.get_pretrained_cfg(name, tag).get("url", ""))
        for name, tag in open_clip.list_pretrained()
    }
    return [pair for pair, url in urls.items() if found.startswith(digest_in(url) or "-")]


def digest_in(url: str) -> str | None:
    """The sha256, or the first 8 digits of it, that an address of open_clip's weights holds."""
    whole = re.search(r"/([0-9a-f]{64})/", url)
    start = re.search(r"-([0-9a-f]{8})\.pth?$", url)
    match = whole or start
    return match[1] if match else None
