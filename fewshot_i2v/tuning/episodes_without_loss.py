"""Episodes whose support loss is nearly zero before the first step: they are left untuned.

The steps of AdamW are as large for the gradients of a small loss as for those of a large one. They
would move an episode that has nothing to learn as far as one that has, at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewshot_i2v.config.base import FinetuneConfig
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.frozen_prefix import ClipTokens
from fewshot_i2v.models.heads.base.head import Head
from fewshot_i2v.tuning.support_loss import support_losses


@dataclass(frozen=True)
class EpisodesWithoutLoss:
    """Which episodes of a group are left untuned.

    Attributes:
        losses: of all episodes before the first step, (E,) float32, on the host.
        mask_on_host: whether an episode is left untuned, (E,) bool.
        mask: the same on the device.
    """

    losses: Tensor
    mask_on_host: Tensor
    mask: Tensor

    @classmethod
    @torch.no_grad()
    def find(
        cls,
        encoder: AdaptedEncoder,
        head: Head,
        tokens: ClipTokens,
        labels: Tensor,
        recipe: FinetuneConfig,
    ) -> EpisodesWithoutLoss | None:
        """Finds the episodes with a smaller loss than `recipe.min_loss`; None where none has.

        It waits for the device once.

        Args:
            encoder: frozen tower with an adapter of E copies, before the first step.
            head: of E copies, likewise.
            tokens: the frozen prefix of the support clips of the first step, (E, clips, ...).
            labels: of them, (E, clips) int64.
            recipe: with `min_loss`.
        """
        if not recipe.min_loss:
            return None
        losses = support_losses(encoder, head, tokens, labels, recipe.label_smoothing).float()
        on_host = losses.cpu()
        mask_on_host = on_host < recipe.min_loss
        if not mask_on_host.any():
            return None
        return cls(on_host, mask_on_host, losses < recipe.min_loss)

    @property
    def are_all(self) -> bool:
        """Whether no episode of the group is tuned."""
        return bool(self.mask_on_host.all())

    def without_their_losses(self, loss: Tensor) -> Tensor:
        """Replaces the losses of these episodes by zeros without a gradient.

        Args:
            loss: of all episodes, (E,).
        """
        return loss.masked_fill(self.mask, 0.0)

    @torch.no_grad()
    def restore(self, parameters: Sequence[Tensor], initial: Sequence[Tensor]) -> None:
        """Gives these episodes their first values again: weight decay needs no gradient.

        Args:
            parameters: each (E, ...); changed.
            initial: their values before the first step.
        """
        for parameter, value in zip(parameters, initial, strict=True):
            mask = self.mask.view(-1, *[1] * (parameter.ndim - 1))
            parameter.copy_(torch.where(mask, value, parameter))

    def with_first_losses(self, step_losses: Tensor) -> Tensor:
        """Returns losses with the first alone of these episodes, and nan for steps not made.

        Args:
            step_losses: of all episodes, (E, steps), on the host.
        """
        mask = self.mask_on_host
        step_losses = step_losses.masked_fill(mask[:, None], torch.nan)
        step_losses[mask, 0] = self.losses[mask]
        return step_losses
