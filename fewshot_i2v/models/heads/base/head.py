"""The head contract: `Head`, its options, and the class-text embeddings that some heads read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, PrivateAttr, model_validator
from torch import Tensor, nn

from fewshot_i2v.config.readouts import FROZEN, Readout, Readouts, parse_readouts
from fewshot_i2v.errors import HeadError
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.adapters.base.frozen_prefix import GridSizes
from fewshot_i2v.models.heads.base.labels import clips_per_class
from fewshot_i2v.models.heads.base.readouts import select_readout

if TYPE_CHECKING:
    from typing import Self


Scorer = Callable[[Features], Tensor]
"""From features of query clips, as `Head.select_tokens` gives them, to logits (E, Q, way)."""


class HeadOptions(BaseModel):
    """Options of a head; unknown ones are refused.

    Attributes:
        tokens: readouts, one or several joined by "+", such as grid4+motion; `readouts` is a second
            name of this option. "summary": frames are seen as the summary token of each;
            "projected": as this token after the encoder's projection into the space that it shares
            with text, as `encode_image` of CLIP gives it (J channels); "gridG", such as grid4: as
            the patch tokens averaged within G x G cells, side by side (G^2 D channels); "motion":
            as the motion map of all patches (see `motion_map`), a channel each; "motionG": as this
            map averaged within G x G cells (G^2 channels). With "frozen-" before a name, such as
            frozen-motion, it is read of the frozen encoder, which the adapter does not change.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    tokens: Readouts = Field(default="summary", validation_alias=AliasChoices("tokens", "readouts"))

    _patches: int = PrivateAttr(default=0)
    _joint_width: int = PrivateAttr(default=0)

    @model_validator(mode="before")
    @classmethod
    def _check_one_name(cls, data: object) -> object:
        if isinstance(data, Mapping) and {"tokens", "readouts"} <= data.keys():
            raise ValueError("tokens and readouts are two names of one option; give one of them")
        return data

    def for_encoder(self, patches: int, joint_width: int = 0) -> Self:
        """Returns these options for an encoder, which the sizes of some readouts depend on.

        Args:
            patches: patch tokens on a side of a frame; 0: the encoder has none.
            joint_width: channels of the space that it shares with text; 0: it has no projection.

        Raises:
            HeadError: when a grid or a motion map needs more patches, or a readout needs the
                projection of an encoder that has none.
        """
        readouts = parse_readouts(self.tokens, patches, joint_width)
        if not patches and any(readout.needs_patches for readout in readouts):
            raise HeadError(
                f"tokens={self.tokens}: this encoder has no patch tokens; use tokens=summary"
            )
        if not joint_width and any(readout.kind == "projected" for readout in readouts):
            raise HeadError(
                f"tokens={self.tokens}: this encoder has no projection into a space shared with "
                "text; use summary in place of projected"
            )
        if max(readout.cells for readout in readouts) > patches:
            raise HeadError(
                f"tokens={self.tokens}: this encoder has {patches} x {patches} patches at this "
                f"image size; give at most grid{patches} or motion{patches}, or a larger image size"
            )
        options = self.model_copy()
        options._patches, options._joint_width = patches, joint_width
        return options

    @property
    def reads_frozen(self) -> bool:
        """Whether a readout is one of the frozen encoder."""
        return FROZEN in self.tokens

    @property
    def reads_adapted(self) -> bool:
        """Whether a readout is one of the encoder with its adapter."""
        return not all(name.startswith(FROZEN) for name in self.tokens.split("+"))

    def parsed_readouts(self) -> tuple[Readout, ...]:
        """Returns what the head sees of each frame.

        Raises:
            HeadError: for a motion map or a projection before `for_encoder` said of which encoder.
        """
        if "motion" in self.tokens and not self._patches:
            raise HeadError(
                f"tokens={self.tokens}: a motion map depends on the encoder; give the head "
                "options.for_encoder(N), N patch tokens on a side of a frame"
            )
        if "projected" in self.tokens and not self._joint_width:
            raise HeadError(
                f"tokens={self.tokens}: a projection depends on the encoder; give the head "
                "options.for_encoder(N, J), J channels of the space shared with text"
            )
        return parse_readouts(self.tokens, self._patches, self._joint_width)


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
        readouts: what it sees of each frame.
        readout_widths: channels of a frame in each readout: D for the summary, J for the projected
            one, G^2 D for a grid, G^2 for a motion map.
        width: their sum, the channels of a frame as the head reads it.
        grid_sizes: cells on a side of each grid that it needs.
        reads_frozen: whether it reads the frozen encoder as well, see `AdaptedEncoder`.
        projection: of the encoder, (D, J), see `set_projection`; None where it is not read.

    Raises:
        HeadError: when a size is below one, there is no seed, a head that compares with text is to
            read more than the summary, or a motion map is to be read of an unknown encoder.
    """

    Options: ClassVar[type[HeadOptions]] = HeadOptions
    source: ClassVar[str]
    """Where the head comes from."""
    citation: ClassVar[str] = ""
    """BibTeX entries of the paper, which `report --out NAME.bib` writes; "" where there is none."""
    option_citations: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """BibTeX entries by option: further papers behind it, where it is not at its default."""
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
        self.readouts = options.parsed_readouts()
        if self.uses_class_names and options.tokens != "summary":
            raise HeadError(
                f"tokens={options.tokens}: {type(self).__name__} compares clips with class names, "
                "and the text tower was trained with the summary token only; use tokens=summary"
            )
        self.options, self.episodes = options, len(seeds)
        self.readout_widths = [readout.width(width) for readout in self.readouts]
        self.width = sum(self.readout_widths)
        self.reads_frozen = options.reads_frozen
        self.grid_sizes: GridSizes = tuple(sorted({r.grid_size for r in self.readouts} - {0}))
        self.way, self.frames, self.texts = way, frames, texts
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        # the encoder's, so it is not saved with the head
        self.projection: Tensor | None
        self.register_buffer("projection", None, persistent=False)

    def set_projection(self, projection: Tensor) -> None:
        """Sets the encoder's projection into the space shared with text; it is not trained.

        Args:
            projection: (D, J); needed by the readout "projected".
        """
        self.projection = projection.detach().float()

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

    def prepare(self, support: Features, labels: Tensor) -> Scorer:
        """Computes what depends on the support clips alone, for many calls and for export.

        Only where that takes time, or reads values of tensors in Python, as export cannot.

        Args:
            support: features of the S support clips from `select_tokens`.
            labels: class of each, (E, S) int64; every class occurs.

        Returns:
            `query_logits` of query clips.
        """
        return lambda query: self.query_logits(query, support, labels)

    def scorer(self, support: Features, labels: Tensor) -> Scorer:
        """Returns `selected_logits` for these support clips; not to be overridden.

        Raises:
            HeadError: when a class has no support clip.
        """
        self._check_support_classes(labels)
        # a subclass may override `query_logits` alone, of a class that has both
        names = ("prepare", "query_logits")
        overrides = next(vars(c) for c in type(self).__mro__ if any(n in vars(c) for n in names))
        prepare = self.prepare if "prepare" in overrides else partial(Head.prepare, self)
        device = support.clip.device.type
        with torch.autocast(device, enabled=False):
            score = prepare(support, labels)

        def _score(query: Features) -> Tensor:
            with torch.autocast(device, enabled=False):
                return score(query)

        return _score

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
        return self.selected_logits(self.select_tokens(query), self.select_tokens(support), labels)

    def selected_logits(self, query: Features, support: Features, labels: Tensor) -> Tensor:
        """Computes `query_logits` in float32 of features from `select_tokens`.

        Args:
            query: of the Q query clips, from `select_tokens`.
            support: of the S support clips, likewise.
            labels: class of each support clip, (E, S) int64 in 0..way-1.

        Returns:
            (E, Q, way), float32, logits of a softmax over the classes.

        Raises:
            HeadError: when a class has no support clip.
        """
        return self.scorer(support, labels)(query)

    def select_tokens(self, features: Features) -> Features:
        """Returns the features that this head reads, float32: its readouts side by side.

        Returns:
            Frames (E, clips, T, width) and clip (E, clips, width), without grids. The clip feature
            of a summary is as the adapter pools it, that of other readouts the mean over frames.

        Raises:
            HeadError: when they have other sizes than the head was built for.
        """
        if missing := set(self.grid_sizes) - features.grids.keys():
            raise HeadError(
                f"{type(self).__name__} reads a grid of patch tokens, {min(missing)} cells on a "
                f"side; got {features!r}"
            )
        selected = [select_readout(readout, features, self.projection) for readout in self.readouts]
        if len(selected) == 1:
            (features,) = selected
        else:
            features = Features(
                torch.cat([readout.frames for readout in selected], -1),
                torch.cat([readout.clip for readout in selected], -1),
            )
        if features.frames.shape[-2:] != (self.frames, self.width):
            raise HeadError(
                f"this head was built for clips of {self.frames} frames with {self.width} "
                f"channels; got {features!r}"
            )
        return features

    def _check_support_classes(self, labels: Tensor) -> None:
        absent = (clips_per_class(labels, self.way) == 0).nonzero()
        if len(absent):
            episode, missing = absent[0].tolist()
            raise HeadError(
                f"class {missing} of episode {episode} has no support clip (classes are "
                f"0..{self.way - 1}); every class needs at least one"
            )
