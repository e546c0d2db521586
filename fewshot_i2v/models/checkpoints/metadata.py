"""Schema of `adapter.json`, the metadata of an adapter checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from fewshot_i2v.config.file_names import file_name, map_weights_file
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.encoders.loading import Encoder


class _MetadataModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class EncoderMetadata(_MetadataModel):
    """The encoder that an adapter belongs to.

    Attributes:
        name: of the architecture.
        pretrained: what was loaded: a tag, a file's name, "shipped", or "random (seed 0)".
        digest: as in `Encoder`; it does not depend on the requested input size.
        image_size: pixels on a side.
        width: channels D.
        layers: transformer blocks; 0 where they cannot be accessed.
        heads: attention heads of a block; None without blocks.
        patch: pixels on a side of a patch; None without blocks.
        mean: of the pixels, per channel; None where it was not recorded.
        std: likewise.
    """

    name: str
    pretrained: str
    digest: str
    image_size: int
    width: int
    layers: int
    heads: int | None
    patch: int | None
    mean: list[float] | None = None
    std: list[float] | None = None

    @property
    def label(self) -> str:
        """Name, weights, digest and input size, for messages."""
        return f"{self.name} ({self.pretrained}, sha256 {self.digest[:12]}, {self.image_size} px)"

    def describe_differences(self, expected: EncoderMetadata) -> str:
        """Describes in words how this encoder differs from the expected one."""
        descriptions = {
            "name": "architecture",
            "pretrained": "weights",
            "image_size": "image size",
            "mean": "mean of the pixels",
            "std": "std of the pixels",
        }
        differences = []
        for key, description in descriptions.items():
            actual_value, expected_value = getattr(self, key), getattr(expected, key)
            if None not in (actual_value, expected_value) and actual_value != expected_value:
                differences.append(
                    f"{description} {_rounded(actual_value)} where it was "
                    f"{_rounded(expected_value)}"
                )
        return ", ".join(differences) or "the values of the weights"


class MethodMetadata(_MetadataModel):
    """The adapter of a checkpoint.

    Attributes:
        name: as `fewshot-i2v list adapters` shows it.
        options: resolved values.
        preset: the preset that the options came from, or None.
    """

    name: str
    options: dict[str, Any]
    preset: str | None


class HeadMetadata(_MetadataModel):
    """The head of a checkpoint.

    Attributes:
        name: as `fewshot-i2v list heads` shows it.
        options: resolved values.
        way: number of classes.
        text_scale: temperature of the text tower; None for heads that do not read class names.
        text_digest: sha256 of the text tower, if available.
    """

    name: str
    options: dict[str, Any]
    way: int
    text_scale: float | None
    text_digest: str | None


class FileMetadata(_MetadataModel):
    """Length in bytes and sha256 of a file beside `adapter.json`."""

    bytes: int
    sha256: str


class CheckpointMetadata(_MetadataModel):
    """Content of `adapter.json`.

    Attributes:
        schema_version: `SCHEMA_VERSION`.
        fewshot_i2v: version that wrote it.
        adapter: the method.
        head_offsets: frame offset of each attention head, for methods that shift heads.
        frames: frames T of a clip.
        encoder: the encoder that the adapter belongs to; with `merged_from` the one with the merged
            weights in this folder.
        merged_from: the frozen encoder whose weights the adapter was merged into; the tensors are
            then those that remain after merging. None: it was not merged.
        head: the head, where it was saved.
        classes: names in the order of the logits; may be empty.
        usage: how to load the folder, and what to watch for.
        about: origin of the adapter, in plain values.
        files: the files of the merged weights, by name.
        tensors: the file `adapter.safetensors`.
    """

    schema_version: int
    fewshot_i2v: str
    adapter: MethodMetadata
    head_offsets: list[int] | None
    frames: int
    encoder: EncoderMetadata
    merged_from: EncoderMetadata | None
    head: HeadMetadata | None
    classes: list[str]
    usage: str
    about: dict[str, Any]
    files: dict[str, FileMetadata] = {}
    tensors: FileMetadata


def encoder_metadata(encoder: Encoder) -> EncoderMetadata:
    """Collects the metadata of an encoder; no folder of this machine is recorded."""
    tower = encoder.tower
    has_blocks = bool(tower.layers)
    return EncoderMetadata(
        name=encoder.name,
        pretrained=map_weights_file(encoder.pretrained, file_name),
        digest=encoder.digest,
        image_size=tower.image_size,
        width=tower.width,
        layers=tower.layers,
        heads=tower.heads if has_blocks else None,
        patch=tower.patch if has_blocks else None,
        mean=tower.mean.tolist(),
        std=tower.std.tolist(),
    )


def head_offsets(adapter: Adapter) -> list[int] | None:
    """Frame offsets of the attention heads, for methods that shift heads."""
    offsets: Sequence[int] | None = getattr(adapter, "offsets", None)
    return None if offsets is None else list(offsets)


def _rounded(value: object) -> object:
    return [float(f"{v:.6g}") for v in value] if isinstance(value, list) else value
