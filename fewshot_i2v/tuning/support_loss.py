"""The loss that fine-tuning minimises: cross-entropy of the support clips of each episode."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.frozen_prefix import ClipTokens
from fewshot_i2v.models.heads.base.head import Head


def support_losses(
    encoder: AdaptedEncoder,
    head: Head,
    tokens: ClipTokens,
    labels: Tensor,
    label_smoothing: float,
) -> Tensor:
    """Computes the loss of the support clips of each episode, (E,).

    Args:
        encoder: frozen tower with an adapter of E copies.
        head: of E copies.
        tokens: the frozen prefix of the support clips of a step, (E, clips, ...).
        labels: of them, (E, clips) int64.
        label_smoothing: as for `episode_losses`.
    """
    features = encoder(tokens, grid_sizes=head.grid_sizes)
    return episode_losses(head.compute_support_logits(features, labels), labels, label_smoothing)


def episode_losses(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Computes the mean cross-entropy of each episode.

    Args:
        logits: (E, clips, way).
        labels: (E, clips) int64.
        label_smoothing: share of the target that is spread over all classes.

    Returns:
        (E,).
    """
    clip_losses = functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), reduction="none", label_smoothing=label_smoothing
    )
    return clip_losses.view(labels.shape).mean(1)
