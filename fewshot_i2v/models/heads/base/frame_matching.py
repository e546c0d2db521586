"""Base of heads that match frames with frames: frame distances, and several shots."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from fewshot_i2v.errors import HeadError
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.base.comparison_head import ComparisonHead, ComparisonOptions
from fewshot_i2v.models.heads.base.features import (
    class_means,
    comparable_pairs,
    l2_normalize,
    leave_one_out_means,
    one_hot,
    score_in_chunks,
)
from fewshot_i2v.models.heads.base.head import Scorer
from fewshot_i2v.models.heads.base.readout_weights import scale_readouts

Shots = Literal["mean", "prototype"]
# Values that training keeps per pair of frames, without and with a constant in the cosine, and per
# frame feature: measured for both heads.
_VALUES_PER_PAIR, _VALUES_PER_PAIR_WITH_EPS, _VALUES_PER_FEATURE = 3, 5, 3


class MatchingOptions(ComparisonOptions):
    """Options of a head that matches frames with frames; `weights` as `ComparisonOptions`.

    Attributes:
        shots: "mean": the distance to a class is the mean of the distances to its support clips;
            "prototype": the distance to one clip whose frame t is the mean of their frames t. The
            same for one shot.
        eps: added to the product of the two norms in the cosine of two frames, at least 0. 0: the
            plain cosine, as the papers write it, where a frame of zeros has distance 1 to
            everything. The code of OTAM, HyRSM and CLIP-FSAR adds 0.01, which draws the distances
            of small features together: predictions then depend on the size of the features. Of one
            readout only.
    """

    shots: Shots = "mean"
    eps: float = Field(default=0.0, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _check_eps(self) -> MatchingOptions:
        if "+" in self.tokens and self.eps:
            raise HeadError(
                f"{type(self).__name__}: eps={self.eps:g} with tokens={self.tokens}: the constant "
                "is meant for the size of one kind of features; use eps=0"
            )
        return self


def frame_distances(x: Tensor, y: Tensor, eps: float = 0.0) -> Tensor:
    """Computes one minus the cosine of every frame of every clip of x with every frame of y.

    `1 - <a, b> / (|a| |b| + eps)`: a constant is added to the product of the norms.

    Args:
        x: (..., A, T, D).
        y: (..., B, U, D).
        eps: at least 0; with 0 a frame of zeros has distance 1 to everything.

    Returns:
        (..., A, B, T, U).
    """
    if eps == 0:
        return 1 - _frame_products(l2_normalize(x), l2_normalize(y))
    norms = [torch.linalg.vector_norm(z, dim=-1, keepdim=True) for z in (x, y)]
    return 1 - _frame_products(x, y) / (_frame_products(*norms) + eps)


def _frame_products(x: Tensor, y: Tensor) -> Tensor:
    """Products of all frames, x (..., A, T, D) and y (..., B, U, D): (..., A, B, T, U)."""
    # one product for all pairs of frames: many small ones would wait for memory
    products = x.flatten(-3, -2) @ y.flatten(-3, -2).mT
    return products.reshape(*x.shape[:-1], *y.shape[-3:-1]).transpose(-3, -2)


def mean_over_shots(distances: Tensor, members: Tensor, pairs: Tensor | None = None) -> Tensor:
    """Averages the distances to the support clips of each class.

    Args:
        distances: to each support clip, (E, A, S).
        members: output of `one_hot`, (E, S, way).
        pairs: which distances count, (E, A, S) bool; None: all.

    Returns:
        (E, A, way).
    """
    if pairs is None:
        return distances @ members / members.sum(-2, keepdim=True)
    # the sum over the clips that count divided by their number, class by class
    weights = pairs.to(distances.dtype)
    return (distances * weights) @ members / (weights @ members)


class MatchingHead(ComparisonHead):
    """Logits are minus a distance between two clips, which is made of distances between frames.

    With several readouts the distance of two frames is the weighted sum of those in each readout.

    A subclass defines the distance (`clip_distances`) and its factor (`temperature`). Classes may
    have different numbers of support clips.
    """

    Options = MatchingOptions
    options: MatchingOptions

    @property
    @abstractmethod
    def temperature(self) -> float:
        """Factor of minus the distance."""

    @abstractmethod
    def clip_distances(self, distances: Tensor) -> Tensor:
        """Computes the distance of two clips.

        Args:
            distances: distances of their frames from `frame_distances`, (..., T, U).

        Returns:
            (...).
        """

    def comparable(self, features: Features) -> Tensor:
        """Returns the frames of each clip, (E, clips, T, width)."""
        return features.frames

    def leave_one_out_logits(self, x: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
        """Logits of the support clips, each left out of its own class, (E, S, way).

        The only clip of a class is compared with itself.
        """
        members = one_hot(labels, self.way)
        if self.options.shots == "mean":
            distances = mean_over_shots(
                self.pairwise_distances(x, x, weights), members, comparable_pairs(members)
            )
        else:
            leave_one_out = leave_one_out_means(x, members)
            own_class_distances = self.pairwise_distances(
                x.unsqueeze(2), leave_one_out.unsqueeze(2), weights
            ).squeeze(-1)
            class_distances = self.pairwise_distances(x, class_means(x, members), weights)
            distances = own_class_distances.where(members > 0, class_distances)
        return -self.temperature * distances

    def saved_activations(self, n_support: int) -> int:
        """Values that the support logits of one episode store: tables of frames with frames.

        Args:
            n_support: support clips S.

        Returns:
            A few values per pair of frames of two clips, or of a clip and a prototype (of every
            class, and of its own class without the clip), and per channel of a frame.
        """
        n_compared = n_support if self.options.shots == "mean" else self.way + 1
        pairs = n_support * n_compared * self.frames**2
        per_pair = _VALUES_PER_PAIR_WITH_EPS if self.options.eps else _VALUES_PER_PAIR
        return per_pair * pairs + _VALUES_PER_FEATURE * n_support * self.frames * self.width

    def query_logits(self, query: Features, support: Features, labels: Tensor) -> Tensor:
        """Logits of the query clips: minus the scaled distances to the classes, (E, Q, way)."""
        return self.prepare(support, labels)(query)

    def prepare(self, support: Features, labels: Tensor) -> Scorer:
        """Computes the weights of the readouts, and prototypes where there are any."""
        y, members = support.frames, one_hot(labels, self.way)
        weights = self.episode_weights(y, labels)
        per_shot = self.options.shots == "mean"
        if not per_shot:
            y = class_means(y, members)

        def _chunk_distances(chunk: Tensor) -> Tensor:
            distances = self.pairwise_distances(chunk, y, weights)
            return mean_over_shots(distances, members) if per_shot else distances

        elements_per_query = y.shape[0] * y.shape[1] * self.frames**2
        return lambda query: (
            -self.temperature * score_in_chunks(_chunk_distances, query.frames, elements_per_query)
        )

    def pairwise_distances(self, x: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """Computes the distance of each clip of x to each of y.

        Args:
            x: frames, (E, ..., A, T, width).
            y: frames, (E, ..., B, U, width).
            weights: of the readouts, (E, readouts); None: one each.

        Returns:
            (E, ..., A, B).
        """
        if self.options.eps:
            return self.clip_distances(frame_distances(x, y, self.options.eps))
        x = scale_readouts(x, self.readout_widths)
        y = scale_readouts(y, self.readout_widths, weights)
        # the largest sum of cosines: one frame then has distance zero to itself
        total = len(self.readouts) if weights is None else weights.sum(-1).view(-1, *[1] * x.ndim)
        return self.clip_distances(total - _frame_products(x, y))
