"""The encoder of a fitted model with its adapter merged in, as a folder for open_clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fewshot_i2v.errors import AdapterError
from fewshot_i2v.evaluation.clip_scorer import ClipScorer
from fewshot_i2v.evaluation.deployment.exact_model import load_exact, random_clips
from fewshot_i2v.models.checkpoints.adapter_checkpoint import write_adapter
from fewshot_i2v.models.checkpoints.files import atomic_folder, require_empty
from fewshot_i2v.models.checkpoints.merging import merge_into
from fewshot_i2v.models.checkpoints.metadata import CheckpointMetadata
from fewshot_i2v.models.checkpoints.model_file import ModelDescription


@dataclass(frozen=True)
class OpenClipExport:
    """Result of an export for open_clip.

    Attributes:
        folder: the new folder.
        files: names of the files in it.
        usage: how to load it, and what to mind.
    """

    folder: Path
    files: tuple[str, ...]
    usage: str

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {**vars(self), "folder": str(self.folder), "files": list(self.files)}


def export_open_clip(
    model: str | Path,
    out: str | Path,
    *,
    pretrained: str | Path | None = None,
    architecture: str | Path | None = None,
) -> OpenClipExport:
    """Writes the encoder of a fitted model with the adapter merged in, as `export_episode` does.

    The folder holds the merged weights, what remains of the adapter, and the head. The labelled
    clips, the temperature and the threshold are not in it.

    Args:
        model: file of the model.
        out: a new folder.
        pretrained: where the weights of its encoder are now; None: where they were.
        architecture: where the configuration of its encoder is now; None: where it was.

    Raises:
        CheckpointError: when the model is damaged, its encoder cannot be loaded, or `out` is in
            use.
        AdapterError: when the adapter cannot be merged.
        ExportError: when the merged weights give other features, or the disk refuses.
    """
    path, out = Path(model), Path(out)
    require_empty(out)
    classifier, description = load_exact(path, pretrained, architecture)
    source = _encoder_source(description, {"pretrained": pretrained, "architecture": architecture})
    with atomic_folder(out) as draft:
        info = _write_merged(draft, classifier, description, source)
        files = tuple(sorted(file.name for file in draft.iterdir()))
    return OpenClipExport(out, files, info.usage)


def _write_merged(
    draft: Path, classifier: ClipScorer, description: ModelDescription, source: Mapping[str, Any]
) -> CheckpointMetadata:
    """Merges the adapter into the encoder, and writes both and the head."""
    checkpoint, adapter, encoder = description.checkpoint, classifier.adapter, classifier.encoder
    name, head = checkpoint.adapter.name, checkpoint.head
    if not adapter.mergeable:
        raise AdapterError(
            f"--open-clip: {name} cannot be merged into the frozen weights; --onnx exports every "
            "adapter"
        )
    if classifier.head.reads_frozen:
        raise AdapterError(
            f"--open-clip: the head reads {classifier.head.options.tokens}, so the weights of the "
            "frozen encoder must stay as they are; --onnx exports every head"
        )
    pixels = encoder.tower.normalize(torch.from_numpy(np.stack(random_clips(classifier, 1))))
    merged = merge_into(draft, encoder, name, adapter, 0, pixels, source)
    return write_adapter(
        draft,
        encoder,
        name,
        adapter,
        head.name if head else None,
        classifier.head,
        classes=checkpoint.classes,
        preset=checkpoint.adapter.preset,
        text_digest=head.text_digest if head else None,
        about=_facts_of(description),
        merge=merged,
    )


def _facts_of(description: ModelDescription) -> dict[str, Any]:
    """What the folder says of the model that it is from."""
    checkpoint = description.checkpoint
    video = description.video.model_dump(mode="json")
    digest = checkpoint.tensors.sha256
    return {**checkpoint.about, "model_sha256": digest, "config": {"video": video}}


def _encoder_source(
    description: ModelDescription, places: Mapping[str, str | Path | None]
) -> dict[str, Any]:
    """Says how the encoder was loaded: as the model says, or from where its files are now."""
    keys = ("name", "pretrained", "architecture")
    source = {key: getattr(description.encoder_source, key) for key in keys}
    return source | {key: str(value) for key, value in places.items() if value is not None}
