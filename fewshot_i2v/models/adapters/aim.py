"""AIM: the frozen attention used over time as well, with bottleneck adapters (Yang et al., 2023).

One set of frozen attention weights serves twice: first along the frames of each token, then along
the tokens of each frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

from einops import rearrange
from pydantic import Field
from torch import Tensor, nn

from fewshot_i2v.models.adapters.base.adapter import AdapterOptions, Preset
from fewshot_i2v.models.adapters.base.frame_embedding import FrameEmbeddingAdapter
from fewshot_i2v.models.adapters.base.layers import (
    Bottleneck,
    EpisodeLayerNorm,
    TemporalEmbedding,
    hidden_width,
)
from fewshot_i2v.models.encoders.block import FrozenBlock, read_tokens
from fewshot_i2v.models.encoders.tower import Tower


class AIMOptions(AdapterOptions):
    """Options of AIM.

    Attributes:
        temporal_adapters: 1 (after the temporal attention; the paper's choice for Kinetics and
            Diving48) or 2 (before it too; Something-Something v2).
        scale: factor of the adapter beside the MLP, above 0 (0.5 in the paper, 1 for
            Something-Something v2).
        ratio: bottleneck width over D, above 0 and at most 1.
    """

    temporal_adapters: int = Field(default=1, ge=1, le=2)
    scale: float = Field(default=0.5, gt=0, le=1000)
    ratio: float = Field(default=0.25, gt=0, le=1)


def _published_preset(data: str, configs: str, temporal_adapters: int, scale: float) -> Preset:
    """Preset with the values of the authors' configuration files for one data set."""
    options = {"temporal_adapters": temporal_adapters, "scale": scale, "ratio": 0.25}
    code = "https://github.com/taoyang1122/adapt-image-models, configs/recognition/vit"
    return Preset(options, f"AIM on {data}; {code}/{configs}")


_PRESETS = MappingProxyType(
    {
        "k400": _published_preset("Kinetics-400", "vitclip_*_k400.py", 1, 0.5),
        "diving48": _published_preset("Diving48", "vitclip_*_diving48.py", 1, 0.5),
        "ssv2": _published_preset(
            "Something-Something v2",
            "vitclip_base_sthv2.py; vitclip_large_sthv2.py leaves num_tadapter=2 out, and so "
            "trains 38 M parameters of ViT-L/14 where the paper reports 50 M: this preset has the "
            "two adapters of the paper for both sizes, and temporal_adapters=1 is that file",
            2,
            1.0,
        ),
    }
)


class AIM(FrameEmbeddingAdapter):
    """Temporal, spatial and joint adaptation of every block, in this order.

    With tokens x of (E, clips, T, N + 1, D), `A(u) = W2 gelu(W1 u + b1) + b2` (exact GELU, width
    h = D / 4) and the block's frozen attention and norms in both places:

        x <- x + A_T(attend_over_T([u + A_Tin(u)]))     u = ln_1(x), every token, class token too
        x <- x + a + A_S(a)                             a = attend(ln_1(x))
        x <- x + mlp(u) + s A_M(u)                      u = ln_2(x)

    Biases have no weight decay here, as for every adapter (see `split_weight_decay`), so that rows
    differ in the adapter alone; the authors' configurations let the adapters' biases decay like the
    weights.

    A zero-initialised temporal embedding (with weight decay, as in the authors' configurations for
    CLIP) is added before `ln_pre`, and a copy of `ln_post` is trained. The clip feature is the mean
    over T of `ln_post` of the class token. The order of the frames can enter through the temporal
    embedding alone.

    Initial values: W1 truncated normal of 0.02; W2 and all biases zero, so that the untrained
    encoder is the frozen one. Stochastic depth (up to 0.2 in the paper) is left out: on the few
    clips of an episode it would drop whole classes from a step.

    Parameters of an episode: k L (2 D h + h + D) + T D + 2 D with k = 3 or 4 adapters in each of
    L blocks; 10,659,072 and 14,209,536 for ViT-B/16 and T = 8.

    Presets, for every size of encoder: "k400" and "diving48" (one temporal adapter, scale 0.5),
    "ssv2" (two, scale 1).
    """

    Options = AIMOptions
    source = (
        "Yang, Zhu, Xie, Zhang, Chen, Li, AIM: Adapting Image Models for Efficient Video Action "
        "Recognition, ICLR 2023, https://arxiv.org/abs/2302.03024"
    )
    citation = """
    @inproceedings{yang2023aim,
      author = {Yang, Taojiannan and Zhu, Yi and Xie, Yusheng and Zhang, Aston and Chen, Chen and
        Li, Mu},
      title = {{AIM}: Adapting Image Models for Efficient Video Action Recognition},
      booktitle = {International Conference on Learning Representations},
      year = {2023},
      url = {https://arxiv.org/abs/2302.03024},
    }
    """
    identity_at_init = True
    frame_order = "embedding"
    presets = _PRESETS

    def __init__(
        self, tower: Tower, options: AIMOptions, *, frames: int, seeds: Sequence[int]
    ) -> None:
        super().__init__(tower, options, frames=frames, seeds=seeds)
        width, hidden = tower.width, hidden_width(tower.width, options.ratio)

        def _bottlenecks(*, skip: bool, scale: float = 1.0) -> nn.ModuleList:
            return nn.ModuleList(
                Bottleneck(
                    self.generators, width, hidden, activation="gelu", skip=skip, scale=scale
                )
                for _ in tower.blocks
            )

        self.temporal_embedding = TemporalEmbedding(self.episodes, frames, width)
        self.ln_post = EpisodeLayerNorm(tower.norm_post, self.episodes)
        self.temporal_out = _bottlenecks(skip=False)
        self.spatial = _bottlenecks(skip=True)
        self.joint = _bottlenecks(skip=False, scale=options.scale)
        self.temporal_in = (
            _bottlenecks(skip=True)
            if options.temporal_adapters == 2
            else nn.ModuleList(nn.Identity() for _ in tower.blocks)
        )

    @property
    def temporal_radius(self) -> int:
        """Every other frame of the clip: the attention over T is global."""
        return self.frames - 1

    def block(
        self, i: int, frozen: FrozenBlock, x: Tensor, *, class_token_only: bool = False
    ) -> Tensor:
        """Block i with attention over frames, over tokens, and an adapter beside the MLP."""
        # attention works along the second last axis: here the frames of each token
        u = self.temporal_in[i](rearrange(frozen.ln_1(x), "e clips t l d -> e clips l t d"))
        over_time = self.temporal_out[i](frozen.self_attention(u))
        x = x + rearrange(over_time, "e clips l t d -> e clips t l d")
        attended = frozen.self_attention(frozen.ln_1(x), class_token_only=class_token_only)
        x = read_tokens(x, class_token_only) + self.spatial[i](attended)
        u = frozen.ln_2(x)
        y: Tensor = x + frozen.mlp(u) + self.joint[i](u)
        return y

    def class_token_block(self, i: int, frozen: FrozenBlock, x: Tensor) -> Tensor:
        """The class token after block i, without what does not reach it."""
        return self.block(i, frozen, x, class_token_only=True)
