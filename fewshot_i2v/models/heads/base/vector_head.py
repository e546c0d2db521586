"""Base of heads that compare one vector per clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor

from fewshot_i2v.errors import HeadError
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.base.features import Pooling, clip_vectors, l2_normalize
from fewshot_i2v.models.heads.base.head import Head, HeadOptions


class VectorOptions(HeadOptions):
    """Options of a head that compares one vector per clip.

    Attributes:
        pooling: "clip": the clip feature as the adapter pools it; "mean": mean of the frame
            features; "ordered": the frame features concatenated in order (T * D).
        center: subtract each clip's own mean over frames first, which leaves what changes within
            the clip; with "ordered" only.
        metric: "cosine": the cosine of two vectors; "euclidean": minus the squared distance per
            channel (the squared distance divided by the length of the vectors, so that one
            temperature fits every width and frame count; the ranking is that of the distance).
        temperature: above 0, factor of these scores. It changes probabilities and the training
            loss, never which class is predicted.
    """

    pooling: Pooling = "clip"
    center: bool = False
    metric: Literal["cosine", "euclidean"] = "cosine"
    # cosines lie between -1 and 1: at a factor of 1 a softmax over them would be nearly flat
    temperature: float = Field(default=10.0, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _check_centering(self) -> VectorOptions:
        if self.center and self.pooling != "ordered":
            raise HeadError(
                f"{type(self).__name__}: center=true with pooling={self.pooling!r} leaves zeros "
                "(the mean of a clip's centred frames); use pooling=ordered with it"
            )
        return self


class VectorHead(Head):
    """A head without parameters that compares one vector per clip.

    A vector of zeros (a clip without motion, when centred) has cosine 0 with everything.

    Raises:
        HeadError: as `Head`, and when frames of clips of a single frame are to be centred.
    """

    Options = VectorOptions
    options: VectorOptions

    def __init__(
        self, options: VectorOptions, *, width: int, way: int, frames: int, seeds: Sequence[int]
    ) -> None:
        super().__init__(options, width=width, way=way, frames=frames, seeds=seeds)
        if options.center and frames == 1:
            raise HeadError(
                f"{type(self).__name__}: center=true leaves zeros of clips of one frame; use more "
                "frames or center=false"
            )

    def vectors(self, features: Features) -> Tensor:
        """Computes one vector per clip, (E, clips, D) or (E, clips, T * D)."""
        return clip_vectors(features, self.options.pooling, center=self.options.center)

    def similarities(self, x: Tensor, y: Tensor) -> Tensor:
        """Similarity of each vector of x (..., A, C) to each of y (..., B, C): (..., A, B)."""
        if self.options.metric == "cosine":
            return l2_normalize(x) @ l2_normalize(y).mT
        # Distances do not change with the origin; near the vectors less is lost by rounding. For
        # the same reason the origin has no gradient.
        origin = y.detach().mean(-2, keepdim=True)
        x, y = x - origin, y - origin
        squares = x.square().sum(-1).unsqueeze(-1) + y.square().sum(-1).unsqueeze(-2)
        return (2 * (x @ y.mT) - squares) / x.shape[-1]
