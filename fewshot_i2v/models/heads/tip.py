"""Class names and a cache of the support clips (Tip-Adapter): no parameters of its own."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.base.features import one_hot
from fewshot_i2v.models.heads.base.text_head import TextHead, TextOptions


class TipOptions(TextOptions):
    """Options of the Tip-Adapter head.

    The paper's official code searches both numbers on validation data of each data set; an episode
    has none, so these are fixed, at values of our own choice; the search of that code for ImageNet
    starts from beta 1 and alpha 1.17 (`configs/imagenet.yaml`).

    Attributes:
        alpha: at least 0, weight of the cache beside the class names; 0 leaves zero-shot CLIP.
        beta: above 0, sharpness: how fast a support clip's vote falls with its distance.
    """

    alpha: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    beta: float = Field(default=5.5, gt=0, allow_inf_nan=False)


class TipHead(TextHead):
    """Zero-shot scores plus votes of similar support clips.

    With unit vectors f of a clip, W of the class names and F of the support clips in the space
    shared with text, and one-hot labels Y: `scale f W + alpha exp(-beta (1 - f F)) Y`. Votes are
    summed over the support clips of a class, as in the paper, so that the cache weighs more with
    more shots. This is the training-free variant; it needs no tuning steps. The paper averages
    each support feature over ten augmented views; here it is the feature of the one clip. The
    variant that fine-tunes the cache (Tip-Adapter-F) is not built.
    """

    Options = TipOptions
    options: TipOptions
    source: ClassVar[str] = (
        "Zhang et al.: Tip-Adapter, Training-free Adaption of CLIP for Few-shot Classification, "
        "ECCV 2022, https://arxiv.org/abs/2207.09519"
    )
    citation: ClassVar[str] = """
    @inproceedings{zhang2022tip,
      author = {Zhang, Renrui and Zhang, Wei and Fang, Rongyao and Gao, Peng and Li, Kunchang and
        Dai, Jifeng and Qiao, Yu and Li, Hongsheng},
      title = {{Tip-Adapter}: Training-free Adaption of {CLIP} for Few-shot Classification},
      booktitle = {European Conference on Computer Vision},
      year = {2022},
      url = {https://arxiv.org/abs/2207.09519},
    }
    """

    def support_logits(self, support: Features, labels: Tensor) -> Tensor:
        """Logits of the support clips without their own vote, (E, S, way).

        The only clip of a class (1 shot) then has no vote for its class, and the class name is the
        only evidence for it.
        """
        x = self.vectors(support)
        is_same_clip = torch.eye(x.shape[-2], dtype=torch.bool, device=x.device)
        return self._logits(x, self._votes(x, x).masked_fill(is_same_clip, 0.0), labels)

    def query_logits(self, query: Features, support: Features, labels: Tensor) -> Tensor:
        """Logits of the query clips from class names and cache, (E, Q, way)."""
        x = self.vectors(query)
        return self._logits(x, self._votes(x, self.vectors(support)), labels)

    def _votes(self, x: Tensor, support: Tensor) -> Tensor:
        """Votes of each support clip for each clip, in (0, 1], (E, clips, S)."""
        # the exponent is never above zero: nothing can overflow
        return torch.exp(self.options.beta * (x @ support.mT - 1))

    def _logits(self, x: Tensor, votes: Tensor, labels: Tensor) -> Tensor:
        cached = votes @ one_hot(labels, self.way)
        return self.text_logits(x) + self.options.alpha * cached
