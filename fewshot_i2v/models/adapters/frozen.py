"""Frozen encoder: no adapter at all, frame features averaged over time.

The baseline every adapter is compared with. Nothing depends on a parameter, so the features of a
clip are computed once per run.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fewshot_i2v.models.adapters.base.adapter import Adapter, AdapterOptions
from fewshot_i2v.models.encoders.block import FrozenBlock
from fewshot_i2v.models.encoders.tower import Tower


class Frozen(Adapter):
    """The pretrained encoder as it is, applied to each frame.

    `x <- x + attend(ln_1(x)); x <- x + mlp(ln_2(x))` with tokens (E, clips, T, N + 1, D).
    Frame features are `ln_post` of the class token, the clip feature is their mean over T.

    Parameters: 0.
    """

    source = (
        "Radford, Kim, Hallacy et al., Learning Transferable Visual Models From Natural Language "
        "Supervision, ICML 2021, https://arxiv.org/abs/2103.00020"
    )
    identity_at_init = True
    frame_order = "no"

    def __init__(
        self, tower: Tower, options: AdapterOptions, *, frames: int, seeds: Sequence[int]
    ) -> None:
        super().__init__(tower, options, frames=frames, seeds=seeds)
        self._n_blocks = tower.layers

    @property
    def requires_blocks(self) -> bool:
        """False: any tower that gives frame features can be used."""
        return False

    @property
    def first_trained_block(self) -> int:
        """The number of blocks: no block is ever computed again."""
        return self._n_blocks

    def block(self, i: int, frozen: FrozenBlock, x: Tensor) -> Tensor:
        """Block i as it was pretrained."""
        return frozen.forward(x)
