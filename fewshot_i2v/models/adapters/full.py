"""Full fine-tuning: every weight of the encoder is trained, per episode; the upper cost.

A baseline, without any temporal operator: on frames it is spatial only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from fewshot_i2v.errors import AdapterError
from fewshot_i2v.models.adapters.base.adapter import AdapterOptions
from fewshot_i2v.models.adapters.base.blockwise import BlockMaps, BlockwiseAdapter, rounded_like
from fewshot_i2v.models.adapters.base.layers import (
    EpisodeLayerNorm,
    episode_affine,
    repeat_per_episode,
)
from fewshot_i2v.models.encoders.block import FrozenBlock, LayerNorm
from fewshot_i2v.models.encoders.tower import Tower


class _TrainableLinear(nn.Module):
    """A trained linear map that starts as a frozen one.

    The frozen block stores the pretrained weight and bias multiplied by a gain each; the trained
    parameters do not include these gains.

    Args:
        weight: frozen, (outputs, inputs).
        bias: frozen, (outputs,).
        episodes: copies E.
        gain: the block's factor of the weight.
        bias_gain: the block's factor of the bias.

    Attributes:
        weight: (E, inputs, outputs), contiguous.
        bias: (E, outputs).
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        episodes: int,
        gain: float = 1.0,
        bias_gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.gain, self.bias_gain = gain, bias_gain
        self.weight = nn.Parameter(repeat_per_episode(weight.T, episodes) / gain)
        self.bias = nn.Parameter(repeat_per_episode(bias, episodes) / bias_gain)

    def forward(self, u: Tensor) -> Tensor:
        """Applies the block's map: (E, ..., inputs) -> (E, ..., outputs)."""
        return episode_affine(u, self.weight, self.bias, self.gain, self.bias_gain)

    def merged_weights(self, weight: Tensor, bias: Tensor, episode: int) -> tuple[Tensor, Tensor]:
        """Returns one episode's weight and bias on the scale that the frozen block uses."""
        merged_weight = self.weight[episode].double().T * self.gain
        return rounded_like(merged_weight, weight), rounded_like(
            self.bias[episode].double() * self.bias_gain, bias
        )


class _TrainableBlock(BlockMaps):
    """All parameters of one block, on the scale of the pretrained model."""

    def __init__(self, frozen: FrozenBlock, episodes: int) -> None:
        super().__init__()
        gain = frozen.activation_gain
        self.norm_1 = EpisodeLayerNorm(frozen.norm_1, episodes)
        self.attn_in = _TrainableLinear(frozen.qkv_weight, frozen.qkv_bias, episodes)
        self.attn_out = _TrainableLinear(frozen.out_weight, frozen.out_bias, episodes)
        self.norm_2 = EpisodeLayerNorm(frozen.norm_2, episodes)
        self.mlp_in = _TrainableLinear(frozen.fc_weight, frozen.fc_bias, episodes, gain, gain)
        self.mlp_out = _TrainableLinear(frozen.proj_weight, frozen.proj_bias, episodes, 1 / gain)

    def ln_1(self, frozen: FrozenBlock, x: Tensor) -> Tensor:
        """The trained layer norm before the attention."""
        return self.norm_1.forward(x)

    def qkv(self, frozen: FrozenBlock, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values."""
        return frozen.split_qkv(self.attn_in(u))

    def out(self, frozen: FrozenBlock, u: Tensor) -> Tensor:
        """The trained output projection."""
        return self.attn_out.forward(u)

    def ln_2(self, frozen: FrozenBlock, x: Tensor) -> Tensor:
        """The trained layer norm before the MLP."""
        return self.norm_2.forward(x)

    def fc(self, frozen: FrozenBlock, u: Tensor) -> Tensor:
        """The trained first layer of the MLP."""
        return self.mlp_in.forward(u)

    def proj(self, frozen: FrozenBlock, hidden: Tensor) -> Tensor:
        """The trained second layer of the MLP."""
        return self.mlp_out.forward(hidden)

    def merge_block(self, frozen: FrozenBlock, episode: int) -> FrozenBlock:
        """The block with one episode's weights."""
        qkv = self.attn_in.merged_weights(frozen.qkv_weight, frozen.qkv_bias, episode)
        out = self.attn_out.merged_weights(frozen.out_weight, frozen.out_bias, episode)
        fc = self.mlp_in.merged_weights(frozen.fc_weight, frozen.fc_bias, episode)
        proj = self.mlp_out.merged_weights(frozen.proj_weight, frozen.proj_bias, episode)
        return replace(
            frozen,
            norm_1=_merged_norm(self.norm_1, frozen.norm_1, episode),
            qkv_weight=qkv[0],
            qkv_bias=qkv[1],
            out_weight=out[0],
            out_bias=out[1],
            norm_2=_merged_norm(self.norm_2, frozen.norm_2, episode),
            fc_weight=fc[0],
            fc_bias=fc[1],
            proj_weight=proj[0],
            proj_bias=proj[1],
        )


class Full(BlockwiseAdapter):
    """The whole tower, trained from the pretrained weights, one copy per episode.

    With pixels of (E, clips, T, 3, H, W), every frame goes through the pretrained network,

        x <- ln_pre([class token; patches(pixels)] + positions)
        x <- x + attend(ln_1(x));  x <- x + mlp(ln_2(x))          in each block

    in which every parameter is trained per episode: patch embedding, class token, positions, all
    norms and all linear maps. The projection into the space of class names, where the encoder has
    one, lies behind these features and stays frozen. The clip feature is the mean over T of
    `ln_post` of the class token. Frames never meet and their order cannot matter.

    This is the honest upper cost: as many parameters as the encoder has, four times their memory
    with gradients and AdamW's two moments (1.4 GB per episode for ViT-B/16, 4.9 GB for ViT-L/14),
    nothing that could be computed once per clip, and gradients through the whole encoder. Episodes
    are therefore tuned one at a time by default. A few clips hardly determine so many values:
    learning rates need to be far below an adapter's (ViFi-CLIP, which tunes all of CLIP on a few
    clips per class, trains at 2e-6).

    Parameters are on the scale of the pretrained model (where the tower has folded a constant into
    its weights, it is taken out again), so that learning rates and weight decay mean what they mean
    elsewhere. Biases, norms, class token and positions have no weight decay. Where the encoder has
    layer scale, it is part of the maps it follows.

    Initial values: the pretrained weights, so that the untrained encoder is the frozen one; every
    seed starts with the same values.

    Parameters of an episode: all of the tower's, 85,799,424 for ViT-B/16 and 303,179,776 for
    ViT-L/14; 0 after merging.
    """

    source = (
        "Fine-tuning of the whole encoder of Radford, Kim, Hallacy et al., Learning Transferable "
        "Visual Models From Natural Language Supervision, ICML 2021, "
        "https://arxiv.org/abs/2103.00020"
    )
    identity_at_init = True
    frame_order = "no"
    display_note = "spatial only"
    one_episode_at_a_time = True
    no_weight_decay = ("class_token", "positions")

    def __init__(
        self, tower: Tower, options: AdapterOptions, *, frames: int, seeds: Sequence[int]
    ) -> None:
        super().__init__(tower, options, frames=frames, seeds=seeds)
        episodes, norm_pre = self.episodes, tower.norm_pre
        self.patch_weight = nn.Parameter(
            repeat_per_episode(tower.patch_weight.flatten(1).T, episodes)
        )
        self.class_token = nn.Parameter(repeat_per_episode(tower.class_token, episodes))
        self.positions = nn.Parameter(repeat_per_episode(tower.positions, episodes))
        self.norm_pre = None if norm_pre is None else EpisodeLayerNorm(norm_pre, episodes)
        self.set_block_maps(_TrainableBlock(block, episodes) for block in tower.blocks)
        self.norm_post = EpisodeLayerNorm(tower.norm_post, episodes)

    @property
    def first_trained_block(self) -> int:
        """-1: even the patch embedding is trained, and only pixels never change."""
        return -1

    def patch_embed(self, tower: Tower, pixels: Tensor) -> Tensor:
        """Applies the trained patch, class and positional embedding.

        Where patches do not fill the image, the remaining pixels at the right and bottom are
        ignored, as in a convolution.

        Raises:
            AdapterError: when the pixels have another size.
        """
        image_size, grid_side, patch = tower.image_size, tower.grid, tower.patch
        if pixels.shape[-2:] != (image_size, image_size):
            actual = tuple(pixels.shape[-2:])
            raise AdapterError(
                f"got frames of {actual} pixels; this tower takes {image_size} x {image_size}"
            )
        _, clips, frames, *_ = pixels.shape
        covered = grid_side * patch
        rows = rearrange(
            pixels[..., :covered, :covered],
            "e clips t rgb (h p) (w q) -> e (clips t h w) (rgb p q)",
            p=patch,
            q=patch,
        )
        patches = torch.bmm(rows, self.patch_weight.to(rows.dtype))
        patches = rearrange(patches, "e (clips t n) d -> e clips t n d", clips=clips, t=frames)
        class_tokens = repeat(
            self.class_token.to(patches.dtype), "e d -> e clips t 1 d", clips=clips, t=frames
        )
        tokens = torch.cat([class_tokens, patches], -2)
        return tokens + rearrange(self.positions.to(tokens.dtype), "e n d -> e 1 1 n d")

    def embed_tokens(self, tower: Tower, x: Tensor) -> Tensor:
        """Applies the trained `ln_pre`, where the encoder has one."""
        return x if self.norm_pre is None else self.norm_pre.forward(x)

    def final_norm(self, tower: Tower, x: Tensor) -> Tensor:
        """The trained `ln_post`, (E, ..., D), in float32."""
        return self.norm_post.forward(x.float())

    def merge_outer_layers(self, tower: Tower, episode: int) -> Tower:
        """Merges one episode's patch embedding and outer norms into the tower."""
        patch_weight = self.patch_weight[episode].T.reshape(tower.patch_weight.shape)
        norm_pre = tower.norm_pre
        if norm_pre is not None and self.norm_pre is not None:
            norm_pre = _merged_norm(self.norm_pre, norm_pre, episode)
        return replace(
            tower,
            patch_weight=rounded_like(patch_weight, tower.patch_weight),
            class_token=rounded_like(self.class_token[episode], tower.class_token),
            positions=rounded_like(self.positions[episode], tower.positions),
            norm_pre=norm_pre,
            norm_post=_merged_norm(self.norm_post, tower.norm_post, episode),
        )


def _merged_norm(trained: EpisodeLayerNorm, frozen: LayerNorm, episode: int) -> LayerNorm:
    """Returns one episode's layer norm as a frozen one."""
    weight = rounded_like(trained.weight[episode], frozen.weight)
    return LayerNorm(weight, rounded_like(trained.bias[episode], frozen.bias), frozen.eps)
