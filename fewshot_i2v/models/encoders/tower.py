"""The frozen image tower as blocks that adapters can change.

A `Tower` holds private copies of the weights of an open_clip vision transformer and computes its
steps with plain functions. It has no trainable parameter, and nothing ever changes it: an adapter
defines how one block is computed with the adapter's parameters. All functions take any number of
leading axes, so that tokens keep the shape `(E, clips, T, N + 1, D)` from the first layer to the
last: E episodes, T frames, N patches, D the width, class token first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange, repeat
from torch import Tensor
from torch.nn import functional

from fewshot_i2v.errors import EncoderError
from fewshot_i2v.models.encoders.block import FrozenBlock, LayerNorm
from fewshot_i2v.models.encoders.transfer import send

__all__ = ["FrozenBlock", "LayerNorm", "Tower"]

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True, eq=False)
class Tower:
    """A frozen vision transformer, CLS- or mean-pooled.

    Attributes:
        image_size: pixels on a side of the square input.
        patch_weight: (D, 3, p, p), a convolution of stride p without bias.
        class_token: (D,).
        positions: learned or interpolated positional embedding, (N + 1, D).
        norm_pre: layer norm before the first block, or None.
        blocks: the transformer blocks.
        norm_post: layer norm after the last block.
        pool: "tok" (class token) or "avg" (mean over the patch tokens).
        projection: (D, joint width) into the space shared with text, or None.
        mean: per channel, of pixels in [0, 1], (3,).
        std: per channel, (3,).
    """

    image_size: int
    patch_weight: Tensor
    class_token: Tensor
    positions: Tensor
    norm_pre: LayerNorm | None
    blocks: tuple[FrozenBlock, ...]
    norm_post: LayerNorm
    pool: str
    projection: Tensor | None
    mean: Tensor
    std: Tensor

    @property
    def width(self) -> int:
        """Channels D of a token, and of the features."""
        return self.patch_weight.shape[0]

    @property
    def heads(self) -> int:
        """Attention heads of each block."""
        return self.blocks[0].heads

    @property
    def layers(self) -> int:
        """Number of transformer blocks."""
        return len(self.blocks)

    @property
    def patch(self) -> int:
        """Pixels on a side of a patch."""
        return self.patch_weight.shape[-1]

    @property
    def grid(self) -> int:
        """Patches on a side of the image; N = grid * grid."""
        return self.image_size // self.patch

    @property
    def tokens(self) -> int:
        """Tokens of a frame, class token included."""
        return self.positions.shape[0]

    @property
    def joint_width(self) -> int:
        """Channels of the space that it shares with text; 0: it has no projection into one."""
        return 0 if self.projection is None else self.projection.shape[1]

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.patch_weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the weights and of the tokens."""
        return self.patch_weight.dtype

    @property
    def exact(self) -> Tower:
        """The tower that computes complete features of the frozen encoder; here this one."""
        return self

    @property
    def computation(self) -> tuple[str, ...]:
        """Names and versions of code outside this package that computes the features; none here."""
        return ()

    def normalize(self, frames: Tensor) -> Tensor:
        """Convert bytes to normalised pixels in the tower's type.

        Args:
            frames: (..., H, W, 3) uint8, RGB.

        Returns:
            (..., 3, H, W), normalised with the constants of these weights.
        """
        # (frames / 255 - mean) / std as one multiply-add, in float32 and rounded once
        scale = rearrange((255.0 * self.std).reciprocal(), "rgb -> rgb 1 1")
        shift = rearrange(-self.mean / self.std, "rgb -> rgb 1 1")
        pixels = rearrange(send(frames, self.device), "... h w rgb -> ... rgb h w").float()
        return torch.addcmul(shift, pixels, scale).to(self.dtype)

    def patch_embed(self, pixels: Tensor) -> Tensor:
        """Compute patch, class and positional embedding, before the first layer norm.

        Args:
            pixels: (..., 3, H, W) with H = W = image_size, normalised.

        Returns:
            Tokens (..., N + 1, D).

        Raises:
            EncoderError: when the pixels have another size.
        """
        self.check_size(pixels)
        patches = self._embed_patches(rearrange(pixels, "... rgb h w -> (...) rgb h w"))
        class_tokens = repeat(self.class_token, "d -> n 1 d", n=patches.shape[0])
        tokens = torch.cat([class_tokens, patches], dim=1) + self.positions
        return tokens.reshape(*pixels.shape[:-3], *tokens.shape[1:])

    def check_size(self, pixels: Tensor) -> None:
        """Refuse pixels (..., H, W) of another size.

        Raises:
            EncoderError: naming both sizes.
        """
        size, actual = self.image_size, tuple(pixels.shape[-2:])
        if actual != (size, size):
            raise EncoderError(f"got frames of {actual} pixels; this tower takes {size} x {size}")

    def _embed_patches(self, pixels: Tensor) -> Tensor:
        """Compute the patch embedding of images (n, 3, H, W), (n, N, D)."""
        if not pixels.is_cuda:
            patches = functional.conv2d(pixels, self.patch_weight, stride=self.patch)
            return rearrange(patches, "n d h w -> n (h w) d")
        # as one matrix product: PyTorch lets CUDA convolutions round to TF32, products not
        pixels = pixels[..., : self.grid * self.patch, : self.grid * self.patch]
        size = self.patch
        unfolded = rearrange(pixels, "n c (h p) (w q) -> n (h w) (c p q)", p=size, q=size)
        return functional.linear(unfolded, self.patch_weight.flatten(1))

    def ln_pre(self, x: Tensor) -> Tensor:
        """Apply the layer norm before the first block, or nothing where the model has none."""
        return x if self.norm_pre is None else self.norm_pre(x)

    def ln_post(self, x: Tensor) -> Tensor:
        """Apply the layer norm after the last block, (..., D), in the type of `x`."""
        return self.ln_post_exact(x).to(x.dtype)

    def ln_post_exact(self, x: Tensor) -> Tensor:
        """Apply `ln_post` in float32 whatever the tower's type, and return float32, (..., D)."""
        return self.norm_post(x.float())

    def pool_tokens(self, x: Tensor) -> Tensor:
        """Pool the tokens of a frame, before `ln_post`: (..., N + 1, D) -> (..., D)."""
        if self.pool == "tok":
            return x[..., 0, :]
        # a sum of N patches in bfloat16 would lose digits
        return x[..., 1:, :].mean(-2, dtype=torch.float32)

    def encode(self, pixels: Tensor) -> Tensor:
        """Compute frame features after `ln_post`: (..., 3, H, W) -> (..., D)."""
        x = self.ln_pre(self.patch_embed(pixels))
        for i, block in enumerate(self.blocks):
            is_last = i == self.layers - 1
            x = block.forward(x, class_token_only=is_last and self.pool == "tok")
        return self.ln_post(self.pool_tokens(x))

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return a copy on a device in a floating type.

        The pixel constants and what follows the last block, `norm_post` and `projection`, stay
        float32.
        """
        device = torch.device(device)
        float32_fields = {"mean", "std", "norm_post", "projection"}
        replaced: dict[str, Any] = {
            name: value.to(device, torch.float32 if name in float32_fields else dtype)
            for name, value in vars(self).items()
            if isinstance(value, Tensor | LayerNorm)
        }
        replaced["blocks"] = tuple(block.to(device, dtype) for block in self.blocks)
        return replace(self, **replaced)

    def with_blocks(self, blocks: Sequence[FrozenBlock]) -> Self:
        """Return the same tower with new blocks, for adapters that merge into the weights."""
        return replace(self, blocks=tuple(blocks))

    def check_multiple(self, image_size: int) -> None:
        """Refuse an image size that no whole number of patches fills.

        Raises:
            EncoderError: naming the nearest size that works.
        """
        if image_size <= 0 or image_size % self.patch:
            nearest = max(1, round(image_size / self.patch)) * self.patch
            raise EncoderError(
                f"image size {image_size} is not a multiple of the patch size {self.patch}; "
                f"the nearest that is: {nearest}"
            )

    def resized(self, image_size: int) -> Self:
        """Return the tower for another input size, positions interpolated (bicubic, antialiased).

        Args:
            image_size: pixels on a side, a multiple of the patch size.

        Raises:
            EncoderError: when it is not a positive multiple of the patch size.
        """
        if image_size == self.image_size:
            return self
        self.check_multiple(image_size)
        class_position, patch_positions = self.positions[:1], self.positions[1:]
        grid_positions = functional.interpolate(
            rearrange(patch_positions.float(), "(h w) d -> 1 d h w", h=self.grid),
            (image_size // self.patch,) * 2,
            mode="bicubic",
            antialias=True,
            align_corners=False,
        )
        patch_positions = rearrange(grid_positions, "1 d h w -> (h w) d").to(class_position.dtype)
        return replace(
            self, image_size=image_size, positions=torch.cat([class_position, patch_positions])
        )
