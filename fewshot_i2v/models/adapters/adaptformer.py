"""AdaptFormer: a bottleneck beside the MLP of every block (Chen et al., 2022); spatial only.

On an encoder that sees one frame at a time it has no operator over time at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from fewshot_i2v.models.adapters.base.adapter import Adapter, AdapterOptions, Preset
from fewshot_i2v.models.adapters.base.layers import (
    Bottleneck,
    check_hidden_width,
    initial_layer_norm,
    kaiming_uniform,
)
from fewshot_i2v.models.encoders.block import FrozenBlock, read_tokens
from fewshot_i2v.models.encoders.tower import Tower


class AdaptFormerOptions(AdapterOptions):
    """Options of AdaptFormer.

    Attributes:
        hidden: channels h of the bottleneck, at least 1.
        scale: factor s of the adapter's branch, above 0.
        layernorm: "none" (the adapter reads the residual stream as it is: the released code's
            default) or "in" (through a trained layer norm of its own: the paper's equation).
    """

    hidden: int = Field(default=64, ge=1)
    scale: float = Field(default=0.1, gt=0, le=1000)
    layernorm: Literal["none", "in"] = "none"


class AdaptFormer(Adapter):
    """A bottleneck parallel to the MLP, without any temporal operator.

    With tokens x of (E, clips, T, N + 1, D) and `A(u) = s (W2 relu(W1 u + b1) + b2)`, width h = 64
    and s = 0.1:

        x <- x + attend(ln_1(x))
        x <- x + mlp(ln_2(x)) + A(x)

    A reads the residual stream before `ln_2`; with layernorm="in" through a layer norm of its own,
    trained from weight 1 and bias 0. `ln_post` stays frozen. The clip feature is the mean over T
    of `ln_post` of the class token.

    Frames never meet and their order cannot matter, here or after any training. The published video
    model is another one: a VideoMAE encoder, whose joint attention over space and time brings
    frames together. Name results here "AdaptFormer (spatial only)".

    Initial values: W1 Kaiming-uniform with a = sqrt(5); W2 and both biases zero, so that the
    untrained encoder is the frozen one, exactly. The released video model does not start there: it
    initialises all linear layers again after its adapters. Dropout, 0.1 within the adapter in the
    released image model and 0 in the video model, is left out.

    Parameters of an episode: L (2 D h + h + D), and 2 D L more with layernorm="in"; 1,189,632 for
    ViT-B/16.
    """

    Options = AdaptFormerOptions
    source = (
        "Chen, Ge, Tong, Wang, Song, Wang, Luo, AdaptFormer: Adapting Vision Transformers for "
        "Scalable Visual Recognition, NeurIPS 2022, https://arxiv.org/abs/2205.13535"
    )
    citation = """
    @inproceedings{chen2022adaptformer,
      author = {Chen, Shoufa and Ge, Chongjian and Tong, Zhan and Wang, Jiangliu and Song, Yibing
        and Wang, Jue and Luo, Ping},
      title = {{AdaptFormer}: Adapting Vision Transformers for Scalable Visual Recognition},
      booktitle = {Advances in Neural Information Processing Systems},
      year = {2022},
      url = {https://arxiv.org/abs/2205.13535},
    }
    """
    identity_at_init = True
    frame_order = "no"
    display_note = "spatial only"
    presets = MappingProxyType(
        {
            "released-64": Preset(
                {"hidden": 64, "scale": 0.1, "layernorm": "none"},
                "AdaptFormer-64 as released for images and video: ShoufaChen/AdaptFormer at "
                "6967d676, models/adapter.py and main_{video,image}.py (dropout left out; the "
                "encoders there are MAE and VideoMAE)",
            )
        }
    )
    options: AdaptFormerOptions

    def __init__(
        self, tower: Tower, options: AdaptFormerOptions, *, frames: int, seeds: Sequence[int]
    ) -> None:
        super().__init__(tower, options, frames=frames, seeds=seeds)
        width, hidden = tower.width, options.hidden
        check_hidden_width("adaptformer hidden", hidden, width)
        self.parallel = nn.ModuleList(
            Bottleneck(
                self.generators,
                width,
                hidden,
                activation="relu",
                scale=options.scale,
                init=kaiming_uniform,
            )
            for _ in tower.blocks
        )
        self.norm: nn.ModuleList | None = None
        if options.layernorm == "in":
            self.norm = nn.ModuleList(
                initial_layer_norm(self.episodes, width) for _ in tower.blocks
            )

    def block(
        self, i: int, frozen: FrozenBlock, x: Tensor, *, class_token_only: bool = False
    ) -> Tensor:
        """Computes block i with the adapter parallel to its MLP."""
        attended = frozen.self_attention(frozen.ln_1(x), class_token_only=class_token_only)
        x = read_tokens(x, class_token_only) + attended
        u = x if self.norm is None else self.norm[i](x)
        y: Tensor = x + frozen.mlp(frozen.ln_2(x)) + self.parallel[i](u)
        return y

    def class_token_block(self, i: int, frozen: FrozenBlock, x: Tensor) -> Tensor:
        """The class token after block i, without what does not reach it."""
        return self.block(i, frozen, x, class_token_only=True)
