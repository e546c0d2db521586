"""Raw pixels as the patch tokens of an encoder without any network: the baseline `pixels`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import torch
from einops import rearrange
from torch import Tensor

from fewshot_i2v.errors import EncoderError
from fewshot_i2v.models.encoders import catalog
from fewshot_i2v.models.encoders.block import FrozenBlock, LayerNorm
from fewshot_i2v.models.encoders.tower import Tower


@dataclass(frozen=True, eq=False)
class PixelTower(Tower):
    """A tower whose patch tokens are the normalised pixels of each patch.

    There are no weights, no positions, no blocks and no layer norm. A patch of p x p pixels is a
    token of D = 3 p^2 values: all red, then all green, then all blue ones, each row by row. The
    summary token of a frame is the mean of its patch tokens. Build one with `make_pixel_tower`.

    Attributes:
        reason: why it has no blocks to adapt, in words.
    """

    reason: str

    @property
    def heads(self) -> int:
        """Not available, since there are no attention heads; raises `EncoderError`."""
        self._raise_no_blocks()

    @property
    def tokens(self) -> int:
        """Tokens of a frame, summary token included."""
        return self.grid**2 + 1

    def patch_embed(self, pixels: Tensor) -> Tensor:
        """Cut frames into patches, behind their mean.

        Args:
            pixels: (..., 3, H, W) with H = W = image_size, normalised.

        Returns:
            Tokens (..., N + 1, D).

        Raises:
            EncoderError: when the pixels have another size.
        """
        self.check_size(pixels)
        size = self.patch
        patches = rearrange(pixels, "... rgb (h p) (w q) -> ... (h w) (rgb p q)", p=size, q=size)
        # a sum of N patches in bfloat16 would lose digits
        summary = patches.mean(-2, keepdim=True, dtype=torch.float32).to(patches.dtype)
        return torch.cat([summary, patches], -2)

    def ln_post_exact(self, x: Tensor) -> Tensor:
        """Return the tokens unchanged, in float32: there is no layer norm."""
        return x.float()

    def with_blocks(self, blocks: Sequence[FrozenBlock]) -> NoReturn:
        """Not available, since there are no blocks to exchange; raises `EncoderError`."""
        self._raise_no_blocks()

    def resized(self, image_size: int) -> PixelTower:
        """Return the tower for another input size: more or fewer patches of the same size.

        Args:
            image_size: pixels on a side, a multiple of the patch size.

        Raises:
            EncoderError: when it is not a positive multiple of the patch size.
        """
        self.check_multiple(image_size)
        return replace(self, image_size=image_size)

    def _raise_no_blocks(self) -> NoReturn:
        raise EncoderError(
            f"this encoder has no blocks to work on: {self.reason}; it can be used with the "
            "adapter 'frozen' only; `fewshot-i2v list encoders` shows which take others"
        )


def make_pixel_tower(
    *, mean: Tensor, std: Tensor, image_size: int, patch: int, device: str = "cpu"
) -> PixelTower:
    """Make a tower of raw pixels.

    Args:
        mean: per channel, of pixels in [0, 1], (3,).
        std: per channel, (3,).
        image_size: pixels on a side, a multiple of `patch`.
        patch: pixels on a side of a patch.
        device: of the tower.
    """
    width = 3 * patch**2
    empty = torch.empty(0, device=device)
    return PixelTower(
        image_size=image_size,
        # only its shape is read, for width and patch size
        patch_weight=torch.empty(width, 0, patch, patch, device=device),
        class_token=empty,
        positions=empty,
        norm_pre=None,
        blocks=(),
        norm_post=LayerNorm(empty, empty),
        pool="avg",
        projection=None,
        mean=mean.float().to(device),
        std=std.float().to(device),
        reason=catalog.PIXELS_REASON,
    )
