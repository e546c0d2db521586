"""A trained adapter and its head as a folder of two files, for one episode.

| file | content |
|---|---|
| `adapter.safetensors` | the trained tensors, each with a leading axis of 1 |
| `adapter.json` | method, options, encoder, frames, head, classes: `AdapterInfo` |

Tensors and description name each other's digest, and the description that of every other file, so
that what was changed, damaged or taken from another folder is an error. A folder appears whole or
not at all, and is never written over. Where the adapter was merged, `open_clip_model.safetensors`
and `open_clip_config.json` lie beside them, and the tensors are what remains of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from fewshot_i2v import registry
from fewshot_i2v.config.error_messages import config_error
from fewshot_i2v.errors import CheckpointError
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.checkpoints.files import (
    INFO,
    MODEL_FILES,
    SCHEMA,
    TENSORS,
    check_encoder,
    check_is_encoder,
    check_merged,
    class_of,
    copy_of,
    facts_of_file,
    fill,
    fresh_folder,
    read_info,
    read_values,
    write_files,
)
from fewshot_i2v.models.checkpoints.merging import Merge
from fewshot_i2v.models.checkpoints.metadata import AdapterInfo, HeadFacts, facts_of
from fewshot_i2v.models.encoders import to_open_clip
from fewshot_i2v.models.encoders.loading import Encoder, load_encoder
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.models.heads.base.head import ClassTexts, Head
from fewshot_i2v.version import __version__

__all__ = ["AdapterInfo", "Trained", "load_adapter", "load_merged", "save_adapter"]

_EMBEDDINGS, _PROJECTION = "text.embeddings", "text.projection"
_USAGE = "fewshot_i2v.load_adapter(FOLDER, encoder), with the encoder named here"


@dataclass(frozen=True, eq=False)
class Trained:
    """A saved adapter, loaded.

    Attributes:
        adapter: with E = 1.
        head: with E = 1, or None.
        info: what the folder says of them.
    """

    adapter: Adapter
    head: Head | None
    info: AdapterInfo


def save_adapter(
    folder: str | Path,
    encoder: Encoder,
    adapter_name: str,
    adapter: Adapter,
    head_name: str | None = None,
    head: Head | None = None,
    **more: Any,
) -> AdapterInfo:
    """Saves one episode's copy of a trained adapter, and of its head if given.

    Args:
        folder: a new folder.
        encoder: what the adapter was built for.
        adapter_name: as `fewshot-i2v list adapters` shows it.
        adapter: of E copies.
        head_name: as `fewshot-i2v list heads` shows it.
        head: of E copies.
        more: `episode` (which copy, 0), `classes` (names in the order of the scores), `preset`
            (that the options came from), `text_digest` (of the text tower that the head read),
            `about` (where it comes from, in plain values).

    Returns:
        What was written to `adapter.json`.

    Raises:
        CheckpointError: when the folder holds something; names, classes and modules do not belong
            together; there is no such copy; or a value is not finite.
        ExportError: when the disk refuses.
    """
    with fresh_folder(Path(folder)) as new:
        return write_adapter(new, encoder, adapter_name, adapter, head_name, head, **more)


def write_adapter(
    folder: Path,
    encoder: Encoder,
    adapter_name: str,
    adapter: Adapter,
    head_name: str | None = None,
    head: Head | None = None,
    *,
    episode: int = 0,
    classes: Sequence[str] = (),
    preset: str | None = None,
    text_digest: str | None = None,
    about: Mapping[str, Any] | None = None,
    merge: Merge | None = None,
) -> AdapterInfo:
    """Writes the files of `save_adapter` into a folder that exists; with `merge` what remains."""
    check_is_encoder(encoder)
    _check_class("adapters", adapter_name, adapter)
    tensors = copy_of("adapter", *((adapter, episode) if merge is None else (merge.rest, 0)))
    if head is not None and head_name is not None:
        _check_class("heads", head_name, head)
        tensors |= copy_of("head", head, episode) | _texts_of(head, episode)
    if (head is None) != (head_name is None) or (head and classes and len(classes) != head.way):
        raise CheckpointError(
            f"head {head_name!r} with {None if head is None else head.way} classes, and "
            f"{len(classes)} class names: give a head with its name, and a name for each class"
        )
    own = (encoder, None) if merge is None else (merge.encoder, encoder)
    info = {
        "schema_version": SCHEMA,
        "fewshot_i2v": __version__,
        "adapter": {
            "name": adapter_name,
            "options": adapter.options.model_dump(mode="json"),
            "preset": preset,
        },
        "head_offsets": _offsets(adapter),
        "frames": adapter.frames,
        "encoder": facts_of(own[0]).model_dump(),
        "merged_from": own[1] and facts_of(own[1]).model_dump(),
        "head": head and _facts_of_head(str(head_name), head, text_digest).model_dump(),
        "classes": list(classes),
        "usage": _USAGE if merge is None else merge.usage,
        "about": dict(about or {}),
        "files": {
            n: facts_of_file(folder / n).model_dump() for n in (MODEL_FILES if merge else ())
        },
    }
    return write_files(folder, info, tensors)


def load_adapter(
    folder: str | Path,
    encoder: Encoder,
    *,
    frames: int | None = None,
    adapter: str | None = None,
    head: str | None = None,
) -> Trained:
    """Loads a saved adapter, and its head if it was saved, for the encoder it was trained on.

    Parameters are in float32, also where a starting point is stored in half precision.

    Args:
        folder: as `save_adapter` made it.
        encoder: the same one: weights, pixel constants and input size.
        frames: frames T of the clips; None: as trained. Another number is refused where a parameter
            depends on it.
        adapter: the method that is expected; None: any.
        head: the head that is expected; None: any, or none.

    Returns:
        Adapter and head on the encoder's device.

    Raises:
        CheckpointError: when the files are damaged, or another encoder, method, head or number of
            frames is asked for than they are of.
        UsageError: when the method, its options or the head do not exist here (any more).
    """
    check_is_encoder(encoder)
    return _load(Path(folder), read_info(Path(folder)), encoder, frames, adapter, head)


def load_merged(
    folder: str | Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Encoder, Trained]:
    """Loads weights that an adapter was merged into, with what remains of the adapter.

    Args:
        folder: as `fewshot-i2v export` made it.
        device: of the tower.
        dtype: of the tower.

    Returns:
        The encoder with the merged weights; adapter and head. `AdaptedEncoder(encoder.tower,
        trained.adapter)` computes what the frozen encoder and the adapter did before.

    Raises:
        CheckpointError: when the files are damaged or do not belong together, or the adapter was
            not merged.
        EncoderError: when the weights cannot be loaded.
    """
    folder = Path(folder)
    info = read_info(folder)
    check_merged(folder, info)
    encoder = load_encoder(
        info.encoder.name,
        architecture=folder / to_open_clip.CONFIG,
        pretrained=folder / to_open_clip.WEIGHTS,
        device=device,
        dtype=dtype,
    )
    if encoder.digest != info.encoder.digest:
        raise CheckpointError(
            f"{folder}: its weights load as sha256 {encoder.digest[:12]} where {INFO} says "
            f"{info.encoder.digest[:12]}: {INFO} was changed, or another version of fewshot-i2v or "
            "open_clip wrote it"
        )
    return encoder, _load(folder, info, encoder, None, None, None)


def _load(
    folder: Path,
    info: AdapterInfo,
    encoder: Encoder,
    frames: int | None,
    adapter: str | None,
    head: str | None,
) -> Trained:
    tensors = read_values(folder, info)
    check_encoder(folder, info, encoder)
    given = (("adapter", adapter, info.adapter.name), ("head", head, info.head and info.head.name))
    for kind, wanted, found in given:
        if wanted is not None and wanted != found:
            raise CheckpointError(f"{folder}: holds the {kind} {found!r}; {wanted!r} is asked for")
    length = info.frames if frames is None else frames
    own = _adapter(folder, info, encoder.tower, length)
    modules: dict[str, nn.Module] = {"adapter": own}
    built = None
    if info.head is not None:
        built = _head(folder, info.head, tensors, width=encoder.tower.width, frames=length)
        modules["head"] = built
    fill(folder, info, modules, tensors, length)
    device = encoder.tower.device
    return Trained(own.to(device), built and built.to(device), info)


def _adapter(folder: Path, info: AdapterInfo, tower: Tower, frames: int) -> Adapter:
    facts = info.adapter
    cls = class_of("adapters", facts.name, folder)
    try:
        options = cls.parse(facts.options)
    except ValidationError as error:
        origin = f"{folder}: adapter {facts.name!r}"
        raise config_error(error, cls.Options, origin=origin) from error
    adapter: Adapter = cls(tower, options, frames=frames, seeds=[0])
    if _offsets(adapter) != info.head_offsets:
        raise CheckpointError(
            f"{folder}: saved with the head offsets {info.head_offsets}; this version of "
            f"{facts.name} has {_offsets(adapter)}"
        )
    return adapter if info.merged_from is None else adapter.merge(tower)[1]


def _head(
    folder: Path, facts: HeadFacts, tensors: dict[str, Tensor], *, width: int, frames: int
) -> Head:
    cls = class_of("heads", facts.name, folder)
    try:
        options = cls.Options.model_validate(facts.options)
    except ValidationError as error:
        origin = f"{folder}: head {facts.name!r}"
        raise config_error(error, cls.Options, origin=origin) from error
    more: dict[str, Any] = {}
    if cls.uses_names:
        embeddings, projection = tensors.pop(_EMBEDDINGS, None), tensors.pop(_PROJECTION, None)
        if embeddings is None or facts.text_scale is None:
            raise CheckpointError(f"{folder / TENSORS}: lacks the class names that the head reads")
        more["texts"] = ClassTexts(embeddings, projection, facts.text_scale)
    head: Head = cls(options, width=width, way=facts.way, frames=frames, seeds=[0], **more)
    return head


def _check_class(kind: registry.Kind, name: str, module: nn.Module) -> None:
    cls = registry.load(kind, name)
    if type(module) is not cls:
        raise CheckpointError(f"{kind[:-1]} {name!r} is {cls.__name__}; got a {type(module)}")


def _texts_of(head: Head, episode: int) -> dict[str, Tensor]:
    if head.texts is None:
        return {}
    out = {_EMBEDDINGS: head.texts.embeddings[episode, None]}
    if head.texts.projection is not None:
        out[_PROJECTION] = head.texts.projection
    return {name: t.detach().to("cpu", copy=True).contiguous() for name, t in out.items()}


def _facts_of_head(name: str, head: Head, text_digest: str | None) -> HeadFacts:
    return HeadFacts(
        name=name,
        options=head.options.model_dump(mode="json"),
        way=head.way,
        text_scale=None if head.texts is None else float(head.texts.scale),
        text_digest=text_digest,
    )


def _offsets(adapter: Adapter) -> list[int] | None:
    """Frame offsets of the attention heads, for methods that shift heads."""
    offsets: Sequence[int] | None = getattr(adapter, "offsets", None)
    return None if offsets is None else list(offsets)
