"""The head contract: `Head`, its options, and the class-text embeddings that some heads read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from fewshot_i2v.errors import HeadError
from fewshot_i2v.models.adapters.base.features import Features

if TYPE_CHECKING:
    from typing import Self

_GRID_PREFIX = "grid"


class HeadOptions(BaseModel):
    """Options of a head; unknown ones are refused.

    Attributes:
        tokens: "summary": frames are seen as the summary token of each; "gridG", such as grid4:
            as the patch tokens averaged within G x G cells, side by side (G^2 D channels).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    tokens: str = Field(default="summary", pattern=r"^(summary|grid[1-9]\d?)$")


@dataclass(frozen=True)
class ClassTexts:
    """Class-text embeddings of E episodes, made by the text tower.

    Attributes:
        embeddings: of the class names, of length one, (E, way, J), float32.
        projection: from features to the joint image-text space, (D, J), float32; None where the
            features are in it already (J = D).
        scale: the temperature that image and text towers were trained with, such as 100.
    """

    embeddings: Tensor
    projection: Tensor | None
    scale: float


class Head(nn.Module, ABC):
    """From features to class logits, for E episodes at once.

    A subclass is one file. Parameters, if any, have the leading episode axis E and are drawn from
    `self.generators`, one per episode, so that an episode starts the same whether it is tuned by
    itself or side by side with more episodes. Logits are computed in float32 whatever the precision
    around the head.

    A subclass with `uses_class_names` takes one more argument, `texts`, and passes it to this
    constructor.

    Args:
        options: an instance of the class's `Options`.
        width: channels D of the features.
        way: classes of an episode.
        frames: frames T of a clip.
        seeds: one seed per episode; E = len(seeds).
        texts: class-text embeddings, for heads that use them.

    Attributes:
        width: channels of a frame as the head reads it: D, or G^2 D with `tokens=gridG`.
        grid_size: G, or 0.

    Raises:
        HeadError: when a size is below one, there is no seed, or a head that compares with text is
            to read the grid.
    """

    Options: ClassVar[type[HeadOptions]] = HeadOptions
    source: ClassVar[str]
    """Where the head comes from."""
    uses_class_names: ClassVar[bool] = False
    """Whether it reads the class names (such rows must not be ranked with those that do not)."""
    compares_with_itself: ClassVar[bool] = False
    """Whether training compares a clip with itself where its class has no other: with one clip per
    class there is then nothing to learn from, and tables say so."""
    supports_mini_batches: ClassVar[bool] = False
    """Whether the training scores of a clip depend on no other: it can be trained on some at a
    time."""

    def __init__(
        self,
        options: HeadOptions,
        *,
        width: int,
        way: int,
        frames: int,
        seeds: Sequence[int],
        texts: ClassTexts | None = None,
    ) -> None:
        super().__init__()
        if not seeds:
            raise HeadError("a head needs one seed per episode; got none")
        if min(width, way, frames) < 1:
            raise HeadError(
                "a head needs width, way and frames of at least 1; "
                f"got width={width}, way={way}, frames={frames}"
            )
        self.grid_size = (
            int(options.tokens.removeprefix(_GRID_PREFIX)) if _GRID_PREFIX in options.tokens else 0
        )
        if self.uses_class_names and self.grid_size:
            raise HeadError(
                f"tokens={options.tokens}: {type(self).__name__} compares clips with class names, "
                "and the text tower was trained with the summary token only; use tokens=summary"
            )
        self.options, self.episodes = options, len(seeds)
        self.width = width * (self.grid_size**2 or 1)
        self.way, self.frames, self.texts = way, frames, texts
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the class-text embeddings with the head; they are not in its state dict."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.texts is not None:
            projection = self.texts.projection
            self.texts = replace(
                self.texts,
                embeddings=fn(self.texts.embeddings),
                projection=None if projection is None else fn(projection),
            )
        return self

    @abstractmethod
    def support_logits(self, support: Features, labels: Tensor) -> Tensor:
        """Computes logits of the support clips for the cross-entropy that fine-tuning minimises.

        Args:
            support: features of the S support clips from `select_tokens`.
            labels: class of each, (E, S) int64 in 0..way-1.

        Returns:
            (E, S, way), float32.
        """

    @abstractmethod
    def query_logits(self, query: Features, support: Features, labels: Tensor) -> Tensor:
        """Computes logits of the query clips.

        Args:
            query: features of the Q query clips from `select_tokens`.
            support: features of the S support clips, likewise.
            labels: class of each support clip, (E, S) int64; every class occurs.

        Returns:
            (E, Q, way), float32, logits of a softmax over the classes.
        """

    def saved_activations(self, n_support: int) -> int:
        """Number of values that the support logits of one episode store for the backward pass.

        It limits how many episodes are tuned side by side. 0, the default, is for heads that store
        little more than the features themselves.

        Args:
            n_support: support clips S of an episode, the same number of each class.
        """
        return 0

    def compute_support_logits(self, support: Features, labels: Tensor) -> Tensor:
        """Selects the tokens, then computes `support_logits` in float32.

        Args:
            support: features of the S support clips, frames (E, S, T, D).
            labels: class of each, (E, S) int64 in 0..way-1; every class must occur.

        Returns:
            (E, S, way), float32.

        Raises:
            HeadError: when the features have other sizes than the head was built for.
        """
        # cosines and distances of similar clips differ in digits that bfloat16 does not have
        with torch.autocast(support.clip.device.type, enabled=False):
            return self.support_logits(self.select_tokens(support), labels)

    def forward(self, query: Features, support: Features, labels: Tensor) -> Tensor:
        """Selects the tokens, then computes `query_logits` in float32.

        Args:
            query: features of the Q query clips, frames (E, Q, T, D).
            support: features of the S support clips.
            labels: class of each support clip, (E, S) int64 in 0..way-1.

        Returns:
            (E, Q, way), float32, logits of a softmax over the classes.

        Raises:
            HeadError: when a class has no support clip, or the features have other sizes than the
                head was built for.
        """
        self._check_support_classes(labels)
        with torch.autocast(query.clip.device.type, enabled=False):
            return self.query_logits(self.select_tokens(query), self.select_tokens(support), labels)

    def select_tokens(self, features: Features) -> Features:
        """Returns the features that this head reads, float32: summary or grid of patch tokens.

        Raises:
            HeadError: when they have other sizes than the head was built for.
        """
        if self.grid_size:
            if features.grid is None:
                raise HeadError(f"{type(self).__name__} reads a grid of patch tokens; got none")
            tokens = features.grid.float().flatten(-2)
            features = Features(tokens, tokens.mean(-2))
        if features.frames.shape[-2:] != (self.frames, self.width):
            raise HeadError(
                f"this head was built for clips of {self.frames} frames with {self.width} "
                f"channels; got {features!r}"
            )
        return replace(features, frames=features.frames.float(), clip=features.clip.float())

    def _check_support_classes(self, labels: Tensor) -> None:
        present = (labels.unsqueeze(-1) == torch.arange(self.way, device=labels.device)).any(-2)
        if not bool(present.all()):
            episode, missing = (~present).nonzero()[0].tolist()
            raise HeadError(
                f"class {missing} of episode {episode} has no support clip (classes are "
                f"0..{self.way - 1}); every class needs at least one"
            )
