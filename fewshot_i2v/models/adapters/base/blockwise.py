"""Base of adapters that train the linear maps and norms of a block, or what is added to them.

Such an adapter does the frozen block's own computation with other weights. It can therefore
always be merged: the result is a tower.
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
from fewshot_i2v.models.encoders.block import FrozenBlock, read_tokens
from fewshot_i2v.models.encoders.tower import Tower


class BlockMaps(nn.Module):
    """The linear maps and norms of one block; in this base class the pretrained ones.

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
        """First layer of the MLP times `activation_gain`, (E, ..., D) -> (E, ..., hidden)."""
        return functional.linear(u, frozen.fc_weight, frozen.fc_bias)

    def proj(self, frozen: FrozenBlock, hidden: Tensor) -> Tensor:
        """Second layer of the MLP, of `activation_gain` times its input, (E, ..., D)."""
        return functional.linear(hidden, frozen.proj_weight, frozen.proj_bias)

    def forward(self, frozen: FrozenBlock, x: Tensor, *, class_token_only: bool = False) -> Tensor:
        """Computes the block on tokens (E, ..., L, D), or its class token, (E, ..., 1, D)."""
        q, k, v = self.qkv(frozen, self.ln_1(frozen, x))
        if class_token_only:  # q is (E, ..., L, H, D/H)
            q = q[..., :1, :, :]
        attended = frozen.attention_heads(q, k, v)
        x = read_tokens(x, class_token_only) + self.out(frozen, attended)
        hidden = frozen.activate(self.fc(frozen, self.ln_2(frozen, x)))
        return x + self.proj(frozen, hidden)

    @abstractmethod
    def merge_block(self, frozen: FrozenBlock, episode: int) -> FrozenBlock:
        """Returns the block with one episode's parameters, in the type of the block's weights."""


class BlockwiseAdapter(Adapter):
    """An adapter that is one `BlockMaps` per block and can be merged into the tower.

    A subclass calls `set_block_maps`, and overrides `merge_outer_layers` where it trains more than
    the blocks.

    Attributes:
        maps: one per block.
    """

    mergeable = True
    maps: nn.ModuleList

    def set_block_maps(self, maps: Iterable[BlockMaps]) -> None:
        """Stores the maps of every block, first block first."""
        self.maps = nn.ModuleList(maps)

    def block(
        self, i: int, frozen: FrozenBlock, x: Tensor, *, class_token_only: bool = False
    ) -> Tensor:
        """Block i with its trained maps."""
        y: Tensor = self.maps[i](frozen, x, class_token_only=class_token_only)
        return y

    def class_token_block(self, i: int, frozen: FrozenBlock, x: Tensor) -> Tensor:
        """The class token after block i, without what does not reach it."""
        return self.block(i, frozen, x, class_token_only=True)

    def merge_outer_layers(self, tower: Tower, episode: int) -> Tower:
        """Merges the trained layers outside the blocks; in this base class there are none."""
        return tower

    @torch.no_grad()
    def merge(self, tower: Tower, episode: int = 0) -> tuple[Tower, Adapter]:
        """Merges one episode's weights into the tower; `Frozen`, without parameters, remains.

        Sums and products are taken in float64 and rounded once, to the type of the tower's weights.
        """
        if not 0 <= episode < self.episodes:
            raise AdapterError(f"episode {episode}: this adapter holds 0 to {self.episodes - 1}")
        blocks = [
            maps.merge_block(block, episode)
            for maps, block in zip(self.maps, tower.blocks, strict=True)
            if isinstance(maps, BlockMaps)
        ]
        merged_tower = replace(self.merge_outer_layers(tower, episode), blocks=tuple(blocks))
        return merged_tower, Frozen(merged_tower, AdapterOptions(), frames=self.frames, seeds=[0])


def rounded_like(value: Tensor, frozen: Tensor) -> Tensor:
    """Copies a merged weight to the device and type of the frozen weight it replaces."""
    return value.to(frozen.device, frozen.dtype, copy=True, memory_format=torch.contiguous_format)
