"""A fitted model as one module from pixels to probabilities, and how its input is made."""

from __future__ import annotations

import json
from typing import Any

from torch import Tensor, nn

from fewshot_i2v.evaluation.clip_scorer import ClipScorer
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.checkpoints.model_file import ModelDescription
from fewshot_i2v.models.encoders.opaque_tower import OpaqueTower

_INDICES = {
    "segment-center": "floor((i + 1/2) n / T)",
    "uniform": "i (n - 1) / (T - 1), rounded half up",
    "dense": "min(n - 1, max(0, floor((n - 1 - (T - 1) stride) / 2)) + i stride)",
}


class DeployedModel(nn.Module):
    """Encoder, adapter, head and temperature, with all that is known before the first clip.

    The adapter is merged into the weights of the encoder where its method can be, and the head
    holds what it computes of the labelled clips.

    Args:
        classifier: of a fitted model, in float32 on the CPU.

    Attributes:
        merged: whether the adapter was merged.
    """

    def __init__(self, classifier: ClipScorer) -> None:
        super().__init__()
        tower, adapter = classifier.encoder.tower, classifier.adapter
        self.head = classifier.head
        # where the head reads the frozen encoder as well, its weights must stay
        self.merged = adapter.mergeable and not self.head.reads_frozen
        if self.merged:
            tower, adapter = adapter.merge(tower)
        self.encoder = AdaptedEncoder(tower, adapter, reads_frozen=self.head.reads_frozen)
        # a tower is no module: the parameters of a visual model in it would be taken for constants
        self.visual = tower.visual if isinstance(tower, OpaqueTower) else None
        self._score = classifier.make_scorer()
        self._nearest_score = classifier.make_nearest_scorer()
        model = classifier.model
        self._temperature = 1.0 if model is None else model.description.temperature

    @property
    def outputs(self) -> list[str]:
        """Names of what it computes."""
        return ["probabilities", "logits", *(["nearest"] if self._nearest_score else [])]

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Computes `outputs`, each (B, classes), of frames (B, T, 3, H, W)."""
        grid_sizes = self.head.grid_sizes
        prefix = self.encoder.compute_prefix(frames, grid_sizes=grid_sizes)
        features = self.encoder(prefix[None], grid_sizes=grid_sizes)
        selected = self.head.select_tokens(features)
        logits = self._score(selected)[0]
        probabilities = (logits / self._temperature).softmax(-1)
        if self._nearest_score is None:
            return probabilities, logits
        return probabilities, logits, self._nearest_score(selected)[0]


def describe_onnx(description: ModelDescription) -> dict[str, str]:
    """Says what a program must know to use the model, as metadata of an ONNX file.

    Returns:
        Texts by name; lists and numbers as JSON.
    """
    checkpoint, video, rejection = description.checkpoint, description.video, description.rejection
    encoder = checkpoint.encoder
    values: dict[str, Any] = {
        "classes": checkpoint.classes,
        "frames": video.frames,
        "policy": video.policy,
        "stride": video.stride,
        "image_size": encoder.image_size,
        "resize": _short_side(description),
        "mean": encoder.mean,
        "std": encoder.std,
        "temperature": description.temperature,
        "none_of_these": rejection
        and {"largest": rejection.score, "is_below": rejection.threshold},
        "accuracy": description.accuracy and description.accuracy.model_dump(),
        "adapter": {"name": checkpoint.adapter.name, "options": checkpoint.adapter.options},
        "head": checkpoint.head and {"name": checkpoint.head.name, **checkpoint.head.options},
        "encoder": {key: getattr(encoder, key) for key in ("name", "pretrained", "digest")},
        "model_sha256": checkpoint.tensors.sha256,
    }
    texts = {
        "fewshot_i2v": checkpoint.fewshot_i2v,
        "preprocessing": describe_frames(description),
        "outputs": "probabilities: softmax(logits / temperature), calibrated; logits: of the head; "
        "nearest, where none_of_these goes by it: similarity to a class's nearest labelled clip",
    }
    return {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()} | texts


def describe_frames(description: ModelDescription) -> str:
    """Says in words how a clip becomes the input of the model."""
    video, size = description.video, description.checkpoint.encoder.image_size
    stride = f", stride {video.stride}" if video.policy == "dense" else ""
    return (
        f"of the n frames of a clip, T = {video.frames}: frame i of 0 to T - 1 is "
        f"{_INDICES[video.policy]}{stride}, and with n < T frame min(i, n - 1); each in RGB, "
        f"shorter side resized to {_short_side(description)} pixels (antialiased bicubic, as "
        f"Pillow), central {size} x {size} cut out; then (byte / 255 - mean) / std per channel"
    )


def _short_side(description: ModelDescription) -> int:
    size = description.checkpoint.encoder.image_size
    return max(size, round(size / description.video.crop))
