"""A fitted model as it is exported: in float32 on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fewshot_i2v.data.video.clip_cache import ClipArray
from fewshot_i2v.evaluation.clip_scorer import ClipScorer
from fewshot_i2v.models.checkpoints.model_file import (
    ModelDescription,
    ModelFile,
    load_model_encoder,
    read_model,
)


def load_exact(
    path: Path, pretrained: str | Path | None, architecture: str | Path | None
) -> tuple[ClipScorer, ModelDescription]:
    """Loads a fitted model in float32 on the CPU, whatever it was fitted in.

    The files of its encoder are where they were, unless `pretrained` and `architecture` say where
    they are now.

    Raises:
        CheckpointError: when the model is damaged or its encoder cannot be loaded.
    """
    content = read_model(path)
    description = content.description.model_copy(update={"precision": "fp32"})
    content = ModelFile(description, content.tensors)
    encoder = load_model_encoder(path, content, pretrained, architecture, "cpu")
    return ClipScorer.of_model(content, encoder, path), description


def random_clips(classifier: ClipScorer, count: int) -> list[ClipArray]:
    """Draws clips of random pixels, always the same, (T, size, size, 3) each."""
    size = classifier.encoder.tower.image_size
    shape = count, classifier.adapter.frames, size, size, 3
    return list(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
