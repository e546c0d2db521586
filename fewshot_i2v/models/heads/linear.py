"""Linear classifier on the clip feature, trained with the adapter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.base.features import clip_vectors, l2_normalize
from fewshot_i2v.models.heads.base.head import Head, HeadOptions

# as in the classifier that the code of AIM and ZeroI2V uses (mmaction2, I3DHead)
_INITIAL_STD = 0.01


class LinearOptions(HeadOptions):
    """Options of the linear head.

    Attributes:
        pooling: "clip": the clip feature as the adapter pools it, D inputs; "ordered": the frame
            features concatenated in order, T * D inputs, so that the order of frames can matter
            even where the encoder ignores it.
        normalize: scale every input vector to length sqrt(inputs), so that each channel has a root
            mean square of one. The scale is constant rather than learned: the vectors keep about
            the size that the final layer norm gives, and the same learning rate fits both settings.
    """

    pooling: Literal["clip", "ordered"] = Field(default="clip")
    normalize: bool = False


class LinearHead(Head):
    """A fully connected layer from D (or T * D) inputs to the classes.

    Weights start from a normal distribution of standard deviation 0.01, one generator per episode;
    biases from zero. Parameters per episode: (inputs + 1) * way. Support clips enter through the
    training alone.
    """

    Options = LinearOptions
    options: LinearOptions
    source: ClassVar[str] = (
        "the classifier of the adapter papers; few-shot baseline: Chen et al., A Closer Look at "
        "Few-shot Classification, ICLR 2019, https://arxiv.org/abs/1904.04232"
    )
    citation: ClassVar[str] = """
    @inproceedings{chen2019closer,
      author = {Chen, Wei-Yu and Liu, Yen-Cheng and Kira, Zsolt and Wang, Yu-Chiang Frank and Huang,
        Jia-Bin},
      title = {A Closer Look at Few-shot Classification},
      booktitle = {International Conference on Learning Representations},
      year = {2019},
      url = {https://arxiv.org/abs/1904.04232},
    }
    """
    supports_mini_batches = True

    def __init__(
        self, options: LinearOptions, *, width: int, way: int, frames: int, seeds: Sequence[int]
    ) -> None:
        super().__init__(options, width=width, way=way, frames=frames, seeds=seeds)
        inputs = self.width * frames if options.pooling == "ordered" else self.width
        weights = [torch.randn(inputs, way, generator=g) for g in self.generators]
        self.weight = nn.Parameter(_INITIAL_STD * torch.stack(weights))
        self.bias = nn.Parameter(torch.zeros(len(weights), way))

    def support_logits(self, support: Features, labels: Tensor) -> Tensor:
        """Logits of the support clips, (E, S, way); `labels` are not read."""
        return self._logits(support)

    def query_logits(self, query: Features, support: Features, labels: Tensor) -> Tensor:
        """Logits of the query clips, (E, Q, way); `support` and `labels` are not read."""
        return self._logits(query)

    def _logits(self, features: Features) -> Tensor:
        x = clip_vectors(features, self.options.pooling)
        if self.options.normalize:
            # the length of a vector whose channels have mean square one, as a layer norm gives
            x = math.sqrt(x.shape[-1]) * l2_normalize(x)
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight)
