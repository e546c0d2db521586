"""What `adapter.json` says of a saved adapter."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from fewshot_i2v.config.file_names import file_name, with_file
from fewshot_i2v.models.encoders.loading import Encoder
from fewshot_i2v.models.encoders.opaque_tower import PlainTower


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class EncoderFacts(_Facts):
    """The encoder that an adapter belongs to.

    Attributes:
        name: of the architecture.
        pretrained: what was loaded: a tag, a file's name, "shipped", or "random (seed 0)".
        digest: as in `Encoder`; it does not depend on the input size asked for.
        image_size: pixels on a side.
        width: channels D.
        layers: transformer blocks; 0 where they cannot be walked.
        heads: attention heads of a block; None without blocks.
        patch: pixels on a side of a patch; None without blocks.
        mean: of the pixels, per channel; None where it was not written down.
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

    def differences(self, wanted: EncoderFacts) -> str:
        """What this one has otherwise than another with, in words."""
        words = {
            "name": "architecture",
            "pretrained": "weights",
            "image_size": "image size",
            "mean": "mean of the pixels",
            "std": "std of the pixels",
        }
        found = []
        for key, said in words.items():
            mine, theirs = getattr(self, key), getattr(wanted, key)
            if None not in (mine, theirs) and mine != theirs:
                found.append(f"{said} {_plain(mine)} where it was {_plain(theirs)}")
        return ", ".join(found) or "the values of the weights"


class MethodFacts(_Facts):
    """An adapter.

    Attributes:
        name: as `fewshot-i2v list adapters` shows it.
        options: as they were resolved.
        preset: that they came from, or None.
    """

    name: str
    options: dict[str, Any]
    preset: str | None


class HeadFacts(_Facts):
    """A head.

    Attributes:
        name: as `fewshot-i2v list heads` shows it.
        options: as they were resolved.
        way: number of classes.
        text_scale: temperature of the text tower; None for heads that do not read names.
        text_digest: sha256 of the text tower, where it is known.
    """

    name: str
    options: dict[str, Any]
    way: int
    text_scale: float | None
    text_digest: str | None


class FileFacts(_Facts):
    """A file beside `adapter.json`: its length in bytes and its sha256."""

    bytes: int
    sha256: str


class AdapterInfo(_Facts):
    """Content of `adapter.json`.

    Attributes:
        schema_version: `SCHEMA`.
        fewshot_i2v: version that wrote it.
        adapter: the method.
        head_offsets: frame offset of each attention head, for methods that shift heads.
        frames: frames T of a clip.
        encoder: what the adapter belongs to; with `merged_from` the merged weights beside it.
        merged_from: the frozen encoder whose weights the adapter was merged into, when the tensors
            are what remains of it; None: it was not merged.
        head: the head, where it was saved.
        classes: names in the order of the scores; may be empty.
        usage: how to load the folder, and what to mind.
        about: where it comes from, in plain values.
        files: the files of the merged weights, by name.
        tensors: the other file.
    """

    schema_version: int
    fewshot_i2v: str
    adapter: MethodFacts
    head_offsets: list[int] | None
    frames: int
    encoder: EncoderFacts
    merged_from: EncoderFacts | None
    head: HeadFacts | None
    classes: list[str]
    usage: str
    about: dict[str, Any]
    files: dict[str, FileFacts] = {}
    tensors: FileFacts


def facts_of(encoder: Encoder) -> EncoderFacts:
    """What is written down of an encoder: no folder of this machine."""
    tower = encoder.tower
    walked = not isinstance(tower, PlainTower)
    return EncoderFacts(
        name=encoder.name,
        pretrained=with_file(encoder.pretrained, file_name),
        digest=encoder.digest,
        image_size=tower.image_size,
        width=tower.width,
        layers=tower.layers,
        heads=tower.heads if walked else None,
        patch=tower.patch if walked else None,
        mean=tower.mean.tolist(),
        std=tower.std.tolist(),
    )


def _plain(value: object) -> object:
    return [float(f"{v:.6g}") for v in value] if isinstance(value, list) else value
