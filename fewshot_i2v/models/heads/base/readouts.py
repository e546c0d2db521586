"""Readouts: what a head sees of the frames of a clip, from the features."""

from __future__ import annotations

import torch
from torch import Tensor

from fewshot_i2v.config.readouts import Readout
from fewshot_i2v.errors import HeadError
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.adapters.base.frozen_prefix import grid_means

# a clip whose frames differ by less than this share of their size differs by rounding only
_STATIC_TOLERANCE = 1e-5


def select_readout(
    readout: Readout, features: Features, projection: Tensor | None = None
) -> Features:
    """Selects one readout of clips, in float32.

    Args:
        readout: what to read.
        features: with the grid that it needs, and those of the frozen encoder if it reads them.
        projection: of the encoder into the space shared with text, (D, J), float32.

    Returns:
        Frames (E, clips, T, width) and clip (E, clips, width), without grids.

    Raises:
        HeadError: when the frozen encoder's features or the projection are missing.
    """
    if readout.frozen:
        if features.frozen is None:
            raise HeadError(
                f"the head reads the {readout.kind} of the frozen encoder; got {features!r} of the "
                "adapted one alone: build AdaptedEncoder with reads_frozen=head.reads_frozen"
            )
        features = features.frozen
    if readout.kind == "summary":
        return Features(features.frames.float(), features.clip.float())
    if readout.kind == "projected":
        if projection is None:
            raise HeadError(
                "the head reads the projected summary and has no projection: call "
                "set_projection(tower.projection)"
            )
        # in float32 also within the mixed precision of a training step
        with torch.autocast(projection.device.type, enabled=False):
            return Features(
                features.frames.float() @ projection, features.clip.float() @ projection
            )
    grid = features.grids[readout.grid_size].float()
    if readout.kind == "grid":
        frames = grid.flatten(-2)
    else:
        frames = grid_means(motion_map(grid).unsqueeze(-1), readout.cells).squeeze(-1)
    return Features(frames, frames.mean(-2))


def motion_map(tokens: Tensor) -> Tensor:
    """Computes where and when a clip moves, from its patch tokens.

    The value of a patch in a frame is the norm of the deviation of its token from the token's mean
    over the clip, minus the mean of these norms over all frames and patches of the clip. What a
    patch shows is gone; how much it differs from its usual look, when and where, remains. It is
    differentiable and needs no training.

    It fails where everything moves: with a moving camera all patches deviate all the time, and the
    map shows where the picture has structure. It is also a map by place: the same action at another
    place of the frame gives another map.

    Ours. Its relatives are motion energy images (Bobick, Davis: The Recognition of Human Movement
    Using Temporal Templates, IEEE Transactions on Pattern Analysis and Machine Intelligence 23(3),
    2001, https://doi.org/10.1109/34.910878), which show where pixels change, and in few-shot
    recognition networks that learn motion from differences of frame features (Wang et al.: MoLo:
    Motion-augmented Long-short Contrastive Learning for Few-shot Action Recognition, CVPR 2023,
    https://arxiv.org/abs/2304.00946).

    Args:
        tokens: (..., T, N, D).

    Returns:
        (..., T, N); zeros for a clip whose frames are all equal, up to rounding.
    """
    deviations = tokens - tokens.mean(-3, keepdim=True)
    is_static = differs_by_rounding(deviations.flatten(-3), tokens.flatten(-3))
    # its gradient at a deviation of zero is zero, where that of the root of a sum is infinite
    norms = torch.linalg.vector_norm(deviations, dim=-1)
    centered: Tensor = norms - norms.mean((-2, -1), keepdim=True)
    return centered.masked_fill(is_static[..., None, None], 0.0)


def differs_by_rounding(deviations: Tensor, values: Tensor) -> Tensor:
    """Whether the frames of clips differ by rounding only.

    Args:
        deviations: of the values of each clip from their means over frames, (..., n).
        values: (..., n).

    Returns:
        (...) bool.
    """
    # only compared, never part of the result: no gradient
    energies = deviations.detach().square().sum(-1), values.detach().square().sum(-1)
    is_rounding: Tensor = energies[0] <= _STATIC_TOLERANCE**2 * energies[1]
    return is_rounding
