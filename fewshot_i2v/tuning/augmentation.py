"""Augmentation of support clips while an episode is tuned, and of training clips.

All frames of a clip get the same change, so that motion stays motion. Random values come from
CPU generators that the caller seeds, so that they are the same on every device.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from fewshot_i2v.config.base import FlipMode
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.models.encoders.transfer import send

FRAMES_PER_SEGMENT = 3
"""Frames decoded of each segment for temporal jitter; odd, so that one is the middle."""
# ITU-R BT.601 weights of red, green and blue in brightness, as image libraries turn to grey.
_GREY_WEIGHTS = (0.299, 0.587, 0.114)
# A mirrored clip of such a class shows another class, or none.
_SIDE_WORDS = frozenset({"clockwise", "cw", "ccw"})
# Written together, as in swipeleft and righthand, a side is the beginning or the end of a word.
_SIDE_PARTS = ("left", "right")
_OTHER_WORDS = frozenset(
    {"bright", "brighten", "fright", "wright", "upright", "outright", "forthright", "downright"}
    | {"alright", "aright", "copyright", "birthright", "playwright", "cleft", "righteous"}
    | {"leftover", "leftovers", "leftist", "rightful", "rightly"}
)


def mentions_left_or_right(class_name: str) -> bool:
    """Whether a class name mentions left or right, so that a mirrored clip would be another class.

    >>> mentions_left_or_right("pushing_something_from_left_to_right")
    True
    >>> mentions_left_or_right("bright_light")
    False
    """
    words = re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", class_name).lower())
    joined = "".join(words)
    turning = "counterclockwise" in joined or "anticlockwise" in joined
    return turning or any(map(_says_a_side, words))


def _says_a_side(word: str) -> bool:
    has_part = word.startswith(_SIDE_PARTS) or word.endswith(_SIDE_PARTS)
    return word in _SIDE_WORDS or (has_part and word not in _OTHER_WORDS)


class Augmentation(Protocol):
    """Keys of a recipe, or of a training, that decide the random changes of a clip."""

    @property
    def flip(self) -> FlipMode: ...  # noqa: D102 - keys of the configuration
    @property
    def crop_scale(self) -> tuple[float, float] | None: ...  # noqa: D102
    @property
    def colour(self) -> float: ...  # noqa: D102
    @property
    def temporal(self) -> bool: ...  # noqa: D102


class ClipChanges(NamedTuple):
    """Random values of the changes of n clips of T segments.

    Attributes:
        frames: which frame of each segment, (n, T) int64.
        boxes: x scale (negative: mirrored), y scale and centre of each crop, (n, 4).
        colours: factors of brightness, contrast and saturation, (3, n).
    """

    frames: Tensor
    boxes: Tensor
    colours: Tensor


def _flip_allowed(flip: str, class_names: Sequence[str]) -> bool:
    """Whether clips may be mirrored where these classes are distinguished."""
    return flip == "on" or (
        flip == "auto" and not any(mentions_left_or_right(name) for name in class_names)
    )


def _sample_crop_boxes(
    clips: int, scale: tuple[float, float] | None, flip: bool, generator: torch.Generator
) -> Tensor:
    """Samples x scale (negative: mirrored), y scale and centre of each crop, (clips, 4)."""
    u = torch.rand(clips, 4, generator=generator)
    low, high = scale or (1.0, 1.0)
    # uniform in area, and so the root of it for a side; the box stays inside the frame
    side = (low + (high - low) * u[:, 0]).sqrt()
    centre = (2 * u[:, 1:3] - 1) * (1 - side)[:, None]
    mirror = torch.where((u[:, 3] < 0.5) & flip, -1.0, 1.0)
    return torch.stack([side * mirror, side, centre[:, 0], centre[:, 1]], 1)


def _crop_and_resize(pixels: Tensor, box: Tensor) -> Tensor:
    """Crops boxes of clips and resizes them to the full frame.

    Args:
        pixels: (n, T, 3, H, W).
        box: (n, 4) from `_sample_crop_boxes`, on the same device.

    Returns:
        (n, T, 3, H, W), float32, bilinear.
    """
    theta = torch.zeros(len(box), 2, 3, device=box.device)
    theta[:, 0, 0], theta[:, 1, 1] = box[:, 0], box[:, 1]
    theta[:, 0, 2], theta[:, 1, 2] = box[:, 2], box[:, 3]
    size = [len(box), 3, *pixels.shape[-2:]]
    grid = functional.affine_grid(theta, size, align_corners=False)
    resampled = functional.grid_sample(
        pixels.flatten(1, 2).float(), grid, padding_mode="reflection", align_corners=False
    )
    return resampled.reshape(pixels.shape)


class ClipAugmenter:
    """Random changes of clips: frames, crop, flip and colour, sampled once per clip.

    - Frames: of the `frames_per_segment` decoded frames of each segment one is sampled, for every
      segment and clip independently. Segments do not overlap, so the order of frames never changes.
    - Crop and flip: a box of a random share of the frame's area, with the frame's proportions,
      mirrored or not, and resized to the full frame.
    - Colour: brightness, contrast and saturation, in this order, each by a factor from
      [1 - colour, 1 + colour], on pixels in [0, 1]. Contrast is relative to the mean grey of the
      clip, not of each frame, so that a static background does not flicker.

    A change that is switched off leaves the pixels as they are, bit for bit: with everything off,
    the result is the middle frames, which are those of an evaluation.

    Args:
        config: which changes, and how large.
        tower: of the encoder; normalises the sampled frames.

    Attributes:
        frames_per_segment: decoded frames per segment of the input: 3 with temporal jitter, else 1.
    """

    def __init__(self, config: Augmentation, tower: Tower) -> None:
        self.config = config
        self._normalize = tower.normalize
        self.frames_per_segment = FRAMES_PER_SEGMENT if config.temporal else 1
        self._mean, self._std = (x.float()[:, None, None] for x in (tower.mean, tower.std))
        self._grey = torch.tensor(_GREY_WEIGHTS, device=self._mean.device)

    def sample(
        self, clips: int, segments: int, *, flip: bool, generator: torch.Generator
    ) -> ClipChanges:
        """Samples changes of clips; all values, so that switching one leaves the others.

        Args:
            clips: n.
            segments: T.
            flip: whether half of them may be mirrored.
            generator: on the CPU.
        """
        fractions = torch.rand(clips, segments, generator=generator)
        boxes = _sample_crop_boxes(clips, self.config.crop_scale, flip, generator)
        colours = 1 + self.config.colour * (2 * torch.rand(3, clips, generator=generator) - 1)
        return ClipChanges((self.frames_per_segment * fractions).long(), boxes, colours)

    def apply(self, clips: Tensor, changes: ClipChanges, *, mirrored: bool) -> Tensor:
        """Applies sampled changes.

        Args:
            clips: (n, frames_per_segment * T, H, W, 3) uint8.
            changes: of these clips.
            mirrored: whether one of them may be mirrored.

        Returns:
            (n, T, 3, H, W), in the type of the pixels; bilinear where a crop is resized.
        """
        pixels = self._normalize(self._select_frames(clips, changes.frames))
        device, dtype = pixels.device, pixels.dtype
        if mirrored or self.config.crop_scale is not None:
            pixels = _crop_and_resize(pixels, send(changes.boxes, device))
        if self.config.colour:
            factors = send(changes.colours, device)[..., None, None, None, None]
            pixels = self._jitter_colour(pixels.float(), factors)
        return pixels.to(dtype)

    def _select_frames(self, clips: Tensor, offsets: Tensor) -> Tensor:
        """Selects one frame of each segment."""
        factor = self.frames_per_segment
        if factor == 1:
            return clips
        position = offsets + factor * torch.arange(offsets.shape[1])
        rows = torch.arange(len(clips), device=clips.device)[:, None]
        return clips[rows, send(position, clips.device)]

    def _jitter_colour(self, pixels: Tensor, factors: Tensor) -> Tensor:
        """Changes brightness, contrast, saturation in [0, 1]; `factors` is (3, n, 1, 1, 1, 1)."""
        brightness, contrast, saturation = factors
        mean, std = self._mean.to(pixels.device), self._std.to(pixels.device)
        weights = self._grey.to(pixels.device)
        # few passes and in place: beside a small encoder, this is what takes the time
        x = torch.addcmul(brightness * mean, pixels, brightness * std).clamp_(0, 1)
        grey = (x.mean((1, 3, 4)) @ weights)[:, None, None, None, None]
        x.mul_(contrast).add_((1 - contrast) * grey).clamp_(0, 1)
        diagonal = saturation.flatten(2) * torch.eye(3, device=x.device)
        saturated = (diagonal + (1 - saturation).flatten(2) * weights)[:, None] @ x.flatten(-2)
        normalised: Tensor = saturated.clamp_(0, 1).reshape(x.shape).sub_(mean).div_(std)
        return normalised


class SupportAugmenter:
    """Random changes of the support clips of E episodes, see `ClipAugmenter`.

    Each episode has its own generator, so that it gets the same changes whether it is tuned by
    itself or side by side with more episodes.

    Args:
        recipe: which changes; with `flip` "auto" nothing is mirrored in an episode with a class
            name that mentions left or right.
        classes: class names of each episode.
        seeds: one per episode.
        tower: of the encoder.
    """

    def __init__(
        self,
        recipe: Augmentation,
        classes: Sequence[Sequence[str]],
        seeds: Sequence[int],
        tower: Tower,
    ) -> None:
        self.augmenter = ClipAugmenter(recipe, tower)
        self.flip_allowed = [
            _flip_allowed(recipe.flip, episode_classes) for episode_classes in classes
        ]
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, clips: Tensor) -> Tensor:
        """Samples new changes and applies them.

        Args:
            clips: (E, S, frames_per_segment * T, H, W, 3) uint8.

        Returns:
            (E, S, T, 3, H, W), normalised.
        """
        count, segments = clips.shape[1], clips.shape[2] // self.augmenter.frames_per_segment
        pairs = zip(self.flip_allowed, self.generators, strict=True)
        changes = [
            self.augmenter.sample(count, segments, flip=flip, generator=generator)
            for flip, generator in pairs
        ]
        all_changes = ClipChanges(
            torch.cat([change.frames for change in changes]),
            torch.cat([change.boxes for change in changes]),
            torch.cat([change.colours for change in changes], 1),
        )
        pixels = self.augmenter.apply(
            clips.flatten(0, 1), all_changes, mirrored=any(self.flip_allowed)
        )
        return pixels.reshape(*clips.shape[:2], *pixels.shape[1:])


class TrainingAugmenter:
    """Random changes of training clips, see `ClipAugmenter`.

    Args:
        config: which changes, and how large.
        class_names: of the training subset; with flip "auto" nothing is mirrored when one of them
            mentions left or right.
        tower: of the encoder.

    Attributes:
        frames_per_segment: decoded frames per segment of the input.
    """

    def __init__(self, config: Augmentation, class_names: Sequence[str], tower: Tower) -> None:
        self._augmenter = ClipAugmenter(config, tower)
        self.frames_per_segment = self._augmenter.frames_per_segment
        self._flip_allowed = _flip_allowed(config.flip, class_names)

    def __call__(self, clips: Tensor, generator: torch.Generator) -> Tensor:
        """Samples new changes and applies them.

        Args:
            clips: (n, frames_per_segment * T, H, W, 3) uint8.
            generator: on the CPU; the changes depend on it and on n and T only.

        Returns:
            (n, T, 3, H, W), in the type of the pixels.
        """
        flip, segments = self._flip_allowed, clips.shape[1] // self.frames_per_segment
        changes = self._augmenter.sample(len(clips), segments, flip=flip, generator=generator)
        return self._augmenter.apply(clips, changes, mirrored=flip)
