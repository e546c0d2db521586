"""Where the motion map fails: a moving camera moves everything."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.encoders.loading import load_encoder
from fewshot_i2v.models.heads.prototype import PrototypeHead, PrototypeOptions
from tests.models.tiny_adapters import make_adapter

WAY, SHOT, QUERY, FRAMES = 4, 5, 8, 8


def _clip(corner: int, rng: np.random.Generator, size: int, camera: float) -> NDArray[np.uint8]:
    """A small square trembles in one corner of a textured scene that the camera pans over.

    Args:
        corner: of the frame, in which the square moves: the class.
        rng: of scene, look of the square, and direction of the camera.
        size: of a frame, in pixels.
        camera: pixels that the camera moves from frame to frame.
    """
    cells = rng.integers(0, 256, (2 * size // 8 + 12, 2 * size // 8 + 12, 3))
    scene = np.kron(cells, np.ones((8, 8, 1))).astype(np.uint8)
    angle, colour = rng.uniform(0, 2 * np.pi), rng.integers(0, 256, 3)
    centre = np.array([size // 4 + size // 2 * (corner // 2), size // 4 + size // 2 * (corner % 2)])
    frames = np.zeros((FRAMES, size, size, 3), np.uint8)
    for t in range(FRAMES):
        shift = camera * (t - FRAMES / 2) * np.array([np.sin(angle), np.cos(angle)])
        top, left = (size // 2 + 48 + shift).astype(int)
        frames[t] = scene[top : top + size, left : left + size]
        row, column = centre + rng.integers(-size // 16, size // 16 + 1, 2)
        half = size // 12
        frames[t, row - half : row + half, column - half : column + half] = colour
    return frames


def _accuracy(tokens: str, camera: float) -> float:
    encoder = load_encoder("demo")
    tower, rng = encoder.tower, np.random.default_rng(0)
    frozen = AdaptedEncoder(tower, make_adapter("frozen", tower, frames=FRAMES))
    options = PrototypeOptions(tokens=tokens, pooling="mean").for_encoder(tower.grid)
    head = PrototypeHead(options, width=tower.width, way=WAY, frames=FRAMES, seeds=[0])

    def _features(labels: list[int]) -> Features:
        clips = np.stack([_clip(c, rng, tower.image_size, camera) for c in labels])
        pixels = tower.normalize(torch.from_numpy(clips))
        prefix = frozen.compute_prefix(pixels, grid_sizes=head.grid_sizes)
        features: Features = frozen(prefix[None], grid_sizes=head.grid_sizes)
        return features

    with torch.no_grad():
        labels = [c for c in range(WAY) for _ in range(SHOT)]
        truth = [c for c in range(WAY) for _ in range(QUERY)]
        support, query = _features(labels), _features(truth)
        scores = head(query, support, torch.tensor([labels]))
    return float((scores[0].argmax(-1) == torch.tensor(truth)).float().mean())


def test_it_reads_a_still_camera_and_not_a_moving_one() -> None:
    chance = 1 / WAY
    assert _accuracy("motion", camera=0) > 0.9
    # of 32 queries twice the standard error at chance is 0.16
    assert _accuracy("motion", camera=2) < chance + 0.16
    assert _accuracy("motion", camera=4) < chance + 0.16


def test_looks_alone_do_not_tell_where_something_moves() -> None:
    """So that the accuracy above is that of the motion."""
    assert _accuracy("grid4", camera=0) < 0.5
