"""The adapter contract: `Adapter`, its options and presets, and the features that heads read.

Every parameter of an adapter has a leading episode axis E: E independent copies that are tuned
side by side. E = 1 is the plain case.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from fewshot_i2v import registry
from fewshot_i2v.errors import AdapterError, UnknownNameError
from fewshot_i2v.models.adapters.base.frozen_prefix import GridSizes, PrefixSpec
from fewshot_i2v.models.encoders.block import FrozenBlock
from fewshot_i2v.models.encoders.tower import Tower

FrameOrder = Literal["no", "embedding", "yes"]
"""Whether the order of frames can matter: not at all, through a temporal embedding alone, or
through an operator over time."""


class AdapterOptions(BaseModel):
    """Options of an adapter; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@dataclass(frozen=True)
class Preset:
    """Option values that a publication used.

    Attributes:
        options: values by option name.
        source: publication and setting, and where the values are written.
    """

    options: Mapping[str, Any]
    source: str


class Adapter(nn.Module, ABC):
    """An image-to-video adapter for a frozen tower.

    A subclass is one file. It builds its parameters in `__init__` (after `super().__init__`) with
    the episode layers of this package, and draws initial values from `self.generators`, one per
    episode, so that an episode starts the same whether it is tuned by itself or side by side with
    more episodes.

    Args:
        tower: the frozen tower; never changed, only its shapes and norms are read.
        options: an instance of the class's `Options`.
        frames: frames T of a clip.
        seeds: one seed per episode; E = len(seeds).

    Raises:
        AdapterError: when the tower has no blocks to adapt.
    """

    Options: ClassVar[type[AdapterOptions]] = AdapterOptions
    source: ClassVar[str]
    """Authors, title, year and address of the paper."""
    citation: ClassVar[str] = ""
    """BibTeX entries of the paper, which `report --out NAME.bib` writes; "" where there is none."""
    option_citations: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """BibTeX entries by option: further papers behind it, where it is not at its default."""
    identity_at_init: ClassVar[bool]
    """Whether the untrained adapter leaves the frozen encoder's features as they are.

    The clip feature aside where it has a `pool` of its own, which stays what its paper says."""
    mergeable: ClassVar[bool] = False
    """Whether `merge` can fold the adapter into the tower's weights."""
    frame_order: ClassVar[FrameOrder]
    """Whether the order of frames can matter to the features."""
    display_note: ClassVar[str] = ""
    """Said beside the name wherever results are shown, such as "reconstruction"."""
    one_episode_at_a_time: ClassVar[bool] = False
    """Whether episodes are tuned one at a time unless asked otherwise, since each copy is large."""
    no_weight_decay: ClassVar[tuple[str, ...]] = ()
    """What the names of parameters without weight decay begin with, beside biases and norms.

    Vectors, (E, D), never have any; this is for embeddings of more axes that should have none."""
    presets: ClassVar[Mapping[str, Preset]] = MappingProxyType({})
    """Published variants by name, given as the option `preset`."""

    def __init__(
        self, tower: Tower, options: AdapterOptions, *, frames: int, seeds: Sequence[int]
    ) -> None:
        super().__init__()
        if not seeds:
            raise AdapterError("an adapter needs one seed per episode; got none")
        if not tower.layers and self.requires_blocks:
            raise AdapterError(
                f"{type(self).__name__} works inside transformer blocks, and those of this encoder "
                f"cannot be adapted: {getattr(tower, 'reason', 'it has none')}. Use the adapter "
                "'frozen', or an encoder that `fewshot-i2v list encoders` does not call frozen only"
            )
        self.options, self.frames, self.episodes = options, frames, len(seeds)
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    @property
    def requires_blocks(self) -> bool:
        """Whether the tower must be a transformer whose blocks can be accessed."""
        return True

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> AdapterOptions:
        """Validates options from plain values; `preset` fills in the options that are not set.

        Raises:
            UnknownNameError: for a preset that this method does not have.
            pydantic.ValidationError: for unknown options and values out of range.
        """
        values = dict(options)
        if "preset" in values and "preset" not in cls.Options.model_fields:
            name = values.pop("preset")
            if name not in cls.presets:
                described_kind = f"preset of {registry.method_name(cls)}"
                raise UnknownNameError(described_kind, str(name), list(cls.presets))
            values = {**cls.presets[name].options, **values}
        return cls.Options.model_validate(values)

    @property
    def first_trained_block(self) -> int:
        """Index of the first block that must be computed again when a parameter changes.

        The tokens that enter it never change and are computed once per clip (for 0: the output of
        `Tower.patch_embed`, before `ln_pre`). -1: `patch_embed` has parameters of the adapter too.
        The number of blocks: no block is computed again, as for side branches.
        """
        return 0

    @property
    def temporal_radius(self) -> int:
        """Frames to each side that one block or level sees; 0 where frames never interact."""
        return 0

    def prefix_spec(self, grid_sizes: GridSizes = ()) -> PrefixSpec:
        """Describes what is computed once with the frozen tower, and cached.

        Args:
            grid_sizes: cells on a side of each grid of patch tokens that the head reads.
        """
        return PrefixSpec(self.first_trained_block, grid_sizes=grid_sizes)

    def patch_embed(self, tower: Tower, pixels: Tensor) -> Tensor:
        """Embeds pixels (E, clips, T, 3, H, W) as tokens; called if `first_trained_block` is -1."""
        return tower.patch_embed(pixels)

    def embed_tokens(self, tower: Tower, x: Tensor) -> Tensor:
        """Maps the tokens of `patch_embed`, (E, clips, T, N + 1, D), to the input of block 0."""
        return tower.ln_pre(x)

    def side_branch(self, tower: Tower, levels: Tensor) -> Tensor:
        """Adds the side branch to the last level; called where `prefix_spec` names levels.

        Args:
            tower: the frozen tower.
            levels: output of `compute_prefix`, (E, clips, levels, T, tokens, D); needs no gradient.

        Returns:
            (E, clips, T, tokens, D), before the final layer norm.
        """
        raise NotImplementedError(f"{type(self).__name__} reads levels and has no side branch")

    @abstractmethod
    def block(self, i: int, frozen: FrozenBlock, x: Tensor) -> Tensor:
        """Computes block i with the adapter in it.

        Args:
            i: index of the block, 0 first.
            frozen: the frozen layers of the block.
            x: tokens (E, clips, T, N + 1, D); not modified.

        Returns:
            Tokens of the same shape.
        """

    def class_token_block(self, i: int, frozen: FrozenBlock, x: Tensor) -> Tensor:
        """Computes the class token after block i.

        Called for the last block where nothing else is read. The result is that of `block`; an
        adapter that overrides this leaves out what does not reach the class token.

        Args:
            i: index of the block.
            frozen: the frozen layers of the block.
            x: tokens (E, clips, T, N + 1, D); not modified.

        Returns:
            (E, clips, T, 1, D).
        """
        return self.block(i, frozen, x)[..., :1, :]

    def final_norm(self, tower: Tower, x: Tensor) -> Tensor:
        """Applies the layer norm after the last block, (E, ..., D), or its trained copy.

        In float32 whatever the type of `x`, so that pooling never rounds to the tower's type.
        """
        return tower.ln_post_exact(x)

    def pool_frames(self, tower: Tower, summary: Tensor) -> tuple[Tensor, Tensor]:
        """Computes frame and clip features from each frame's summary token.

        Args:
            tower: the frozen tower.
            summary: (E, clips, T, D), before the final layer norm.

        Returns:
            Frame features (E, clips, T, D) and clip features (E, clips, D).
        """
        frames = self.final_norm(tower, summary)
        return frames, frames.mean(-2)

    def merge(self, tower: Tower, episode: int = 0) -> tuple[Tower, Adapter]:
        """Folds the adapter's linear maps into the tower.

        Args:
            tower: the frozen tower; not modified.
            episode: which of the E copies.

        Returns:
            A new tower, and the adapter that remains beside it.

        Raises:
            AdapterError: for methods that cannot be merged, and when there is no such copy.
        """
        name = registry.method_name(type(self))
        raise AdapterError(f"{name} cannot be merged into the frozen weights")
