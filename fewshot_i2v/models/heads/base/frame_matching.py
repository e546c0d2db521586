"""What the heads that match frames with frames share: frame distances, and several shots."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.base.features import (
    class_means,
    compared,
    in_pieces,
    means_of_others,
    one_hot,
    unit,
)
from fewshot_i2v.models.heads.base.head import Head, HeadOptions

Shots = Literal["mean", "prototype"]
# Values that training keeps per pair of frames, without and with a constant in the cosine, and per
# frame feature: measured for both heads.
_PER_PAIR, _PER_PAIR_WITH_EPS, _PER_FEATURE = 3, 5, 3


class MatchingOptions(HeadOptions):
    """Options of a head that matches frames with frames.

    Attributes:
        shots: "mean": the distance to a class is the mean of the distances to its support clips;
            "prototype": the distance to one clip whose frame t is the mean of their frames t. The
            same for one shot.
        eps: added to the product of the two norms in the cosine of two frames, at least 0. 0: the
            plain cosine, as the papers write it, where a frame of zeros has distance 1 to
            everything. The code of OTAM, HyRSM and CLIP-FSAR adds 0.01, which draws the distances
            of small features together: predictions then depend on the size of the features.
    """

    shots: Shots = "mean"
    eps: float = Field(default=0.0, ge=0, allow_inf_nan=False)


def frame_distances(x: Tensor, y: Tensor, eps: float = 0.0) -> Tensor:
    """One minus the cosine of every frame of every clip of x with every frame of those of y.

    `1 - <a, b> / (|a| |b| + eps)`: a constant is added to the product of the norms.

    Args:
        x: (..., A, T, D).
        y: (..., B, U, D).
        eps: at least 0; with 0 a frame of zeros has distance 1 to everything.

    Returns:
        (..., A, B, T, U).
    """
    table = (*x.shape[:-1], *y.shape[-3:-1])
    if eps == 0:
        x, y = unit(x), unit(y)
    cosines = x.flatten(-3, -2) @ y.flatten(-3, -2).mT
    if eps > 0:
        norms = [torch.linalg.vector_norm(z, dim=-1).flatten(-2) for z in (x, y)]
        cosines = cosines / (norms[0].unsqueeze(-1) * norms[1].unsqueeze(-2) + eps)
    return 1 - cosines.reshape(table).transpose(-3, -2)


def mean_over_shots(distances: Tensor, members: Tensor, pairs: Tensor | None = None) -> Tensor:
    """Mean of the distances to the support clips of each class.

    Args:
        distances: to each support clip, (E, A, S).
        members: as `one_hot` gives them, (E, S, way).
        pairs: which distances count, (E, A, S) bool; None: all.

    Returns:
        (E, A, way).
    """
    if pairs is None:
        return distances @ members / members.sum(-2, keepdim=True)
    counting = pairs.to(distances.dtype)
    return (distances * counting) @ members / (counting @ members)


class MatchingHead(Head):
    """Scores by minus a distance between two clips that is made of distances between frames.

    A subclass says how (`clip_distances`) and by which factor (`temperature`). Classes may have
    different numbers of support clips.
    """

    Options = MatchingOptions
    options: MatchingOptions
    compares_with_itself = True

    @property
    @abstractmethod
    def temperature(self) -> float:
        """Factor of minus the distance."""

    @abstractmethod
    def clip_distances(self, frames: Tensor) -> Tensor:
        """Distance of two clips.

        Args:
            frames: distances of their frames as `frame_distances` gives them, (..., T, U).

        Returns:
            (...).
        """

    def training_scores(self, support: Features, labels: Tensor) -> Tensor:
        """Scores of the support clips, each left out of its own class, (E, S, way).

        A class of one clip (1 shot) has no others: its clip is compared with itself, and the loss
        only spreads the classes.
        """
        x, members = support.frames, one_hot(labels, self.way)
        if self.options.shots == "mean":
            distances = mean_over_shots(self.between(x, x), members, compared(members))
        else:
            others = means_of_others(x, members)
            own = self.between(x.unsqueeze(2), others.unsqueeze(2)).squeeze(-1)
            all_clips = self.between(x, class_means(x, members))
            distances = own.where(members > 0, all_clips)
        return -self.temperature * distances

    def training_values(self, support: int) -> int:
        """What one episode's training scores keep: tables of frames with frames.

        Args:
            support: clips S.

        Returns:
            A few values per pair of frames of two clips, or of a clip and a prototype (of every
            class, and of its own class without it), and per channel of a frame.
        """
        others = support if self.options.shots == "mean" else self.way + 1
        pairs = support * others * self.frames**2
        per_pair = _PER_PAIR_WITH_EPS if self.options.eps else _PER_PAIR
        return per_pair * pairs + _PER_FEATURE * support * self.frames * self.width

    def scores(self, query: Features, support: Features, labels: Tensor) -> Tensor:
        """Minus the scaled distances of the query clips to the classes, (E, Q, way)."""
        y, members = support.frames, one_hot(labels, self.way)
        each = self.options.shots == "mean"
        if not each:
            y = class_means(y, members)

        def _piece_distances(piece: Tensor) -> Tensor:
            distances = self.between(piece, y)
            return mean_over_shots(distances, members) if each else distances

        work = y.shape[0] * y.shape[1] * self.frames**2
        return -self.temperature * in_pieces(_piece_distances, query.frames, work)

    def between(self, x: Tensor, y: Tensor) -> Tensor:
        """Distance of each clip of x (..., A, T, D) to each of y (..., B, U, D): (..., A, B)."""
        return self.clip_distances(frame_distances(x, y, self.options.eps))
