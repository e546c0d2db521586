"""What every adapter is.

Every parameter of an adapter carries a leading episode axis E: E independent copies that are
tuned side by side. E = 1 is the plain case.
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
from fewshot_i2v.models.adapters.base.frozen_prefix import Reading
from fewshot_i2v.models.encoders.block import FrozenBlock
from fewshot_i2v.models.encoders.tower import Tower

Order = Literal["no", "embedding", "yes"]
"""Whether the order of frames can matter: not at all, through a temporal embedding alone, or
through an operator over time."""


class AdapterOptions(BaseModel):
    """Options of an adapter; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@dataclass(frozen=True)
class Preset:
    """Options that a publication used.

    Attributes:
        options: by name.
        source: publication and setting, and where they are written.
    """

    options: Mapping[str, Any]
    source: str


class Adapter(nn.Module, ABC):
    """An image-to-video adapter for a frozen tower.

    A subclass is one file. It builds its parameters in `__init__` (after `super().__init__`) with
    the layers of `_layers.py`, drawing initial values from `self.generators`, one per episode, so
    that an episode starts the same whether it is tuned alone or beside others.

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
    identity_at_start: ClassVar[bool]
    """Whether the untrained adapter leaves the frozen encoder's features as they are.

    The clip feature aside where it has a `pool` of its own, which stays what its paper says."""
    mergeable: ClassVar[bool] = False
    """Whether `merge` can fold the adapter into the tower's weights."""
    order: ClassVar[Order]
    """Whether the order of frames can matter to the features."""
    note: ClassVar[str] = ""
    """Said beside the name wherever results are shown, such as "reconstruction"."""
    alone: ClassVar[bool] = False
    """Whether episodes are tuned one at a time unless asked otherwise, since each copy is large."""
    undecayed: ClassVar[tuple[str, ...]] = ()
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
        if not tower.blocks and self.needs_blocks:
            raise AdapterError(
                f"{type(self).__name__} works inside transformer blocks, and those of this encoder "
                f"cannot be adapted: {getattr(tower, 'reason', 'it has none')}. Use the adapter "
                "'frozen', or an encoder that `fewshot-i2v list encoders` does not call frozen only"
            )
        self.options, self.frames, self.episodes = options, frames, len(seeds)
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    @property
    def needs_blocks(self) -> bool:
        """Whether the tower must be a transformer whose blocks can be walked."""
        return True

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> AdapterOptions:
        """Options from plain values; those of `preset` are taken where they are not given.

        Raises:
            UnknownNameError: for a preset that this method does not have.
            pydantic.ValidationError: for unknown options and values out of range.
        """
        given = dict(options)
        if "preset" in given and "preset" not in cls.Options.model_fields:
            name = given.pop("preset")
            if name not in cls.presets:
                what = f"preset of {registry.name_of(cls)}"
                raise UnknownNameError(what, str(name), list(cls.presets))
            given = {**cls.presets[name].options, **given}
        return cls.Options.model_validate(given)

    @property
    def first_block(self) -> int:
        """Index of the first block that must be computed again when a parameter changes.

        The tokens that enter it never change and are computed once per clip (for 0: the output of
        `Tower.stem`, before `ln_pre`). -1: `stem` has parameters of the adapter too; the number of
        blocks: none is computed again, as for side branches.
        """
        return 0

    @property
    def reach(self) -> int:
        """Frames on each side that one block or level can see; 0 where frames never meet."""
        return 0

    def reading(self, cells: int = 0) -> Reading:
        """What of the frozen tower is read, and cached.

        Args:
            cells: cells on a side of the grid that the head reads; 0: none.
        """
        return Reading(self.first_block, cells=cells)

    def stem(self, tower: Tower, pixels: Tensor) -> Tensor:
        """Pixels (E, clips, T, 3, H, W) to tokens; called where `first_block` is -1."""
        return tower.stem(pixels)

    def embed(self, tower: Tower, x: Tensor) -> Tensor:
        """From the stem's tokens (E, clips, T, N + 1, D) to the input of block 0."""
        return tower.ln_pre(x)

    def side(self, tower: Tower, levels: Tensor) -> Tensor:
        """The last level with the side branch added; called where `reading` names levels.

        Args:
            tower: the frozen tower.
            levels: what `read` gives, (E, clips, levels, T, tokens, D); no gradient is wanted.

        Returns:
            (E, clips, T, tokens, D), before the final layer norm.
        """
        raise NotImplementedError(f"{type(self).__name__} reads levels and has no side branch")

    @abstractmethod
    def block(self, i: int, frozen: FrozenBlock, x: Tensor) -> Tensor:
        """Block i with the adapter in it.

        Args:
            i: index of the block, 0 first.
            frozen: its frozen parts.
            x: tokens (E, clips, T, N + 1, D); not modified.

        Returns:
            Tokens of the same shape.
        """

    def final_norm(self, tower: Tower, x: Tensor) -> Tensor:
        """The layer norm after the last block, (E, ..., D), or the copy of it that is trained.

        In float32 whatever the type of `x`, so that pooling never rounds to the tower's type.
        """
        return tower.ln_post_exact(x)

    def pool(self, tower: Tower, summary: Tensor) -> tuple[Tensor, Tensor]:
        """Frame and clip features from each frame's summary token.

        Args:
            tower: the frozen tower.
            summary: (E, clips, T, D), before the final layer norm.

        Returns:
            Frame features (E, clips, T, D) and clip features (E, clips, D).
        """
        frames = self.final_norm(tower, summary)
        return frames, frames.mean(-2)

    def merge(self, tower: Tower, episode: int = 0) -> tuple[Tower, Adapter]:
        """The tower with this adapter's linear maps folded in, and what remains of the adapter.

        Args:
            tower: the frozen tower; a new one is returned.
            episode: which of the E copies.

        Raises:
            AdapterError: for methods that cannot be merged.
        """
        name = registry.name_of(type(self))
        raise AdapterError(f"{name} cannot be merged into the frozen weights")
