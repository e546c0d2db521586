"""M-adapter, a reconstruction: a branch beside the frozen tower (after Li et al., 2024).

No code is public and only the abstract was at hand. It fixes a branch parallel to the frozen
image model that reads the outputs of several of its levels, sends no gradient into it, and stacks
modules of a fusion and a temporal part. Operators and widths here are this package's choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from einops import rearrange
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from fewshot_i2v.errors import AdapterError
from fewshot_i2v.models.adapters.base.adapter import Adapter, AdapterOptions
from fewshot_i2v.models.adapters.base.frozen_prefix import GridSizes, PrefixSpec
from fewshot_i2v.models.adapters.base.layers import (
    EpisodeLayerNorm,
    EpisodeLinear,
    TemporalDepthwiseConv,
    TemporalEmbedding,
    check_hidden_width,
    init_per_episode,
    initial_layer_norm,
    kaiming_uniform,
    normed_linear,
    zeros,
)
from fewshot_i2v.models.encoders.block import FrozenBlock
from fewshot_i2v.models.encoders.tower import Tower


class MAdapterOptions(AdapterOptions):
    """Options of M-adapter.

    Attributes:
        width: channels r of the branch, at least 1; None for a quarter of the tower's width.
        every: which levels are read: every how many blocks, counted from the last; 1 for all, at
            most the number of blocks.
        tokens: "all" (every token of every level) or "summary" (the class token of every level
            alone, which is small enough to keep for every clip).
        temporal_embedding: whether a trained vector per frame, zero at first, is added to the
            first level. The adapter then takes clips of the number of frames it was built for.
        ln_post: whether a copy of the final layer norm is trained too.
    """

    width: int | None = Field(default=None, ge=1)
    every: int = Field(default=1, ge=1)
    tokens: Literal["all", "summary"] = "all"
    temporal_embedding: bool = False
    ln_post: bool = False


class _LevelProjection(nn.Module):
    """Projects a frozen level to the width of the branch: `W LN(X) + b`."""

    def __init__(self, generators: Sequence[torch.Generator], width: int, r: int) -> None:
        super().__init__()
        self.norm = initial_layer_norm(len(generators), width)
        self.linear = EpisodeLinear(generators, width, r, kaiming_uniform)

    def forward(self, x: Tensor) -> Tensor:
        """(E, clips, T, tokens, D) -> (E, clips, T, tokens, r)."""
        return normed_linear(self.norm, self.linear, x)


class _LevelMixer(nn.Module):
    """Temporal module and feed-forward layers that follow the fusion at a level."""

    def __init__(self, generators: Sequence[torch.Generator], r: int) -> None:
        super().__init__()
        episodes = len(generators)
        self.time_norm = initial_layer_norm(episodes, r)
        self.time_conv = TemporalDepthwiseConv(episodes, r)
        # `up` alone has to start at zero; a zero here as well would hold this path back by a step
        taps = init_per_episode(kaiming_uniform, generators, 3, r)
        self.time_conv.weight.data.copy_(rearrange(taps, "e tap r -> e r tap"))
        self.time_linear = EpisodeLinear(generators, r, r, kaiming_uniform)
        self.mlp_norm = initial_layer_norm(episodes, r)
        self.mlp_in = EpisodeLinear(generators, r, 2 * r, kaiming_uniform)
        self.mlp_out = EpisodeLinear(generators, 2 * r, r, kaiming_uniform)

    def forward(self, fused: Tensor) -> Tensor:
        """(E, clips, T, tokens, r) -> the same."""
        u = fused + self.time_linear(self.time_conv(self.time_norm(fused)))
        hidden = normed_linear(self.mlp_norm, self.mlp_in, u)
        y: Tensor = u + self.mlp_out(functional.gelu(hidden))
        return y


class MAdapter(Adapter):
    """A narrow branch over the levels of the frozen tower; a reconstruction (M-adapter-R).

    It is built from the paper's abstract, since no code is public and the text was not at hand;
    its results are not the paper's. With X_l of (E, clips, T, N + 1, D) the outputs of the blocks
    that are read, width r = D / 4 and `LN` fresh layer norms:

        P_l = W_l LN(X_l) + b_l                                        D -> r
        F_l = g_l H_(l-1) + (1 - g_l) P_l,  g_l = sigmoid(a_l)         F = P at the first level
        U_l = F_l + V_l conv(LN(F_l)) + c_l                            r -> r
        H_l = U_l + W''_l gelu(W'_l LN(U_l))                           r -> 2 r -> r
        f_t = ln_post(X_L[class] + Up(LN(v_t))),  v_t = (H_L[class] + mean of H_L[patches]) / 2

    `conv` is depthwise over frames t-1, t, t+1 of each token (frames outside the clip are zero),
    GELU is exact, and the clip feature is the mean of f_t over T. Tokens never meet but in v_t.
    Patch tokens, for heads that read a grid of them, are X_L[p] + Up(LN(H_L[p])). Encoders that
    average patch tokens instead of reading the class token have the mean of these as summary.

    With tokens="summary" the branch reads the summary of each frame and level alone (the class
    token, or the mean of the patch tokens): v_t is H_L of it, and patch tokens stay as they were.

    No gradient reaches the tower, which is evaluated once per clip and run, or with augmentation
    once per step. Initial values: `Up` and all biases zero, so that the untrained encoder is the
    frozen one, exactly; linear maps Kaiming-uniform with a = sqrt(5), and so are the three taps of
    each channel of `conv` (within 1 / sqrt(3)); a_l = 0. There is no dropout. None of these details
    is from the paper.

    Parameters of an episode: S (2 D + D r + 5 r^2 + 13 r + 1) + 2 r + r D + D for S levels,
    4,178,316 for ViT-B/16; T r more with `temporal_embedding` and 2 D with `ln_post`. The gate of
    the first level, which has none below it, counts and receives no gradient.
    """

    Options = MAdapterOptions
    source = (
        "Reconstruction after the abstract of Li, Xu, Wu, Li, Yang, Shen, Kittler, M-adapter: "
        "Multi-level image-to-video adaptation for video action recognition, Computer Vision and "
        "Image Understanding, vol. 249, article 104150, 2024, "
        "https://doi.org/10.1016/j.cviu.2024.104150"
    )
    citation = """
    @article{li2024madapter,
      author = {Li, Rongchang and Xu, Tianyang and Wu, Xiao-Jun and Li, Linze and Yang, Xiao and
        Shen, Zhongwei and Kittler, Josef},
      title = {{M-adapter}: Multi-level image-to-video adaptation for video action recognition},
      journal = {Computer Vision and Image Understanding},
      volume = {249},
      pages = {104150},
      year = {2024},
      url = {https://doi.org/10.1016/j.cviu.2024.104150},
    }
    """
    identity_at_init = True
    frame_order = "yes"
    display_note = "reconstruction"
    options: MAdapterOptions

    def __init__(
        self, tower: Tower, options: MAdapterOptions, *, frames: int, seeds: Sequence[int]
    ) -> None:
        super().__init__(tower, options, frames=frames, seeds=seeds)
        width, n_blocks = tower.width, tower.layers
        if options.every > n_blocks:
            raise AdapterError(
                f"m-adapter every={options.every}: this encoder has {n_blocks} blocks; give 1 (all "
                f"of them) to {n_blocks} (the last alone)"
            )
        r = options.width or max(1, width // 4)
        check_hidden_width("m-adapter width", r, width)
        self._n_blocks, self._has_class_token = n_blocks, tower.pool == "tok"
        self._levels = tuple(sorted(range(n_blocks - 1, -1, -options.every)))
        # sigmoid(0) = 1 / 2: what comes from below and the level itself count alike at first
        self.gates = nn.Parameter(torch.zeros(self.episodes, len(self._levels)))
        self.readers = nn.ModuleList(
            _LevelProjection(self.generators, width, r) for _ in self._levels
        )
        self.mixers = nn.ModuleList(_LevelMixer(self.generators, r) for _ in self._levels)
        self.up_norm = initial_layer_norm(self.episodes, r)
        self.up = EpisodeLinear(self.generators, r, width, zeros)
        self.temporal_embedding = (
            TemporalEmbedding(self.episodes, frames, r) if options.temporal_embedding else None
        )
        self.ln_post = EpisodeLayerNorm(tower.norm_post, self.episodes) if options.ln_post else None

    @property
    def first_trained_block(self) -> int:
        """The number of blocks: no block is ever computed again."""
        return self._n_blocks

    @property
    def temporal_radius(self) -> int:
        """One frame before and one after, at each level."""
        return min(1, self.frames - 1)

    def prefix_spec(self, grid_sizes: GridSizes = ()) -> PrefixSpec:
        """Describes the cached levels; adapters of any width or training share them."""
        return PrefixSpec(
            self._n_blocks, self._levels, self.options.tokens == "summary", grid_sizes
        )

    def block(self, i: int, frozen: FrozenBlock, x: Tensor) -> Tensor:
        """Block i as it was pretrained."""
        return frozen.forward(x)

    def side_branch(self, tower: Tower, levels: Tensor) -> Tensor:
        """Adds the branch to the last level, in float32.

        The tokens of `levels` are all N + 1, or with tokens="summary" the summary followed by the
        cells of the grid.
        """
        # whatever made the levels, nothing behind them is trained
        levels = levels.detach()
        last_level = levels.select(2, -1)
        if self.options.tokens == "summary":
            summary = last_level[..., :1, :] + self._project_up(
                self._run_branch(levels[..., :1, :])
            )
            return torch.cat([summary, last_level[..., 1:, :].float()], -2)
        h = self._run_branch(levels)
        if self._has_class_token:
            frame_summary = (h[..., :1, :] + h[..., 1:, :].mean(-2, keepdim=True)) / 2
            h = torch.cat([frame_summary, h[..., 1:, :]], -2)
        return last_level + self._project_up(h)

    def _run_branch(self, levels: Tensor) -> Tensor:
        """Computes H_L of every token: (E, clips, S, T, tokens, D) -> (E, clips, T, tokens, r)."""
        gates = rearrange(self.gates.sigmoid().to(levels.dtype), "e level -> level e 1 1 1 1")
        projected = (reader(x) for reader, x in zip(self.readers, levels.unbind(2), strict=True))
        lowest_level = next(projected)
        if self.temporal_embedding is not None:
            lowest_level = self.temporal_embedding(lowest_level)
        h: Tensor = self.mixers[0](lowest_level)
        for i, level in enumerate(projected, start=1):
            h = self.mixers[i](torch.lerp(level, h, gates[i]))
        return h

    def _project_up(self, h: Tensor) -> Tensor:
        """Projects to the tower's width, (..., r) -> (..., D); zero when untrained."""
        # the sum with the last level would round a small branch away in the tower's type
        return normed_linear(self.up_norm, self.up, h).float()

    def final_norm(self, tower: Tower, x: Tensor) -> Tensor:
        """Applies `ln_post` or its trained copy, (E, ..., D), in float32."""
        if self.ln_post is None:
            return super().final_norm(tower, x)
        return self.ln_post.forward(x.float())
