"""Saves and loads adapter checkpoints: a trained adapter and its head of one episode.

A checkpoint is a folder of two files:

| file | content |
|---|---|
| `adapter.safetensors` | the trained tensors, each with a leading axis of 1 |
| `adapter.json` | method, options, encoder, frames, head, classes: `CheckpointMetadata` |

Tensors and metadata name each other's digest, and the metadata that of every other file, so
that a file that was changed, damaged or taken from another folder is an error. A folder appears
complete or not at all, and is never overwritten. Where the adapter was merged,
`open_clip_model.safetensors` and `open_clip_config.json` lie in the same folder, and the
tensors are those that remain after merging. An export whose head compares with support clips also
has what the head reads of these clips among its tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fewshot_i2v import registry
from fewshot_i2v.errors import CheckpointError
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.checkpoints.files import (
    CONFIG_FILE,
    MERGED_MODEL_FILES,
    METADATA_FILE,
    SCHEMA_VERSION,
    TENSORS_FILE,
    WEIGHTS_FILE,
    atomic_folder,
    episode_tensors,
    file_metadata,
    load_tensors,
    read_metadata,
    read_tensors,
    verify_file,
    write_checkpoint,
)
from fewshot_i2v.models.checkpoints.merging import MergedAdapter
from fewshot_i2v.models.checkpoints.metadata import (
    CheckpointMetadata,
    encoder_metadata,
    head_offsets,
)
from fewshot_i2v.models.checkpoints.model_file import (
    SUPPORT_FEATURES,
    SUPPORT_LABELS,
    SUPPORT_PREFIX,
)
from fewshot_i2v.models.checkpoints.start_extras import RATES_PREFIX
from fewshot_i2v.models.encoders.loading import Encoder, load_encoder
from fewshot_i2v.models.factory import build_adapter, build_head
from fewshot_i2v.models.heads.base.head import ClassTexts, Head
from fewshot_i2v.version import __version__

_EMBEDDINGS_KEY, _PROJECTION_KEY = "text.embeddings", "text.projection"
_USAGE = "fewshot_i2v.load_adapter(FOLDER, encoder), with the encoder named here"


@dataclass(frozen=True, eq=False)
class LoadedAdapter:
    """An adapter loaded from a checkpoint.

    Attributes:
        adapter: with E = 1.
        head: with E = 1, or None.
        metadata: content of the checkpoint's `adapter.json`.
        support: packed features of the support clips and their classes, (S, ...) and (S,), that the
            head compares with; None where there are none, or they are of another number of frames.
    """

    adapter: Adapter
    head: Head | None
    metadata: CheckpointMetadata
    support: tuple[Tensor, Tensor] | None = None


def save_adapter(
    folder: str | Path,
    encoder: Encoder,
    adapter_name: str,
    adapter: Adapter,
    head_name: str | None = None,
    head: Head | None = None,
    **more: Any,
) -> CheckpointMetadata:
    """Saves one episode's copy of a trained adapter, and of its head if there is one.

    Args:
        folder: a new folder.
        encoder: the encoder that the adapter was built for.
        adapter_name: as `fewshot-i2v list adapters` shows it.
        adapter: of E copies.
        head_name: as `fewshot-i2v list heads` shows it.
        head: of E copies.
        more: `episode` (which copy, 0), `classes` (names in the order of the logits), `preset`
            (that the options came from), `text_digest` (of the text tower that the head read),
            `about` (origin of the adapter, in plain values).

    Returns:
        The content of `adapter.json`.

    Raises:
        CheckpointError: when the folder is not empty; names, classes and modules do not belong
            together; there is no such copy; or a value is not finite.
        ExportError: when the disk refuses.
    """
    with atomic_folder(Path(folder)) as temporary:
        return write_adapter(temporary, encoder, adapter_name, adapter, head_name, head, **more)


def write_adapter(
    folder: Path,
    encoder: Encoder,
    adapter_name: str,
    adapter: Adapter,
    head_name: str | None = None,
    head: Head | None = None,
    *,
    merge: MergedAdapter | None = None,
    rates: Mapping[str, Tensor] | None = None,
    support: Mapping[str, Tensor] | None = None,
    **more: Any,
) -> CheckpointMetadata:
    """Writes the files of `save_adapter` to an existing folder; with `merge`, the remainder.

    `rates` are those of an inner loop, see `StartRates`; `support` is what the head reads of the
    support clips, by the names of a fitted model; `more` is that of `save_adapter`.
    """
    metadata, tensors = checkpoint_content(
        encoder, adapter_name, adapter, head_name, head, merge=merge, **more
    )
    merged_files = MERGED_MODEL_FILES if merge else ()
    metadata["files"] = {n: file_metadata(folder / n).model_dump() for n in merged_files}
    return write_checkpoint(folder, metadata, tensors | dict(rates or {}) | dict(support or {}))


def checkpoint_content(
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
    merge: MergedAdapter | None = None,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Collects what `save_adapter` writes: metadata in plain values, and tensors on the CPU.

    Returns:
        All keys of `CheckpointMetadata` but `files` and `tensors`; and the tensors by name.

    Raises:
        CheckpointError: when names, classes and modules do not belong together, or there is no such
            copy.
    """
    _check_is_encoder(encoder)
    _check_class("adapters", adapter_name, adapter)
    tensors = episode_tensors(
        "adapter", *((adapter, episode) if merge is None else (merge.remainder, 0))
    )
    if head is not None and head_name is not None:
        _check_class("heads", head_name, head)
        tensors |= episode_tensors("head", head, episode) | _text_tensors(head, episode)
    if (head is None) != (head_name is None) or (head and classes and len(classes) != head.way):
        raise CheckpointError(
            f"head {head_name!r} with {None if head is None else head.way} classes, and "
            f"{len(classes)} class names: give a head with its name, and a name for each class"
        )
    encoders = (encoder, None) if merge is None else (merge.encoder, encoder)
    metadata = {
        "schema_version": SCHEMA_VERSION,
        "fewshot_i2v": __version__,
        "adapter": {
            "name": adapter_name,
            "options": adapter.options.model_dump(mode="json"),
            "preset": preset,
        },
        "head_offsets": head_offsets(adapter),
        "frames": adapter.frames,
        "encoder": encoder_metadata(encoders[0]).model_dump(),
        "merged_from": encoders[1] and encoder_metadata(encoders[1]).model_dump(),
        "head": None if head is None else _head_metadata(head, head_name, text_digest),
        "classes": list(classes),
        "usage": _USAGE if merge is None else merge.usage,
        "about": dict(about or {}),
    }
    return metadata, tensors


def _head_metadata(head: Head, name: str | None, text_digest: str | None) -> dict[str, Any]:
    return {
        "name": name,
        "options": head.options.model_dump(mode="json"),
        "way": head.way,
        "text_scale": None if head.texts is None else float(head.texts.scale),
        "text_digest": text_digest,
    }


def load_adapter(
    folder: str | Path,
    encoder: Encoder,
    *,
    frames: int | None = None,
    adapter: str | None = None,
    head: str | None = None,
) -> LoadedAdapter:
    """Loads a saved adapter, and its head if it was saved, for the encoder it was trained on.

    Parameters are in float32, also where a starting point is stored in half precision.

    Args:
        folder: as `save_adapter` made it.
        encoder: the one that the adapter was trained on: same weights, pixel constants and input
            size.
        frames: frames T of the clips; None: as trained. Another number is refused where a parameter
            depends on it.
        adapter: the expected method; None: any.
        head: the expected head; None: any, or none.

    Returns:
        Adapter and head on the encoder's device.

    Raises:
        CheckpointError: when the files are damaged, or the encoder, method, head or number of
            frames differs from the saved one.
        UsageError: when the method, its options or the head do not exist (any more).
    """
    _check_is_encoder(encoder)
    return _load_checkpoint(
        Path(folder), read_metadata(Path(folder)), encoder, frames, adapter, head
    )


def load_merged(
    folder: str | Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Encoder, LoadedAdapter]:
    """Loads weights that an adapter was merged into, with the adapter that remains.

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
    metadata = read_metadata(folder)
    _check_merged(folder, metadata)
    encoder = load_encoder(
        metadata.encoder.name,
        architecture=folder / CONFIG_FILE,
        pretrained=folder / WEIGHTS_FILE,
        device=device,
        dtype=dtype,
    )
    if encoder.digest != metadata.encoder.digest:
        raise CheckpointError(
            f"{folder}: its weights load as sha256 {encoder.digest[:12]} where {METADATA_FILE} "
            f"says {metadata.encoder.digest[:12]}: {METADATA_FILE} was changed, or another version "
            "of fewshot-i2v or open_clip wrote it"
        )
    return encoder, _load_checkpoint(folder, metadata, encoder, None, None, None)


def _load_checkpoint(
    folder: Path,
    metadata: CheckpointMetadata,
    encoder: Encoder,
    frames: int | None,
    adapter_name: str | None,
    head_name: str | None,
) -> LoadedAdapter:
    tensors = read_tensors(folder, metadata)
    check_encoder(folder, metadata, encoder)
    expectations = (
        ("adapter", adapter_name, metadata.adapter.name),
        ("head", head_name, metadata.head and metadata.head.name),
    )
    for kind, expected_name, saved_name in expectations:
        if expected_name is not None and expected_name != saved_name:
            raise CheckpointError(
                f"{folder}: holds the {kind} {saved_name!r}; expected {expected_name!r}"
            )
    return build_modules(folder, metadata, encoder, tensors, frames)


def build_modules(
    folder: Path,
    metadata: CheckpointMetadata,
    encoder: Encoder,
    tensors: dict[str, Tensor],
    frames: int | None = None,
) -> LoadedAdapter:
    """Builds the adapter and head of a checkpoint from its tensors.

    Args:
        folder: where they were read from.
        metadata: of the checkpoint.
        encoder: checked by `check_encoder`.
        tensors: by name; support clips among them, if they are stored.
        frames: frames T of the clips; None: as trained.

    Raises:
        CheckpointError: when they do not fit together.
        UsageError: when a method does not exist (any more).
    """
    n_frames, device = metadata.frames if frames is None else frames, encoder.tower.device
    adapter = build_adapter(
        metadata.adapter, encoder.tower, frames=n_frames, seeds=[0], checkpoint=folder
    )
    if head_offsets(adapter) != metadata.head_offsets:
        raise CheckpointError(
            f"{folder}: saved with the head offsets {metadata.head_offsets}; this version of "
            f"{metadata.adapter.name} has {head_offsets(adapter)}"
        )
    if metadata.merged_from is not None:
        adapter = adapter.merge(encoder.tower)[1]
    modules: dict[str, nn.Module] = {"adapter": adapter}
    head = None
    if metadata.head is not None:
        text_scale = metadata.head.text_scale
        head = build_head(
            metadata.head,
            encoder.tower,
            way=metadata.head.way,
            frames=n_frames,
            seeds=[0],
            class_texts=lambda _options: _pop_class_texts(folder, text_scale, tensors),
            checkpoint=folder,
        )
        modules["head"] = head
    support = None
    if {SUPPORT_FEATURES, SUPPORT_LABELS} <= tensors.keys() and n_frames == metadata.frames:
        support = tensors[SUPPORT_FEATURES], tensors[SUPPORT_LABELS]
    others = (RATES_PREFIX, SUPPORT_PREFIX)
    tensors = {name: t for name, t in tensors.items() if not name.startswith(others)}
    load_tensors(folder, metadata, modules, tensors, n_frames)
    return LoadedAdapter(adapter.to(device), head and head.to(device), metadata, support)


def _check_merged(folder: Path, metadata: CheckpointMetadata) -> None:
    """Checks that the adapter was merged and that the merged weights are unchanged."""
    if metadata.merged_from is None:
        raise CheckpointError(
            f"{folder}: {metadata.adapter.name} was saved beside its encoder, not merged into it; "
            "use load_adapter"
        )
    if metadata.files.keys() != set(MERGED_MODEL_FILES):
        raise CheckpointError(
            f"{folder / METADATA_FILE}: does not say which {' and '.join(MERGED_MODEL_FILES)} "
            "belong to it, as older versions did not; export the episode again"
        )
    for file_name in MERGED_MODEL_FILES:
        verify_file(folder / file_name, metadata.files[file_name])


def check_encoder(folder: Path, metadata: CheckpointMetadata, encoder: Encoder) -> None:
    """Refuses another encoder than the one the adapter was trained on."""
    actual, expected = encoder_metadata(encoder), metadata.encoder
    if (actual.digest, actual.image_size) == (expected.digest, expected.image_size):
        return
    if metadata.merged_from is not None and expected.digest != actual.digest:
        raise CheckpointError(
            f"{folder}: what remains of {metadata.adapter.name} after it was merged into "
            f"{metadata.merged_from.label}. It belongs to the merged weights in this folder, not "
            f"to {actual.label}: use load_merged"
        )
    raise CheckpointError(
        f"{folder}: {metadata.adapter.name} was trained on {expected.label}; you gave "
        f"{actual.label}. What differs: {actual.describe_differences(expected)}. Load the encoder "
        "that it was trained on"
    )


def _check_is_encoder(encoder: object) -> None:
    """Refuses an argument that is not an `Encoder`, such as the name of one."""
    if not isinstance(encoder, Encoder):
        raise CheckpointError(
            f"encoder: got {encoder!r} ({type(encoder).__name__}); expected what "
            "fewshot_i2v.load_encoder returns, such as load_encoder('demo')"
        )


def _pop_class_texts(folder: Path, scale: float | None, tensors: dict[str, Tensor]) -> ClassTexts:
    """Takes the text embeddings of the classes out of the tensors of a checkpoint."""
    embeddings = tensors.pop(_EMBEDDINGS_KEY, None)
    projection = tensors.pop(_PROJECTION_KEY, None)
    if embeddings is None or scale is None:
        raise CheckpointError(f"{folder / TENSORS_FILE}: lacks the class names that the head reads")
    return ClassTexts(embeddings, projection, scale)


def _check_class(kind: registry.MethodKind, name: str, module: nn.Module) -> None:
    cls = registry.load_method(kind, name)
    if type(module) is not cls:
        raise CheckpointError(f"{kind[:-1]} {name!r} is {cls.__name__}; got a {type(module)}")


def _text_tensors(head: Head, episode: int) -> dict[str, Tensor]:
    if head.texts is None:
        return {}
    tensors = {_EMBEDDINGS_KEY: head.texts.embeddings[episode, None]}
    if head.texts.projection is not None:
        tensors[_PROJECTION_KEY] = head.texts.projection
    return {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}
