"""Adapters that tell frames apart by an embedding and train the last layer norm, as AIM does."""

from __future__ import annotations

from torch import Tensor

from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.adapters.base.layers import EpisodeLayerNorm, TemporalEmbedding
from fewshot_i2v.models.encoders.tower import Tower


class FrameEmbeddingAdapter(Adapter):
    """Base of adapters with a temporal embedding before block 0 and a trained last layer norm.

    Attributes:
        temporal_embedding: is added to the tokens before `ln_pre`; set by a subclass.
        ln_post: the trained copy of the tower's last layer norm; set by a subclass.
    """

    temporal_embedding: TemporalEmbedding
    ln_post: EpisodeLayerNorm

    def embed_tokens(self, tower: Tower, x: Tensor) -> Tensor:
        """Adds the temporal embedding, then applies `ln_pre`."""
        return tower.ln_pre(self.temporal_embedding.forward(x))

    def final_norm(self, tower: Tower, x: Tensor) -> Tensor:
        """Applies the trained copy of `ln_post`, (E, ..., D), in float32."""
        return self.ln_post.forward(x.float())
