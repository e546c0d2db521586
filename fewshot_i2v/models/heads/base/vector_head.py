"""Base of heads that compare one vector per clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from fewshot_i2v.errors import HeadError
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.base.comparison_head import ComparisonHead, ComparisonOptions
from fewshot_i2v.models.heads.base.features import Pooling, clip_vectors
from fewshot_i2v.models.heads.base.readout_weights import scale_readouts


class VectorOptions(ComparisonOptions):
    """Options of a head that compares one vector per clip; `weights` as `ComparisonOptions`.

    Attributes:
        pooling: "clip": the clip feature as the adapter pools it; "mean": mean of the frame
            features; "ordered": the frame features concatenated in order (T * D).
        center: subtract each clip's own mean over frames first, which leaves what changes within
            the clip; with "ordered" only.
        metric: "cosine": the cosine of two vectors; "euclidean": minus the squared distance per
            channel (the squared distance divided by the length of the vectors, so that one
            temperature fits every width and frame count; the ranking is that of the distance), of
            one readout only.
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

    @model_validator(mode="after")
    def _check_metric(self) -> VectorOptions:
        if "+" in self.tokens and self.metric != "cosine":
            raise HeadError(
                f"{type(self).__name__}: metric={self.metric} with tokens={self.tokens}: distances "
                "of several readouts have no common size; use metric=cosine"
            )
        return self


class VectorHead(ComparisonHead):
    """A head without parameters that compares one vector per clip.

    Several readouts stand side by side in the vector, and their similarities are summed. A vector
    of zeros (a clip without motion, when centred) has cosine 0 with everything. A motion map is
    centred as it is: `center` does not change it.

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

        vector_frames = frames if options.pooling == "ordered" else 1
        self.vector_sizes = [vector_frames * width for width in self.readout_widths]

    def comparable(self, features: Features) -> Tensor:
        """Computes one vector per clip, (E, clips, width) or (E, clips, T * width)."""
        pooling, center = self.options.pooling, self.options.center
        if len(self.readouts) == 1:  # no split, as in `scale_readouts`
            center = center and self.readouts[0].kind != "motion"
            return clip_vectors(features, pooling, center=center)
        vectors = [
            clip_vectors(
                Features(frames, clip), pooling, center=center and readout.kind != "motion"
            )
            for readout, frames, clip in zip(
                self.readouts,
                torch.split(features.frames, self.readout_widths, -1),
                torch.split(features.clip, self.readout_widths, -1),
                strict=True,
            )
        ]
        return torch.cat(vectors, -1)

    def similarities(self, x: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """Computes the similarity of each vector of x (E, ..., A, C) to each of y (E, ..., B, C).

        Args:
            x: vectors from `comparable`.
            y: vectors.
            weights: of the readouts, (E, readouts); None: one each.

        Returns:
            (E, ..., A, B).
        """
        if self.options.metric == "cosine":
            sizes = self.vector_sizes
            return scale_readouts(x, sizes) @ scale_readouts(y, sizes, weights).mT
        # distances do not change with the origin; near the vectors less is lost by rounding
        origin = y.detach().mean(-2, keepdim=True)
        x, y = x - origin, y - origin
        squares = x.square().sum(-1).unsqueeze(-1) + y.square().sum(-1).unsqueeze(-2)
        return (2 * (x @ y.mT) - squares) / x.shape[-1]
