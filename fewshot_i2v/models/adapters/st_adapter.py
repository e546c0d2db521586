"""ST-Adapter: depthwise temporal convolution in a bottleneck on patch tokens (Pan et al., 2022).

The class token of a frame learns about other frames only through the spatial attention to the
patch tokens that the adapter has changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from fewshot_i2v.models.adapters.base.adapter import Adapter, AdapterOptions, Preset
from fewshot_i2v.models.adapters.base.layers import (
    EpisodeLinear,
    TemporalDepthwiseConv,
    check_hidden_width,
    kaiming_uniform,
)
from fewshot_i2v.models.encoders.block import FrozenBlock, read_tokens
from fewshot_i2v.models.encoders.tower import Tower

# The paper's width, for D = 768 and for D = 1024; narrower towers get half their own.
_PUBLISHED_WIDTH = 384
_CODE_URL = "https://github.com/linziyi96/st-adapter"


class STAdapterOptions(AdapterOptions):
    """Options of ST-Adapter.

    Attributes:
        width: channels C of the bottleneck, at least 1; None for half of the tower's width, but
            not more than the published 384.
        sites: "pre_mlp" (before every MLP, the published 12x384) or "both" (before every
            attention too, 24x384).
    """

    width: int | None = Field(default=None, ge=1)
    sites: Literal["pre_mlp", "both"] = "pre_mlp"


class _PatchBottleneck(nn.Module):
    """`x + mask * up(conv(down(x)))`, where the mask is 0 for the class token and 1 for patches."""

    patches: Tensor

    def __init__(self, generators: Sequence[torch.Generator], tokens: int, d: int, c: int) -> None:
        super().__init__()
        # `conv` alone starts at zero, and receives a gradient through `down` and `up`
        self.down = EpisodeLinear(generators, d, c, kaiming_uniform)
        self.conv = TemporalDepthwiseConv(len(generators), c)
        self.up = EpisodeLinear(generators, c, d, kaiming_uniform)
        # All rows are computed and one is masked: slicing would copy the tokens twice. The mask
        # must follow `up`, whose bias would otherwise reach the class token.
        mask = torch.ones(tokens, 1)
        mask[0] = 0.0
        self.register_buffer("patches", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Adapts the patch tokens of (E, clips, T, N + 1, D); the class token is unchanged."""
        return torch.addcmul(x, self.up(self.conv(self.down(x))), self.patches.to(x.dtype))


def _published_preset(sites: str, source: str) -> Preset:
    """Preset of one of the published placements, at the only published width."""
    return Preset({"width": _PUBLISHED_WIDTH, "sites": sites}, source)


_PRESETS = MappingProxyType(
    {
        "12x384": _published_preset(
            "pre_mlp",
            "ST-Adapter with ViT-B/16 on Kinetics-400; "
            f"{_CODE_URL}, scripts/train_k400_clip_vit_b16_adapter12x384.sh",
        ),
        "24x384": _published_preset(
            "both",
            "ST-Adapter with ViT-B/16 on Something-Something v2; "
            f"{_CODE_URL}, scripts/train_ssv2_clip_vit_b16_adapter24x384.sh",
        ),
        "l14-24x384": _published_preset(
            "pre_mlp",
            "ST-Adapter with ViT-L/14, whose 24 blocks have one adapter each. No script was "
            f"released ({_CODE_URL}): sites and width are inferred from the published GFLOPs",
        ),
    }
)


class STAdapter(Adapter):
    """A bottleneck with a depthwise convolution over time, on the residual stream.

    Before a sub-layer, patch tokens x of (E, clips, T, N, D) become
    `x + up(conv(down(x)))`, with `down` D -> C, `conv` over frames t-1, t, t+1 per channel (frames
    outside the clip are zero) and `up` C -> D; no activation, no layer norm. The class token
    passes unchanged. The clip feature is `ln_post` of the class token's mean over T, in this
    order; there is no temporal embedding and `ln_post` stays frozen.

    Initial values: `conv` and all biases zero, `down` and `up` Kaiming-uniform with a = sqrt(5); so
    tokens and frame features of the untrained encoder are the frozen one's, exactly. Its clip
    feature is not: the adapter `frozen` has the mean over T of `ln_post`, and the published order
    of mean and norm is another (by 11 % of the length, on average over generated clips with the
    encoder `demo`).

    Parameters of an episode: S (2 D C + 5 C + D) for S sites (one or two per block); 7,110,144 for
    ViT-B/16 with "pre_mlp", 14,220,288 with "both". The last block's `pre_mlp` adapter counts, but
    what reads the class token alone never sees its effect, and it then receives no gradient.

    Presets, named by sites and width: "12x384" (before every MLP) and "24x384" (before every
    attention too) of ViT-B/16, "l14-24x384" (before every MLP) of ViT-L/14. Clips may have another
    number of frames than the adapter was built for: no parameter depends on it.
    """

    Options = STAdapterOptions
    source = (
        "Pan, Lin, Zhu, Shao, Li, ST-Adapter: Parameter-Efficient Image-to-Video Transfer "
        "Learning, NeurIPS 2022, https://arxiv.org/abs/2206.13559"
    )
    citation = """
    @inproceedings{pan2022stadapter,
      author = {Pan, Junting and Lin, Ziyi and Zhu, Xiatian and Shao, Jing and Li, Hongsheng},
      title = {{ST-Adapter}: Parameter-Efficient Image-to-Video Transfer Learning},
      booktitle = {Advances in Neural Information Processing Systems},
      year = {2022},
      url = {https://arxiv.org/abs/2206.13559},
    }
    """
    identity_at_init = True
    frame_order = "yes"
    presets = _PRESETS

    def __init__(
        self, tower: Tower, options: STAdapterOptions, *, frames: int, seeds: Sequence[int]
    ) -> None:
        super().__init__(tower, options, frames=frames, seeds=seeds)
        width = options.width or max(1, min(tower.width // 2, _PUBLISHED_WIDTH))
        check_hidden_width("st-adapter width", width, tower.width)
        tokens = tower.tokens

        def _bottlenecks() -> nn.ModuleList:
            bottlenecks = (
                _PatchBottleneck(self.generators, tokens, tower.width, width) for _ in tower.blocks
            )
            return nn.ModuleList(bottlenecks)

        self.pre_mlp = _bottlenecks()
        self.pre_attn = _bottlenecks() if options.sites == "both" else None

    @property
    def temporal_radius(self) -> int:
        """One frame before and one after."""
        return min(1, self.frames - 1)

    def block(
        self, i: int, frozen: FrozenBlock, x: Tensor, *, class_token_only: bool = False
    ) -> Tensor:
        """Computes block i with an adapter before the MLP, with "both" before attention too."""
        if self.pre_attn is not None:
            x = self.pre_attn[i](x)
        attended = frozen.self_attention(frozen.ln_1(x), class_token_only=class_token_only)
        x = read_tokens(x, class_token_only) + attended
        if not class_token_only:  # which would pass unchanged
            x = self.pre_mlp[i](x)
        return x + frozen.mlp(frozen.ln_2(x))

    def class_token_block(self, i: int, frozen: FrozenBlock, x: Tensor) -> Tensor:
        """The class token after block i, without what does not reach it."""
        return self.block(i, frozen, x, class_token_only=True)

    def pool_frames(self, tower: Tower, summary: Tensor) -> tuple[Tensor, Tensor]:
        """Applies `ln_post` to the frames, and to their mean over T for the clip feature."""
        # a mean over T in the tower's type would be rounded before the norm
        exact = summary.float()
        return self.final_norm(tower, exact), self.final_norm(tower, exact.mean(-2))
