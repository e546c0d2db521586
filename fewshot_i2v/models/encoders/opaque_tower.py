"""Visual towers without accessible blocks: usable frozen, with one feature per frame."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, NoReturn

import torch
from einops import rearrange
from torch import Tensor, nn

from fewshot_i2v.errors import EncoderError
from fewshot_i2v.models.encoders.block import FrozenBlock, LayerNorm
from fewshot_i2v.models.encoders.tower import Tower

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True, eq=False)
class OpaqueTower(Tower):
    """A complete visual model as a tower without blocks.

    `patch_embed` gives the model's output as the only token of a frame, and every later step
    returns it unchanged. Build one with `make_opaque_tower`.

    Attributes:
        visual: a private copy of the model, in evaluation mode, without gradients.
        reason: why it has no blocks to adapt, in words.
    """

    visual: nn.Module
    reason: str

    @property
    def heads(self) -> int:
        """Not available, since there are no attention heads; raises `EncoderError`."""
        self._raise_no_blocks()

    @property
    def patch(self) -> int:
        """Not available, since there are no patch tokens; raises `EncoderError`."""
        self._raise_no_blocks()

    @property
    def tokens(self) -> int:
        """One: the feature vector."""
        return 1

    @property
    def computation(self) -> tuple[str, ...]:
        """Versions of the packages whose code computes the features, and a digest of its settings.

        Weights do not show all of these: not the heads of attention, nor the stride of a pooling.
        """
        packages = [f"{name} {version(name)}" for name in ("open_clip_torch", "timm")]
        settings = [
            (name, sorted((key, repr(v)) for key, v in vars(module).items() if _is_plain(v)))
            for name, module in self.visual.named_modules()
        ]
        digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()
        return (*packages, f"settings {digest}")

    def patch_embed(self, pixels: Tensor) -> Tensor:
        """Compute the features of the complete visual model.

        Args:
            pixels: (..., 3, H, W) with H = W = image_size, normalised.

        Returns:
            (..., 1, D), D the model's output width.

        Raises:
            EncoderError: when the pixels have another size.
        """
        self.check_size(pixels)
        out = _image_features(self.visual, rearrange(pixels, "... rgb h w -> (...) rgb h w"))
        return out.reshape(*pixels.shape[:-3], 1, self.width)

    def ln_post(self, x: Tensor) -> Tensor:
        """Return the features unchanged, (..., D).

        Raises:
            EncoderError: when patch tokens are requested, of which there are none.
        """
        if 0 in x.shape:
            self._raise_no_blocks()
        return x

    def ln_post_exact(self, x: Tensor) -> Tensor:
        """Return the features unchanged, in float32."""
        return self.ln_post(x).float()

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return a copy on a device in a floating type; the pixel constants stay float32."""
        device = torch.device(device)
        if (device, dtype) == (self.device, self.dtype):
            return self
        visual = copy.deepcopy(self.visual).to(device, dtype)
        return replace(super().to(device, dtype), visual=visual)

    def with_blocks(self, blocks: Sequence[FrozenBlock]) -> Self:
        """Not available, since there are no blocks to exchange; raises `EncoderError`."""
        self._raise_no_blocks()

    def resized(self, image_size: int) -> Self:
        """Return the same tower; this kind takes no other input size.

        Raises:
            EncoderError: when it is not the model's own size.
        """
        if image_size != self.image_size:
            raise EncoderError(
                f"this encoder takes {self.image_size} pixels only, not {image_size}: {self.reason}"
            )
        return self

    def _raise_no_blocks(self) -> NoReturn:
        raise EncoderError(
            f"this encoder has no blocks or patch tokens to work on: {self.reason}; "
            "it can be used with the adapter 'frozen' only; `fewshot-i2v list encoders` shows "
            "which take others"
        )


def _is_plain(value: object) -> bool:
    """Returns whether a value of a module is a number, a word or a tuple of these."""
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def make_opaque_tower(visual: nn.Module, *, mean: Tensor, std: Tensor, reason: str) -> OpaqueTower:
    """Make a tower without blocks from any visual model with one feature vector per image.

    Args:
        visual: takes (n, 3, H, W), gives (n, D) or a tuple that starts with it, and has
            `image_size`; not modified.
        mean: per channel, of pixels in [0, 1], (3,).
        std: per channel, (3,).
        reason: why it has no blocks to adapt.

    Raises:
        EncoderError: when it gives anything else, or its input is not square.
    """
    size = visual.image_size
    sides = size if isinstance(size, tuple | list) else (size, size)
    if sides[0] != sides[1]:
        raise EncoderError(f"only square input is supported; this encoder takes {tuple(sides)}")
    frozen_copy = copy.deepcopy(visual).float().eval().requires_grad_(False)
    device = next(frozen_copy.parameters()).device
    with torch.no_grad():
        out = _image_features(frozen_copy, torch.zeros(1, 3, *sides, device=device))
    width = out.shape[-1]
    empty = torch.empty(width, 0, device=device)
    return OpaqueTower(
        image_size=int(str(sides[0])),
        patch_weight=empty,
        class_token=empty,
        positions=empty,
        norm_pre=None,
        blocks=(),
        norm_post=LayerNorm(empty, empty),
        pool="tok",
        projection=None,
        mean=mean,
        std=std,
        visual=frozen_copy,
        reason=reason,
    )


def _image_features(visual: nn.Module, images: Tensor) -> Tensor:
    """Return the model's output for a batch of images, (n, 3, H, W) -> (n, D)."""
    out = visual(images)
    features: Tensor = out[0] if isinstance(out, tuple) else out
    if features.ndim != 2:
        raise EncoderError(
            f"expected one feature vector per image; {type(visual).__name__} gives "
            f"{tuple(features.shape[1:])}"
        )
    return features
