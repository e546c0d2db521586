"""Base of heads that compare clips with clips, in one or several readouts."""

from __future__ import annotations

from abc import abstractmethod

import torch
from pydantic import model_validator
from torch import Tensor

from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.base.head import Head, HeadOptions
from fewshot_i2v.models.heads.base.readout_weights import (
    ReadoutWeights,
    check_weights,
    choose_weights,
)


class ComparisonOptions(HeadOptions):
    """Options of a head that compares clips with clips.

    Attributes:
        weights: of several readouts, whose similarities (or distances) are summed: "equal" (one
            each), a number for each in their order, or "loo": chosen per episode by leave-one-out
            on the support clips before prediction (see `choose_weights`); equal in the training
            loss, and where a class has one clip.
    """

    weights: ReadoutWeights = "equal"

    @model_validator(mode="after")
    def _check_weights(self) -> ComparisonOptions:
        check_weights(self.weights, self.tokens)
        return self


class ComparisonHead(Head):
    """A head without parameters that compares clips with the support clips of each class.

    A subclass says what is compared (`comparable`) and how (`leave_one_out_logits` and
    `query_logits`).
    """

    Options = ComparisonOptions
    options: ComparisonOptions
    compares_with_itself = True

    @abstractmethod
    def comparable(self, features: Features) -> Tensor:
        """Returns what is compared of each clip, (E, clips, ...), its readouts along the last axis.

        Args:
            features: from `select_tokens`.
        """

    @abstractmethod
    def leave_one_out_logits(self, x: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
        """Computes logits of the support clips, each left out of its own class.

        Args:
            x: of the support clips, from `comparable`.
            labels: class of each, (E, S) int64.
            weights: of the readouts, (E, readouts); None: one each.

        Returns:
            (E, S, way). The only clip of a class (1 shot) is compared with itself: its own logit is
            the highest possible, and the loss only spreads the classes.
        """

    def support_logits(self, support: Features, labels: Tensor) -> Tensor:
        """Computes logits of the support clips, each left out of its own class, (E, S, way)."""
        x = self.comparable(support)
        return self.leave_one_out_logits(x, labels, self.fixed_weights(x))

    def fixed_weights(self, x: Tensor) -> Tensor | None:
        """Returns the weights of the readouts in training, (E, readouts); None: one each."""
        weights = self.options.weights
        if isinstance(weights, str):
            return None
        return torch.tensor([weights], device=x.device).expand(len(x), -1)

    def episode_weights(self, x: Tensor, labels: Tensor) -> Tensor | None:
        """Returns the weights of the readouts for the query clips, (E, readouts); None: one each.

        Args:
            x: of the support clips, from `comparable`.
            labels: class of each, (E, S) int64.
        """
        if self.options.weights != "loo":
            return self.fixed_weights(x)
        return choose_weights(
            lambda weights: self.leave_one_out_logits(x, labels, weights),
            labels,
            way=self.way,
            count=len(self.readouts),
        )
