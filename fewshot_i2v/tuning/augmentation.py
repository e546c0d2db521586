"""Augmentation: of support clips while an episode is tuned, and of training clips.

All frames of a clip get the same change, so that motion stays motion. Draws come from CPU
generators that the caller keys, so that they are the same on every device.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from fewshot_i2v.config.base import TuningConfig
from fewshot_i2v.config.training import AugmentConfig
from fewshot_i2v.errors import ConfigError

_PER_SEGMENT = 3
"""Frames decoded of each segment for temporal jitter; odd, so that one is the middle."""
# ITU-R BT.601 weights of red, green and blue in brightness, as image libraries turn to grey.
_GREY = (0.299, 0.587, 0.114)
# A mirrored clip of such a class shows another class, or none.
_SIDED = frozenset(
    {"left", "right", "leftward", "rightward", "leftwards", "rightwards"}
    | {"clockwise", "counterclockwise", "anticlockwise", "cw", "ccw"}
)


def has_sides(class_name: str) -> bool:
    """Whether a class name says left or right, so that a mirrored clip would be another class.

    >>> has_sides("pushing_something_from_left_to_right"), has_sides("bright_light")
    (True, False)
    """
    words = re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", class_name).lower())
    joined = "".join(words)
    turning = "counterclockwise" in joined or "anticlockwise" in joined
    return turning or any(word in _SIDED for word in words)


def is_active(recipe: TuningConfig) -> bool:
    """Whether a recipe changes the support clips at all."""
    return recipe.flip != "off" or recipe.crop_scale is not None


def _flips(flip: str, class_names: Sequence[str]) -> bool:
    """Whether clips may be mirrored where these classes are told apart."""
    return flip == "on" or (flip == "auto" and not any(has_sides(name) for name in class_names))


def _draw_boxes(
    clips: int, scale: tuple[float, float] | None, flip: bool, generator: torch.Generator
) -> Tensor:
    """Horizontal scale (negative: mirrored), vertical scale and centre of each crop, (clips, 4)."""
    u = torch.rand(clips, 4, generator=generator)
    low, high = scale or (1.0, 1.0)
    side = (low + (high - low) * u[:, 0]).sqrt()
    centre = (2 * u[:, 1:3] - 1) * (1 - side)[:, None]
    mirror = torch.where((u[:, 3] < 0.5) & flip, -1.0, 1.0)
    return torch.stack([side * mirror, side, centre[:, 0], centre[:, 1]], 1)


def _cut(pixels: Tensor, box: Tensor) -> Tensor:
    """Boxes of clips, resized to the whole frame.

    Args:
        pixels: (n, T, 3, H, W).
        box: (n, 4) as `_draw_boxes` gives it, on the same device.

    Returns:
        (n, T, 3, H, W), float32, bilinear.
    """
    theta = torch.zeros(len(box), 2, 3, device=box.device)
    theta[:, 0, 0], theta[:, 1, 1] = box[:, 0], box[:, 1]
    theta[:, 0, 2], theta[:, 1, 2] = box[:, 2], box[:, 3]
    size = [len(box), 3, *pixels.shape[-2:]]
    grid = functional.affine_grid(theta, size, align_corners=False)
    moved = functional.grid_sample(
        pixels.flatten(1, 2).float(), grid, padding_mode="reflection", align_corners=False
    )
    return moved.reshape(pixels.shape)


class Augmenter:
    """Random flips and crops of the support clips of E episodes.

    Each episode has a generator of its own, so that it sees the same whether it is tuned alone or
    beside others.

    Args:
        recipe: `flip` "off", "on", or "auto" (not in an episode with a class name that says left
            or right); `crop_scale` range of the area kept, as fractions of the frame, or None.
        classes: class names of each episode.
        seeds: one per episode.
    """

    def __init__(
        self, recipe: TuningConfig, classes: Sequence[Sequence[str]], seeds: Sequence[int]
    ) -> None:
        self.scale = recipe.crop_scale
        self.flips = [_flips(recipe.flip, names) for names in classes]
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Draws anew and applies.

        Args:
            pixels: (E, S, T, 3, H, W), normalised.

        Returns:
            The same shape; bilinear where a crop is resized.
        """
        clips = pixels.shape[1]
        pairs = zip(self.flips, self.generators, strict=True)
        boxes = [_draw_boxes(clips, self.scale, flip, generator) for flip, generator in pairs]
        moved = _cut(pixels.flatten(0, 1), torch.cat(boxes).to(pixels.device))
        return moved.reshape(pixels.shape).to(pixels.dtype)


class ClipAugmenter:
    """Random changes of training clips: frames, crop, flip and colour, each drawn once per clip.

    - Frames: of the `frames_factor` decoded frames of each segment one is taken, for every segment
      and clip on its own. Segments do not overlap, so the order of frames never changes.
    - Crop and flip: as for support clips (`Augmenter`).
    - Colour: brightness, contrast and saturation, in this order, each by a factor from
      [1 - colour, 1 + colour], on pixels in [0, 1]. Contrast is relative to the mean grey of the
      clip, not of each frame, so that a still background does not flicker.

    What is switched off leaves the pixels as they are, bit for bit: with everything off, the
    middle frames, which are those of an evaluation.

    Args:
        config: which changes, and how large.
        class_names: of the subset trained on; with flip "auto" nothing is mirrored when one of
            them says left or right.
        mean: the encoder's, per channel, of pixels in [0, 1], (3,): `tower.mean`.
        std: per channel, (3,): `tower.std`.
        pixels: makes normalised pixels of the frames that are taken, such as `tower.pixels`; None:
            it is given pixels.

    Attributes:
        frames_factor: frames per segment that it expects: 3 with temporal jitter, else 1.
    """

    def __init__(
        self,
        config: AugmentConfig,
        class_names: Sequence[str],
        *,
        mean: Tensor,
        std: Tensor,
        pixels: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.config = config
        self._pixels = pixels
        self.frames_factor = _PER_SEGMENT if config.temporal else 1
        self._flip = _flips(config.flip, class_names)
        self._mean, self._std = mean.float()[:, None, None], std.float()[:, None, None]

    def __call__(self, clips: Tensor, generator: torch.Generator) -> Tensor:
        """Draws anew and applies.

        Args:
            clips: (n, frames_factor * T, 3, H, W), normalised, on any device, or what the
                constructor's `pixels` makes such of.
            generator: on the CPU; what is drawn depends on it and on n and T alone.

        Returns:
            (n, T, 3, H, W), in the type of the pixels.

        Raises:
            ConfigError: when the number of frames is not a multiple of `frames_factor`.
        """
        out = self._pick(clips, generator)
        if self._pixels is not None:
            out = self._pixels(out)
        count, device, kind = len(out), out.device, out.dtype
        # drawn also when it is off, so that switching one change leaves the draws of the others
        box = _draw_boxes(count, self.config.crop_scale, self._flip, generator)
        factors = 1 + self.config.colour * (2 * torch.rand(3, count, generator=generator) - 1)
        if self._flip or self.config.crop_scale is not None:
            out = _cut(out, box.to(device))
        if self.config.colour:
            out = self._recolour(out.float(), factors.to(device)[..., None, None, None, None])
        return out.to(kind)

    def _pick(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        """One frame of each segment."""
        clips, decoded = frames.shape[:2]
        factor = self.frames_factor
        if decoded % factor:
            raise ConfigError(
                f"got clips of {decoded} frames; temporal jitter takes one of {factor} frames of "
                f"each segment and needs a multiple of {factor}"
            )
        segments = decoded // factor
        chosen = (factor * torch.rand(clips, segments, generator=generator)).long()
        if factor == 1:
            return frames
        position = chosen + factor * torch.arange(segments)
        rows = torch.arange(clips, device=frames.device)[:, None]
        return frames[rows, position.to(frames.device)]

    def _recolour(self, pixels: Tensor, factors: Tensor) -> Tensor:
        """Brightness, contrast and saturation, `factors` (3, n, 1, 1, 1, 1), in [0, 1]."""
        brightness, contrast, saturation = factors
        mean, std = self._mean.to(pixels.device), self._std.to(pixels.device)
        weights = torch.tensor(_GREY, device=pixels.device)
        # few passes and in place: beside a small encoder, this is what takes the time
        x = torch.addcmul(brightness * mean, pixels, brightness * std).clamp_(0, 1)
        grey = (x.mean((1, 3, 4)) @ weights)[:, None, None, None, None]
        x.mul_(contrast).add_((1 - contrast) * grey).clamp_(0, 1)
        own = saturation.flatten(2) * torch.eye(3, device=x.device)
        mixed = (own + (1 - saturation).flatten(2) * weights)[:, None] @ x.flatten(-2)
        normalised: Tensor = mixed.clamp_(0, 1).reshape(x.shape).sub_(mean).div_(std)
        return normalised
