"""The file of a fitted model: one safetensors file, its description in the header.

It holds adapter, head, and what the head reads of the labelled clips; not the encoder, which it
names by digest. Nothing in it is trusted: the header is bounded and checked key by key, tensors are
data only, and their digest must be the one that the description states.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from fewshot_i2v.config.base import EncoderConfig, VideoConfig
from fewshot_i2v.errors import CheckpointError, UsageError
from fewshot_i2v.models.checkpoints.files import validate_schema
from fewshot_i2v.models.checkpoints.metadata import (
    CheckpointMetadata,
    EncoderMetadata,
    FileMetadata,
)
from fewshot_i2v.models.encoders.loading import Encoder
from fewshot_i2v.models.encoders.mixed_tower import load_in_precision
from fewshot_i2v.models.encoders.weights import tensor_digest
from fewshot_i2v.utils.files import write_atomic
from fewshot_i2v.utils.input_files import parse_json, read_regular, refuse_constant

SCHEMA_VERSION = 1
"""Version of the layout of the description."""
_KEY = "fewshot_i2v_model"
"""Entry of the header: the sha256 of the description, a space, and the description as JSON."""
SUPPORT_PREFIX = "support."
SUPPORT_FEATURES, SUPPORT_LABELS = f"{SUPPORT_PREFIX}features", f"{SUPPORT_PREFIX}labels"
"""Tensors of a fitted model: what the head reads of the labelled clips, and their classes."""
_MAX_BYTES = 4 << 30
_MAX_HEADER_BYTES = 64 << 20


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ShareFacts(_Facts):
    """A share of clips with its interval, see `statistics.shares.Share`."""

    count: int
    clips: int
    effective: float
    low: float
    high: float
    level: float
    optimism: float = 0.0


class RejectionFacts(_Facts):
    """When a clip is of none of the classes, see `statistics.rejection.Rejection`."""

    score: str
    threshold: float
    rejected_known: ShareFacts
    rejected_unknown: ShareFacts
    rejected_by_class: dict[str, float] = Field(default_factory=dict)
    auroc: float


class ModelDescription(_Facts):
    """Description of a fitted model.

    Attributes:
        schema_version: `SCHEMA_VERSION`.
        checkpoint: adapter, head, classes and encoder, as in `adapter.json`; `tensors` has the size
            and digest of the tensors in this file.
        encoder_source: how the encoder was loaded; files by the paths that they had.
        precision: of the encoder: fp32, bf16, or mixed where both take part.
        video: how clips become frames.
        tuning: how the adapter was tuned, in plain values.
        start: name of the starting point, or fresh.
        clips: names of the labelled clips by class.
        digests: content digests of these clips, by name.
        accuracy: share of held-out clips that were right; None where none could be held out.
        folds: number of folds of the cross-validation; 0: there was none.
        temperature: by which logits are divided.
        rejection: None: every clip is of one of the classes.
        card: what else the model card says, in plain values.
    """

    schema_version: int
    checkpoint: CheckpointMetadata
    encoder_source: EncoderConfig
    precision: str
    video: VideoConfig
    tuning: dict[str, Any]
    start: str
    clips: dict[str, list[str]]
    digests: dict[str, str]
    accuracy: ShareFacts | None
    folds: int = Field(ge=0)
    temperature: float = Field(gt=0)
    rejection: RejectionFacts | None
    card: dict[str, Any]


@dataclass(frozen=True, eq=False)
class ModelFile:
    """Content of the file of a fitted model.

    Attributes:
        description: what it is.
        tensors: by name, on the CPU.
    """

    description: ModelDescription
    tensors: dict[str, Tensor]


def tensor_facts(tensors: Mapping[str, Tensor]) -> FileMetadata:
    """Size in bytes and digest of tensors."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    return FileMetadata(bytes=size, sha256=tensor_digest(dict(tensors)))


def write_model(path: Path, model: ModelFile) -> None:
    """Writes the file of a fitted model; one that is there is replaced.

    Equal models give equal bytes.

    Raises:
        CheckpointError: when a value is not finite, or the file cannot be written.
        DiskError: when the disk refuses.
    """
    for name, tensor in model.tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path}: NaN or infinite values in {name}")
    text = json.dumps(model.description.model_dump(mode="json"), sort_keys=True, allow_nan=False)
    # one entry: safetensors writes several in any order
    entry = f"{sha256(text.encode()).hexdigest()} {text}"
    write_atomic(path, save(model.tensors, {_KEY: entry}), CheckpointError)


def read_model(path: Path) -> ModelFile:
    """Reads the file of a fitted model.

    Raises:
        CheckpointError: when it is absent, damaged, changed, or of another version.
    """
    try:
        data = read_regular(path, _MAX_BYTES)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path}: no such file; `fewshot-i2v fit CLIPS --out {path}` makes one"
        ) from error
    except IsADirectoryError as error:
        raise CheckpointError(
            f"{path}: a folder; expected the file that `fewshot-i2v fit` wrote"
        ) from error
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from error
    description = _parse_description(path, _header_text(path, data))
    try:
        tensors = load(data)
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged: {error}") from error
    if tensor_facts(tensors) != description.checkpoint.tensors:
        raise CheckpointError(
            f"{path}: damaged: its tensors are not those that it was written with; fit the model "
            "again, or copy the file again"
        )
    return ModelFile(description, tensors)


def _header_text(path: Path, data: bytes) -> str:
    """Returns the description in the header of a safetensors file."""
    length = int.from_bytes(data[:8], "little")
    if not 2 <= length <= min(_MAX_HEADER_BYTES, len(data) - 8):
        raise CheckpointError(
            f"{path}: is no model that `fewshot-i2v fit` wrote, or was cut short; expected its "
            ".safetensors file"
        )
    try:
        header = parse_json(data[8 : 8 + length])
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged: {error}") from error
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    entry = metadata.get(_KEY) if isinstance(metadata, dict) else None
    if not isinstance(entry, str):
        raise CheckpointError(
            f"{path}: a safetensors file, but not of a fitted model; expected one that "
            "`fewshot-i2v fit` wrote"
        )
    digest, _, text = entry.partition(" ")
    if sha256(text.encode()).hexdigest() != digest:
        raise CheckpointError(
            f"{path}: damaged: its description was changed since it was written; fit the model "
            "again, or copy the file again"
        )
    return text


def _parse_description(path: Path, text: str) -> ModelDescription:
    try:
        plain = parse_json(text.encode(), parse_constant=refuse_constant)
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged: {error}") from error
    advice = ", or fit the model again"
    return validate_schema(path, plain, ModelDescription, SCHEMA_VERSION, advice)


def load_model_encoder(
    path: Path,
    model: ModelFile,
    pretrained: str | Path | None,
    architecture: str | Path | None,
    device: torch.device | str,
) -> Encoder:
    """Loads the encoder that a fitted model names.

    Args:
        path: of the file of the model, for messages.
        model: its content.
        pretrained: where the weights are now; None: where they were.
        architecture: where the configuration is now; None: where it was.
        device: of the encoder.

    Raises:
        CheckpointError: when it cannot be loaded, saying which one is needed.
    """
    description = model.description
    return load_recorded_encoder(
        path,
        description.encoder_source,
        description.checkpoint.encoder,
        description.precision,
        pretrained=pretrained,
        architecture=architecture,
        device=device,
    )


def load_recorded_encoder(
    path: Path,
    source: EncoderConfig,
    needed: EncoderMetadata,
    precision: str,
    *,
    pretrained: str | Path | None,
    architecture: str | Path | None,
    device: torch.device | str,
) -> Encoder:
    """Loads the encoder that a model or an export names.

    Args:
        path: of its file or folder, for messages.
        source: how the encoder was loaded.
        needed: which one it was.
        precision: fp32, bf16 or mixed.
        pretrained: where the weights are now; None: where they were.
        architecture: where the configuration is now; None: where it was.
        device: of the encoder.

    Raises:
        CheckpointError: when it cannot be loaded, saying which one is needed.
    """
    try:
        files = {
            "pretrained": source.pretrained if pretrained is None else pretrained,
            "architecture": source.architecture if architecture is None else architecture,
        }
        keys = {name: getattr(source, name) for name in ("name", "image_size", "mean", "std")}
        return load_in_precision(precision, keys | files, device)
    except UsageError as error:
        named = [str(value) for value in (pretrained, architecture) if value is not None]
        if named:
            raise CheckpointError(
                f"{path}: needs its encoder, {needed.label}; {' with '.join(named)} cannot be "
                f"loaded as that: {error}. Give the files of this encoder (--pretrained, "
                "--architecture), or leave these options out where they are where they were"
            ) from error
        raise CheckpointError(
            f"{path}: needs its encoder, {needed.label}, which cannot be loaded: {error}. Say "
            "where it is now: pretrained (--pretrained), and architecture (--architecture) if it "
            "has one"
        ) from error
