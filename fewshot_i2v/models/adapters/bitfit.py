"""BitFit: every bias of the encoder is trained and every weight stays (Ben Zaken et al., 2022).

A method from language models, without any temporal operator: on frames it is spatial only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewshot_i2v.models.adapters.base.adapter import AdapterOptions
from fewshot_i2v.models.adapters.base.blockwise import BlockMaps, BlockwiseAdapter, rounded_like
from fewshot_i2v.models.adapters.base.layers import (
    broadcast_over_tokens,
    repeat_per_episode,
    scaled,
)
from fewshot_i2v.models.encoders.block import FrozenBlock, LayerNorm
from fewshot_i2v.models.encoders.tower import Tower


class _BlockBiases(BlockMaps):
    """The biases of one block, on the scale of the pretrained model."""

    def __init__(self, frozen: FrozenBlock, episodes: int) -> None:
        super().__init__()
        self.norm_1 = _EpisodeBias(frozen.norm_1.bias, episodes)
        self.qkv_bias = _EpisodeBias(frozen.qkv_bias, episodes)
        self.out_bias = _EpisodeBias(frozen.out_bias, episodes)
        self.norm_2 = _EpisodeBias(frozen.norm_2.bias, episodes)
        self.fc_bias = _EpisodeBias(frozen.fc_bias, episodes, frozen.activation_gain)
        self.proj_bias = _EpisodeBias(frozen.proj_bias, episodes)

    def ln_1(self, frozen: FrozenBlock, x: Tensor) -> Tensor:
        """The layer norm before the attention with the trained bias."""
        return self.norm_1.apply_norm(frozen.norm_1, x)

    def qkv(self, frozen: FrozenBlock, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values with trained biases."""
        return frozen.split_qkv(self.qkv_bias.apply_linear(frozen.qkv_weight, u))

    def out(self, frozen: FrozenBlock, u: Tensor) -> Tensor:
        """The output projection with the trained bias."""
        return self.out_bias.apply_linear(frozen.out_weight, u)

    def ln_2(self, frozen: FrozenBlock, x: Tensor) -> Tensor:
        """The layer norm before the MLP with the trained bias."""
        return self.norm_2.apply_norm(frozen.norm_2, x)

    def fc(self, frozen: FrozenBlock, u: Tensor) -> Tensor:
        """The first layer of the MLP with the trained bias."""
        return self.fc_bias.apply_linear(frozen.fc_weight, u)

    def proj(self, frozen: FrozenBlock, hidden: Tensor) -> Tensor:
        """The second layer of the MLP with the trained bias."""
        return self.proj_bias.apply_linear(frozen.proj_weight, hidden)

    def merge_block(self, frozen: FrozenBlock, episode: int) -> FrozenBlock:
        """The block with one episode's biases."""
        return replace(
            frozen,
            norm_1=self.norm_1.merged_norm(frozen.norm_1, episode),
            qkv_bias=self.qkv_bias.merged_bias(frozen.qkv_bias, episode),
            out_bias=self.out_bias.merged_bias(frozen.out_bias, episode),
            norm_2=self.norm_2.merged_norm(frozen.norm_2, episode),
            fc_bias=self.fc_bias.merged_bias(frozen.fc_bias, episode),
            proj_bias=self.proj_bias.merged_bias(frozen.proj_bias, episode),
        )


class _EpisodeBias(nn.Module):
    """A trained bias, (E, C), that starts as a copy of a frozen one divided by `gain`."""

    def __init__(self, frozen: Tensor, episodes: int, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain
        self.value = nn.Parameter(repeat_per_episode(frozen, episodes) / gain)

    def forward(self, y: Tensor) -> Tensor:
        """(E, ..., C) with `gain` times the bias added."""
        # on the bias, the gain costs no pass over the gradient of y
        return y + broadcast_over_tokens(scaled(self.value, self.gain, y.dtype), y)

    def _of_one_episode(self, dtype: torch.dtype) -> Tensor | None:
        """The bias times `gain`, (C,), where there is one episode: then maps can add it inside."""
        return scaled(self.value[0], self.gain, dtype) if len(self.value) == 1 else None

    def apply_linear(self, weight: Tensor, u: Tensor) -> Tensor:
        """Applies a frozen linear map with this bias, (E, ..., inputs) -> (E, ..., C)."""
        bias = self._of_one_episode(u.dtype)
        y = functional.linear(u, weight, bias)
        return self.forward(y) if bias is None else y

    def apply_norm(self, norm: LayerNorm, x: Tensor) -> Tensor:
        """Applies a frozen layer norm with this bias in place of the frozen one, (E, ..., D)."""
        # after the last block x is float32 and the tower may be bfloat16
        weight, bias = norm.weight.to(x.dtype), self._of_one_episode(x.dtype)
        if bias is not None:
            return functional.layer_norm(x, weight.shape, weight, bias, norm.eps)
        return self.forward(functional.layer_norm(x, weight.shape, weight, None, norm.eps))

    def merged_bias(self, frozen: Tensor, episode: int) -> Tensor:
        """Returns one episode's bias on the scale that the frozen block uses, (C,)."""
        return rounded_like(self.value[episode].double() * self.gain, frozen)

    def merged_norm(self, norm: LayerNorm, episode: int) -> LayerNorm:
        """Returns the frozen norm with one episode's bias."""
        return replace(norm, bias=self.merged_bias(norm.bias, episode))


class BitFit(BlockwiseAdapter):
    """Copies of all bias vectors are trained; weight matrices and norm scales stay frozen.

    With tokens x of (E, clips, T, N + 1, D), each block is the pretrained one,

        x <- x + attend(ln_1(x));  x <- x + mlp(ln_2(x))

    in which the biases of `qkv`, `out`, `fc`, `proj` and of both norms are trained per episode, as
    are those of `ln_pre` (where the encoder has one) and `ln_post`. The patch embedding has no
    bias; class token and positions are not biases and stay. Biases keep the scale of the pretrained
    model. That of the keys adds the same number to all scores of a query and so has no effect; it
    counts. The clip feature is the mean over T of `ln_post` of the class token. Frames never meet
    and their order cannot matter. The paper is about language models: vision is our use.

    Initial values: the pretrained biases, so that the untrained encoder is the frozen one; every
    seed starts with the same values.

    Parameters of an episode: 11 D L + 2 D, 102,912 for ViT-B/16; 0 after merging.
    """

    source = (
        "Ben Zaken, Goldberg, Ravfogel, BitFit: Simple Parameter-efficient Fine-tuning for "
        "Transformer-based Masked Language-models, ACL 2022, https://arxiv.org/abs/2106.10199"
    )
    citation = """
    @inproceedings{benzaken2022bitfit,
      author = {{Ben Zaken}, Elad and Goldberg, Yoav and Ravfogel, Shauli},
      title = {{BitFit}: Simple Parameter-efficient Fine-tuning for Transformer-based Masked
        Language-models},
      booktitle = {Annual Meeting of the Association for Computational Linguistics (Short Papers)},
      pages = {1--9},
      year = {2022},
      url = {https://arxiv.org/abs/2106.10199},
    }
    """
    identity_at_init = True
    frame_order = "no"
    display_note = "spatial only"

    def __init__(
        self, tower: Tower, options: AdapterOptions, *, frames: int, seeds: Sequence[int]
    ) -> None:
        super().__init__(tower, options, frames=frames, seeds=seeds)
        norm_pre = tower.norm_pre
        self.norm_pre = None if norm_pre is None else _EpisodeBias(norm_pre.bias, self.episodes)
        self.set_block_maps(_BlockBiases(block, self.episodes) for block in tower.blocks)
        self.norm_post = _EpisodeBias(tower.norm_post.bias, self.episodes)

    def embed_tokens(self, tower: Tower, x: Tensor) -> Tensor:
        """Applies `ln_pre` with the trained bias, where the encoder has one."""
        if tower.norm_pre is None or self.norm_pre is None:
            return x
        return self.norm_pre.apply_norm(tower.norm_pre, x)

    def final_norm(self, tower: Tower, x: Tensor) -> Tensor:
        """`ln_post` with the trained bias, (E, ..., D), in float32."""
        return self.norm_post.apply_norm(tower.norm_post, x.float())

    def merge_outer_layers(self, tower: Tower, episode: int) -> Tower:
        """Merges one episode's biases into the tower's first and last norm."""
        norm_pre = tower.norm_pre
        if norm_pre is not None and self.norm_pre is not None:
            norm_pre = self.norm_pre.merged_norm(norm_pre, episode)
        return replace(
            tower, norm_pre=norm_pre, norm_post=self.norm_post.merged_norm(tower.norm_post, episode)
        )
