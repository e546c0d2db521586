"""Temporal embedding: one trained vector per frame before the frozen encoder, nothing else.

AIM, ZeroI2V and others add this embedding beside their adapters. Alone it says how much of their
gain comes from it.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fewshot_i2v.models.adapters.base import layers
from fewshot_i2v.models.adapters.base.adapter import Adapter, AdapterOptions
from fewshot_i2v.models.encoders.block import FrozenBlock
from fewshot_i2v.models.encoders.tower import Tower


class TemporalEmbeddingAdapter(Adapter):
    """The frozen encoder with a temporal embedding added before `ln_pre`.

    With tokens x of (E, clips, T, N + 1, D) after the positional embedding, and e the trained
    table of (E, T, D): `x[:, :, t] <- x[:, :, t] + e[t]` for every token of frame t, class token
    included. Blocks, `ln_pre` and `ln_post` stay frozen. Frames never meet in a block: an order of
    frames can enter only through what each vector does to its own frame. The clip feature is the
    mean over T of `ln_post` of the class token.

    Initial values: zero, so that the untrained encoder is the frozen one, exactly; every seed
    starts with the same values. There is no weight decay, which would pull the embedding back to
    zero.

    Parameters of an episode: T D; 6,144 for ViT-B/16 and T = 8.
    """

    source = (
        "Temporal embedding of Yang, Zhu, Xie, Zhang, Chen, Li, AIM: Adapting Image Models for "
        "Efficient Video Action Recognition, ICLR 2023, https://arxiv.org/abs/2302.03024; on its "
        "own a baseline of this package"
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
    no_weight_decay = ("embedding",)

    def __init__(
        self, tower: Tower, options: AdapterOptions, *, frames: int, seeds: Sequence[int]
    ) -> None:
        super().__init__(tower, options, frames=frames, seeds=seeds)
        self.embedding = layers.TemporalEmbedding(self.episodes, frames, tower.width)

    def embed_tokens(self, tower: Tower, x: Tensor) -> Tensor:
        """Adds the temporal embedding, then applies `ln_pre`."""
        return tower.ln_pre(self.embedding(x))

    def block(
        self, i: int, frozen: FrozenBlock, x: Tensor, *, class_token_only: bool = False
    ) -> Tensor:
        """Block i as it was pretrained."""
        return frozen.forward(x, class_token_only=class_token_only)

    def class_token_block(self, i: int, frozen: FrozenBlock, x: Tensor) -> Tensor:
        """The class token after block i, without what does not reach it."""
        return self.block(i, frozen, x, class_token_only=True)
