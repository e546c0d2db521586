"""Nearest class mean (ProtoNet): no parameters of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field, model_validator
from torch import Tensor

from fewshot_i2v.adapters._contract import Features
from fewshot_i2v.errors import HeadError
from fewshot_i2v.heads._contract import Head, HeadOptions
from fewshot_i2v.heads._features import Pooling, clip_vectors, full_precision, one_hot, unit


class PrototypeOptions(HeadOptions):
    """Options of the prototype head.

    Attributes:
        pooling: "clip": the clip feature as the adapter pools it; "mean": mean of the frame
            features; "ordered": the frame features concatenated in order (T * D).
        center: subtract each clip's own mean over frames first, which leaves what changes within
            the clip; with "ordered" only.
        metric: "cosine": similarity to the prototype; "euclidean": minus the squared distance per
            channel (the squared distance divided by the length of the vectors, so that one
            temperature fits every width and frame count; the ranking is that of the distance).
        temperature: above 0, factor of these scores. It changes probabilities and the training
            loss, never which class is predicted.
    """

    pooling: Pooling = "clip"
    center: bool = False
    metric: Literal["cosine", "euclidean"] = "cosine"
    temperature: float = Field(default=10.0, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _centering_leaves_something(self) -> PrototypeOptions:
        if self.center and self.pooling != "ordered":
            raise HeadError(
                f"head 'prototype': center=true with pooling={self.pooling!r} leaves zeros (the "
                "mean of a clip's centred frames); use pooling=ordered with it"
            )
        return self


class PrototypeHead(Head):
    """Scores by similarity to the mean of each class's support clips.

    A prototype is the mean of the un-normalised vectors of the class; with the cosine metric query
    and prototype are normalised after that. A vector of zeros (a clip without motion, when centred)
    has similarity 0 to everything. Classes may have different numbers of support clips.

    Args:
        options: `PrototypeOptions`.
        width: channels D of the features.
        way: classes of an episode.
        frames: frames T of a clip.
        seeds: one seed per episode; E = len(seeds). Nothing is drawn.

    Raises:
        HeadError: when a size is below one, there is no seed, or frames of clips of a single frame
            are to be centred.
    """

    Options = PrototypeOptions
    options: PrototypeOptions
    source: ClassVar[str] = (
        "Snell, Swersky, Zemel: Prototypical Networks for Few-shot Learning, NeurIPS 2017, "
        "https://arxiv.org/abs/1703.05175"
    )

    def __init__(
        self, options: PrototypeOptions, *, width: int, way: int, frames: int, seeds: Sequence[int]
    ) -> None:
        super().__init__(options, width=width, way=way, frames=frames, seeds=seeds)
        if options.center and frames == 1:
            raise HeadError(
                "head 'prototype': center=true leaves zeros of clips of one frame; use more frames "
                "or center=false"
            )

    def training_logits(self, support: Features, labels: Tensor) -> Tensor:
        """Scores of the support clips against prototypes that do not contain them.

        For its own class a clip is compared with the mean of the other clips of the class. A class
        of one clip (1 shot) has no others: there the prototype is the clip itself, its own score is
        the highest possible, and the loss only spreads the classes.

        Args:
            support: features of the S support clips, frames (E, S, T, D).
            labels: class of each, (E, S) int64 in 0..way-1; every class must occur.

        Returns:
            (E, S, way), float32.

        Raises:
            HeadError: when the features have other sizes than the head was built for.
        """
        with full_precision(support.clip.device):
            x = self._vectors(support)
            members = one_hot(labels, self.way)
            totals, counts = members.mT @ x, members.sum(-2)
            # rows of each clip's own class, picked by a product to stay on the device
            own_total, own_count = members @ totals, members @ counts.unsqueeze(-1)
            others = (own_total - x) / (own_count - 1).clamp_min(1)
            others = others.where(own_count > 1, x)
            scores = self._scores(x, _means(totals, counts))
            own = self._scores(x.unsqueeze(-2), others.unsqueeze(-2)).squeeze(-1)
            return own.where(members > 0, scores)

    def forward(self, query: Features, support: Features, labels: Tensor) -> Tensor:
        """Scores of the query clips.

        Args:
            query: features of the Q query clips, frames (E, Q, T, D).
            support: features of the S support clips.
            labels: class of each support clip, (E, S) int64 in 0..way-1.

        Returns:
            (E, Q, way), float32.

        Raises:
            HeadError: when a class has no support clip, or the features have other sizes than the
                head was built for.
        """
        with full_precision(query.clip.device):
            members = one_hot(labels, self.way)
            counts = members.sum(-2)
            if bool((counts == 0).any()):
                episode, missing = (counts == 0).nonzero()[0].tolist()
                raise HeadError(
                    f"class {missing} of episode {episode} has no support clip (classes are "
                    f"0..{self.way - 1}); every class needs at least one"
                )
            prototypes = _means(members.mT @ self._vectors(support), counts)
            return self._scores(self._vectors(query), prototypes)

    def _vectors(self, features: Features) -> Tensor:
        pooling, center = self.options.pooling, self.options.center
        return clip_vectors(features, pooling, width=self.width, frames=self.frames, center=center)

    def _scores(self, x: Tensor, prototypes: Tensor) -> Tensor:
        """Scaled similarity of (..., clips, D) to (..., way, D): (..., clips, way)."""
        if self.options.metric == "cosine":
            similarity = unit(x) @ unit(prototypes).mT
        else:
            # distances do not change with the origin; near the prototypes less is lost by rounding
            origin = prototypes.detach().mean(-2, keepdim=True)
            x, prototypes = x - origin, prototypes - origin
            squares = x.square().sum(-1).unsqueeze(-1) + prototypes.square().sum(-1).unsqueeze(-2)
            similarity = (2 * (x @ prototypes.mT) - squares) / x.shape[-1]
        return self.options.temperature * similarity


def _means(totals: Tensor, counts: Tensor) -> Tensor:
    """Class means (E, way, D) from sums (E, way, D) and numbers (E, way) of clips."""
    return totals / counts.clamp_min(1).unsqueeze(-1)
