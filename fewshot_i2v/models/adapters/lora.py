"""LoRA: a low-rank update beside the linear maps of every block (Hu et al., 2022).

A method from language models, without any temporal operator: on frames it is spatial only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated, Literal, cast

import torch
from einops import rearrange
from pydantic import Field, field_validator
from torch import Tensor, nn

from fewshot_i2v.errors import AdapterError
from fewshot_i2v.models.adapters.base.adapter import AdapterOptions, Preset
from fewshot_i2v.models.adapters.base.blockwise import BlockMaps, BlockwiseAdapter, rounded_like
from fewshot_i2v.models.adapters.base.layers import (
    init_per_episode,
    kaiming_uniform,
    scaled,
    zeros,
)
from fewshot_i2v.models.encoders.block import FrozenBlock
from fewshot_i2v.models.encoders.tower import Tower

Target = Literal["q", "k", "v", "o", "fc", "proj"]
_ATTENTION_INPUTS: tuple[Target, ...] = ("q", "k", "v")


class LoRAOptions(AdapterOptions):
    """Options of LoRA.

    Attributes:
        rank: rank r of an update, 1 to the tower's width.
        alpha: updates are scaled by alpha / rank, above 0; None for alpha = rank, a scale of 1.
        targets: which maps are updated, each at most once: queries "q", keys "k", values "v" and
            output projection "o" of the attention, "fc" and "proj" of the MLP.
    """

    rank: int = Field(default=8, ge=1)
    alpha: float | None = Field(default=None, gt=0, le=100_000)
    targets: Annotated[tuple[Target, ...], Field(strict=False, min_length=1)] = (
        "q",
        "k",
        "v",
        "o",
        "fc",
        "proj",
    )

    @field_validator("targets")
    @classmethod
    def _check_unique(cls, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        if len(set(targets)) < len(targets):
            raise ValueError("expected each target once")
        return targets

    @property
    def scale(self) -> float:
        """Factor of every update, alpha / rank."""
        return 1.0 if self.alpha is None else self.alpha / self.rank


def _project_tokens(u: Tensor, down: Tensor) -> Tensor:
    """Computes `u A` per episode of tokens u (E, ..., inputs), (E, tokens, r)."""
    return torch.bmm(rearrange(u, "e ... c -> e (...) c"), down.to(u.dtype))


class _LowRank(nn.Module):
    """`y + scale * (u A) B`, one pair of matrices per episode.

    A, `down` of (E, inputs, r), starts Kaiming-uniform; B, `up` of (E, r, outputs), at zero.
    """

    def __init__(
        self,
        generators: Sequence[torch.Generator],
        inputs: int,
        outputs: int,
        rank: int,
        scale: float,
    ) -> None:
        super().__init__()
        self.scale = scale
        # with both at zero, neither would ever receive a gradient
        self.down = nn.Parameter(init_per_episode(kaiming_uniform, generators, inputs, rank))
        self.up = nn.Parameter(init_per_episode(zeros, generators, rank, outputs))

    def forward(self, y: Tensor, u: Tensor) -> Tensor:
        """Adds the update of u (E, ..., inputs) to y (E, ..., outputs)."""
        return self.add_update(y, _project_tokens(u, self.down))

    def add_update(self, y: Tensor, projected: Tensor) -> Tensor:
        """Adds the update to y (E, ..., outputs), of `u A` as (E, tokens, r)."""
        base = rearrange(y, "e ... c -> e (...) c")
        # the scale costs a pass over the gradient of y unless it is part of the smaller factor
        up = scaled(self.up, self.scale, y.dtype)
        return torch.baddbmm(base, projected, up).reshape(y.shape)

    def weight_update(self, episode: int) -> Tensor:
        """Returns the update of the frozen weight, (outputs, inputs), in float64."""
        down, up = self.down[episode].double(), self.up[episode].double()
        return self.scale * (down @ up).T


class _BlockUpdates(BlockMaps):
    """The low-rank updates of one block.

    The frozen block stores `fc` multiplied by `activation_gain`, and the input of `proj` is
    multiplied by it too. Factors in the updates compensate for both, so that A and B are those of
    the pretrained weights.
    """

    def __init__(
        self, frozen: FrozenBlock, generators: Sequence[torch.Generator], options: LoRAOptions
    ) -> None:
        super().__init__()
        hidden, width = frozen.fc_weight.shape
        inputs = {"proj": hidden}
        outputs = {"fc": hidden}
        factors = {"fc": frozen.activation_gain, "proj": 1 / frozen.activation_gain}
        self.low_rank = nn.ModuleDict(
            {
                target: _LowRank(
                    generators,
                    inputs.get(target, width),
                    outputs.get(target, width),
                    options.rank,
                    options.scale * factors.get(target, 1.0),
                )
                for target in options.targets
            }
        )

    def _add_update(self, target: Target, y: Tensor, u: Tensor) -> Tensor:
        """Adds the update of `target`, if it has one, to the output y of a frozen map of u."""
        if target not in self.low_rank:
            return y
        updated: Tensor = self.low_rank[target](y, u)
        return updated

    def qkv(self, frozen: FrozenBlock, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each with its own update."""
        outputs = dict(zip(_ATTENTION_INPUTS, frozen.qkv(u), strict=True))
        updates = {
            target: cast("_LowRank", self.low_rank[target])
            for target in _ATTENTION_INPUTS
            if target in self.low_rank
        }
        if updates:
            # one product for all of them, and one gradient of u
            projected = _project_tokens(u, torch.cat([m.down for m in updates.values()], -1))
            parts = projected.chunk(len(updates), -1)
            for (target, update), part in zip(updates.items(), parts, strict=True):
                y = outputs[target]
                outputs[target] = update.add_update(y.flatten(-2), part).reshape(y.shape)
        return outputs["q"], outputs["k"], outputs["v"]

    def out(self, frozen: FrozenBlock, u: Tensor) -> Tensor:
        """The output projection with its update."""
        return self._add_update("o", super().out(frozen, u), u)

    def fc(self, frozen: FrozenBlock, u: Tensor) -> Tensor:
        """The first layer of the MLP with its update."""
        return self._add_update("fc", super().fc(frozen, u), u)

    def proj(self, frozen: FrozenBlock, hidden: Tensor) -> Tensor:
        """The second layer of the MLP with its update."""
        return self._add_update("proj", super().proj(frozen, hidden), hidden)

    def _merge_weight(self, target: Target, weight: Tensor, episode: int) -> Tensor:
        """Returns a frozen weight with one episode's update folded in."""
        if target not in self.low_rank:
            return weight
        low_rank = cast("_LowRank", self.low_rank[target])
        return rounded_like(
            weight.double() + low_rank.weight_update(episode).to(weight.device), weight
        )

    def merge_block(self, frozen: FrozenBlock, episode: int) -> FrozenBlock:
        """The block with one episode's updates in its weights."""
        chunks = zip(_ATTENTION_INPUTS, frozen.qkv_weight.chunk(3), strict=True)
        return replace(
            frozen,
            qkv_weight=torch.cat(
                [self._merge_weight(target, chunk, episode) for target, chunk in chunks]
            ),
            out_weight=self._merge_weight("o", frozen.out_weight, episode),
            fc_weight=self._merge_weight("fc", frozen.fc_weight, episode),
            proj_weight=self._merge_weight("proj", frozen.proj_weight, episode),
        )


class LoRA(BlockwiseAdapter):
    """Low-rank updates of queries, keys, values, output projection and MLP, without dropout.

    With tokens x of (E, clips, T, N + 1, D), each block is the pretrained one,

        x <- x + attend(ln_1(x));  x <- x + mlp(ln_2(x))

    in which every targeted map `y = W u + b` becomes `y = (W + s B A) u + b`, A of (r, inputs), B
    of (outputs, r), s = alpha / r. Queries, keys and values have updates of their own. Biases,
    norms and embeddings stay frozen. The clip feature is the mean over T of `ln_post` of the class
    token. Frames never meet and their order cannot matter.

    All six maps are updated by default; the paper's experiments mostly update queries and values
    (preset "released-qv"), and its models are language models. Where the encoder has layer scale,
    W of the output projection and of the MLP's second layer includes it.

    Initial values: A Kaiming-uniform with a = sqrt(5), as in the released code, B zero; so the
    untrained encoder is the frozen one, exactly.

    Parameters of an episode: L r (18 D) for all six targets (2 D for each of q, k, v and o, 5 D for
    fc and for proj with the usual MLP of 4 D), 1,327,104 for ViT-B/16 and r = 8; 0 after merging.
    """

    Options = LoRAOptions
    source = (
        "Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang, Chen, LoRA: Low-Rank Adaptation of Large "
        "Language Models, ICLR 2022, https://arxiv.org/abs/2106.09685"
    )
    citation = """
    @inproceedings{hu2022lora,
      author = {Hu, Edward J. and Shen, Yelong and Wallis, Phillip and Allen-Zhu, Zeyuan and Li,
        Yuanzhi and Wang, Shean and Wang, Lu and Chen, Weizhu},
      title = {{LoRA}: Low-Rank Adaptation of Large Language Models},
      booktitle = {International Conference on Learning Representations},
      year = {2022},
      url = {https://arxiv.org/abs/2106.09685},
    }
    """
    identity_at_init = True
    frame_order = "no"
    display_note = "spatial only"
    presets = MappingProxyType(
        {
            "released-qv": Preset(
                {"rank": 8, "alpha": 16.0, "targets": ("q", "v")},
                "RoBERTa-base on MNLI as released: microsoft/LoRA at c18b175e, "
                "examples/NLU/roberta_base_mnli.sh and modeling_roberta.py (a language model)",
            )
        }
    )

    def __init__(
        self, tower: Tower, options: LoRAOptions, *, frames: int, seeds: Sequence[int]
    ) -> None:
        super().__init__(tower, options, frames=frames, seeds=seeds)
        if options.rank > tower.width:
            raise AdapterError(
                f"lora rank={options.rank}: more than the tower's width {tower.width}, where an "
                "update is no longer of low rank; give a smaller one, or use the adapter 'full'"
            )
        self.set_block_maps(
            _BlockUpdates(block, self.generators, options) for block in tower.blocks
        )
