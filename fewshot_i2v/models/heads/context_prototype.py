"""Class means in order, after a small transformer over the frames of each clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from einops import rearrange
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from fewshot_i2v.errors import HeadError
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.adapters.base.layers import (
    EpisodeLinear,
    init_per_episode,
    initial_layer_norm,
    trunc_normal,
    zeros,
)
from fewshot_i2v.models.heads.prototype import PrototypeHead, PrototypeOptions

# copies of a token that the layer stores for the backward pass, counted: around both norms and the
# hidden channels; and of queries, keys, values and what they give
_TOKEN_COPIES, _ATTENTION_COPIES = 10, 5


class TemporalLayer(nn.Module):
    """A pre-norm transformer layer over the frames of each token, per episode.

    `y = x + attention(norm(x) + embedding)`, then `y + mlp(norm(y))`, for a token at one place of
    the picture in all T frames. The last maps of both branches start at zero, so that the untrained
    layer changes nothing. The embedding enters the branch only, never the sum.

    Args:
        generators: one per episode; E of them.
        frames: frames T of a clip.
        width: channels D of a token.
        heads: attention heads.

    Attributes:
        embedding: learned, of the frames, (E, T, D).
    """

    def __init__(
        self, generators: Sequence[torch.Generator], *, frames: int, width: int, heads: int
    ) -> None:
        super().__init__()
        episodes, self.heads = len(generators), heads
        self.channels = heads * max(1, width // heads)
        self.embedding = nn.Parameter(init_per_episode(trunc_normal, generators, frames, width))
        self.norm_1, self.norm_2 = (initial_layer_norm(episodes, width) for _ in range(2))
        self.qkv = EpisodeLinear(generators, width, 3 * self.channels)
        self.out = EpisodeLinear(generators, self.channels, width, zeros)
        self.up = EpisodeLinear(generators, width, width)
        self.down = EpisodeLinear(generators, width, width, zeros)

    def forward(self, x: Tensor) -> Tensor:
        """Applies the layer to tokens (E, n, T, D); same shape."""
        x = x + self._attend(self.norm_1(x) + self.embedding.unsqueeze(1))
        hidden: Tensor = functional.gelu(self.up(self.norm_2(x)))
        y: Tensor = x + self.down(hidden)
        return y

    def _attend(self, x: Tensor) -> Tensor:
        q, k, v = rearrange(self.qkv(x), "e n t (k h c) -> k e n h t c", k=3, h=self.heads)
        # written out: few frames, and the fused kernels have no second derivative
        weights = ((q * q.shape[-1] ** -0.5) @ k.mT).softmax(-1)
        attended: Tensor = self.out(rearrange(weights @ v, "e n h t c -> e n t (h c)"))
        return attended

    def saved_per_token(self) -> int:
        """Values that a token in a frame stores for the backward pass."""
        frames, width = self.embedding.shape[1:]
        attention = _ATTENTION_COPIES * self.channels + self.heads * frames
        return _TOKEN_COPIES * width + attention


class ContextPrototypeOptions(PrototypeOptions):
    """Options of the prototype head with context; `weights` and others as `VectorOptions`.

    Attributes:
        pooling: "ordered": frames are compared in order.
        center: subtract each clip's own mean over frames, after the transformer.
        heads: attention heads, 1 to 64.
    """

    pooling: Literal["ordered"] = "ordered"
    center: bool = True
    heads: int = Field(default=8, ge=1, le=64)


class ContextPrototypeHead(PrototypeHead):
    """The prototype head on frames that have seen the other frames of their clip.

    One `TemporalLayer` for each readout of tokens comes before the comparison. It sees a cell of a
    grid in all frames as it sees the summary: as T tokens of D channels, each cell by itself. A
    motion map has no tokens and stays as it is. Untrained, this is `prototype` with the same
    options, exactly. The layer is trained with an adapter on base classes and begins from there;
    on a few support clips alone it has little to learn from.

    It follows the second transformer of CLIP-FSAR (`context2`), which has no position embedding, no
    norm before its MLP, 2,048 hidden channels and dropout, and reads the class names of the support
    clips beside their frames. Here no name is read.

    Parameters of an episode: (6 D + 10 + T) D for each readout of tokens, where the heads divide D;
    3,552,768 for ViT-B/16 and clips of 8 frames.

    Raises:
        HeadError: as `VectorHead`, and when it reads nothing but motion maps.
    """

    Options: ClassVar[type[PrototypeOptions]] = ContextPrototypeOptions
    options: ContextPrototypeOptions
    source: ClassVar[str] = (
        "Wang et al.: CLIP-guided Prototype Modulating for Few-shot Action Recognition, IJCV 2023, "
        "https://arxiv.org/abs/2303.02982, its temporal transformer without text"
    )
    citation: ClassVar[str] = """
    @article{wang2023clipfsar,
      author = {Wang, Xiang and Zhang, Shiwei and Cen, Jun and Gao, Changxin and Zhang, Yingya and
        Zhao, Deli and Sang, Nong},
      title = {{CLIP}-guided Prototype Modulating for Few-shot Action Recognition},
      journal = {International Journal of Computer Vision},
      year = {2023},
      url = {https://arxiv.org/abs/2303.02982},
    }
    """

    def __init__(
        self,
        options: ContextPrototypeOptions,
        *,
        width: int,
        way: int,
        frames: int,
        seeds: Sequence[int],
    ) -> None:
        super().__init__(options, width=width, way=way, frames=frames, seeds=seeds)
        token_readouts = [readout for readout in self.readouts if readout.kind != "motion"]
        if not token_readouts:
            raise HeadError(
                f"tokens={options.tokens}: head 'context-prototype' sees tokens over time, and a "
                "motion map has none; add summary or a grid, or use the head prototype"
            )
        self.layers = nn.ModuleList(
            TemporalLayer(
                self.generators,
                frames=frames,
                width=readout.joint_width or width,
                heads=options.heads,
            )
            for readout in token_readouts
        )

    def comparable(self, features: Features) -> Tensor:
        """Computes one vector per clip from frames in context, (E, clips, T * width)."""
        layers, readouts = iter(self.layers), []
        parts = torch.split(features.frames, self.readout_widths, -1)
        for readout, frames in zip(self.readouts, parts, strict=True):
            is_map, cells = readout.kind == "motion", readout.cells**2 or 1
            readouts.append(frames if is_map else self._see(next(layers), frames, cells))
        frames = readouts[0] if len(readouts) == 1 else torch.cat(readouts, -1)
        return super().comparable(Features(frames, features.clip))

    def _see(self, layer: nn.Module, frames: Tensor, cells: int) -> Tensor:
        """Applies a layer to each cell of frames (E, clips, T, cells * D)."""
        clips = frames.shape[1]
        tokens = rearrange(frames, "e clips t (cells d) -> e (clips cells) t d", cells=cells)
        by_clip: Tensor = rearrange(
            layer(tokens), "e (clips cells) t d -> e clips t (cells d)", clips=clips, cells=cells
        )
        return by_clip

    def saved_activations(self, n_support: int) -> int:
        """Values that the support logits of an episode store: those of the layers.

        Args:
            n_support: support clips S of an episode.
        """
        layers, total = iter(self.layers), 0
        for readout in self.readouts:
            if readout.kind != "motion":
                layer = next(layers)
                tokens = n_support * self.frames * (readout.cells**2 or 1)
                total += tokens * layer.saved_per_token() if isinstance(layer, TemporalLayer) else 0
        return total
