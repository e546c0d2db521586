"""Methods that train the linear maps and norms of a block, or what is added to them.

Such a method has the frozen block's own computation with other weights, and can therefore always
be merged: what remains is a tower.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewshot_i2v.errors import AdapterError
from fewshot_i2v.models.adapters.base.adapter import Adapter, AdapterOptions
from fewshot_i2v.models.adapters.frozen import Frozen
from fewshot_i2v.models.encoders.block import FrozenBlock
from fewshot_i2v.models.encoders.tower import Tower


class BlockMaps(nn.Module):
    """What one block computes besides attention and activation; here, as it was pretrained.

    A subclass holds the trained parameters of one block and overrides the maps that they change.
    Tokens are (E, ..., L, D).
    """

    def ln_1(self, frozen: FrozenBlock, x: Tensor) -> Tensor:
        """Layer norm before the attention, (E, ..., D)."""
        return frozen.ln_1(x)

    def qkv(self, frozen: FrozenBlock, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (E, ..., L, H, D/H)."""
        return frozen.qkv(u)

    def out(self, frozen: FrozenBlock, u: Tensor) -> Tensor:
        """Output projection of the attention, (E, ..., D)."""
        return functional.linear(u, frozen.out_weight, frozen.out_bias)

    def ln_2(self, frozen: FrozenBlock, x: Tensor) -> Tensor:
        """Layer norm before the MLP, (E, ..., D)."""
        return frozen.ln_2(x)

    def fc(self, frozen: FrozenBlock, u: Tensor) -> Tensor:
        """First layer of the MLP times `frozen.gain`, (E, ..., D) -> (E, ..., hidden)."""
        return functional.linear(u, frozen.fc_weight, frozen.fc_bias)

    def proj(self, frozen: FrozenBlock, hidden: Tensor) -> Tensor:
        """Second layer of the MLP, of `frozen.gain` times its input, (E, ..., D)."""
        return functional.linear(hidden, frozen.proj_weight, frozen.proj_bias)

    def forward(self, frozen: FrozenBlock, x: Tensor) -> Tensor:
        """The block on tokens (E, ..., L, D)."""
        heads = frozen.heads_of(*self.qkv(frozen, self.ln_1(frozen, x)))
        x = x + self.out(frozen, heads)
        hidden = frozen.activate(self.fc(frozen, self.ln_2(frozen, x)))
        return x + self.proj(frozen, hidden)

    @abstractmethod
    def merged(self, frozen: FrozenBlock, episode: int) -> FrozenBlock:
        """The block with one episode's parameters in its weights, in the type of its weights."""


class BlockwiseAdapter(Adapter):
    """An adapter that is one `BlockMaps` per block and merges into the tower.

    A subclass builds `maps`, and overrides `merged_ends` where it trains more than the blocks.

    Attributes:
        maps: one per block.
    """

    mergeable = True
    maps: nn.ModuleList

    def build(self, maps: Iterable[BlockMaps]) -> None:
        """Keeps the maps of every block, first block first."""
        self.maps = nn.ModuleList(maps)

    def block(self, i: int, frozen: FrozenBlock, x: Tensor) -> Tensor:
        """Block i with its trained maps."""
        y: Tensor = self.maps[i](frozen, x)
        return y

    def merged_ends(self, tower: Tower, episode: int) -> Tower:
        """The tower with one episode's stem and last norm; here, as they were pretrained."""
        return tower

    @torch.no_grad()
    def merge(self, tower: Tower, episode: int = 0) -> tuple[Tower, Adapter]:
        """The tower with one episode's weights, and the adapter that changes nothing.

        Sums and products are taken in float64 and rounded once, to the type of the tower's weights.

        Args:
            tower: the frozen tower that this adapter was built for; it is left as it is.
            episode: which of the E copies, 0 to E - 1.

        Returns:
            A new tower, and `Frozen`, which has no parameter.

        Raises:
            AdapterError: when there is no such episode.
        """
        if not 0 <= episode < self.episodes:
            raise AdapterError(f"episode {episode}: this adapter holds 0 to {self.episodes - 1}")
        blocks = [
            maps.merged(block, episode)
            for maps, block in zip(self.maps, tower.blocks, strict=True)
            if isinstance(maps, BlockMaps)
        ]
        merged = replace(self.merged_ends(tower, episode), blocks=tuple(blocks))
        return merged, Frozen(merged, AdapterOptions(), frames=self.frames, seeds=[0])


def rounded(value: Tensor, like: Tensor) -> Tensor:
    """A merged weight as a copy on the device and in the type of the one it replaces."""
    return value.to(like.device, like.dtype, copy=True, memory_format=torch.contiguous_format)
