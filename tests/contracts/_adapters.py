"""The adapters that the contract is checked for, and how the tests build, run and train them."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor

from fewshot_i2v import registry
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.encoders.tower import Tower
from tests.contracts._plugins import everything
from tests.models.tiny_adapters import FRAMES, make_adapter, make_clips, perturb
from tests.tiny import tiny_tower

CLIPS = 2
CELLS = 3
"""Cells on a side of the grid that is compared; they do not divide the tower's 4 x 4 patches."""


@functools.cache
def the_tower() -> Tower:
    """One tower for all tests; that it stays as it is, is itself tested."""
    return tiny_tower()


@functools.cache
def the_pixels() -> Tensor:
    """Two clips, (2, T, 3, H, W)."""
    return make_clips(the_tower(), CLIPS)


def build(name: str, *seeds: int, moved: bool = False, frames: int = FRAMES) -> AdaptedEncoder:
    """An adapter with its default options on the tiny tower.

    Args:
        name: of the adapter.
        seeds: one per episode; one episode when none is given.
        moved: whether every parameter is moved away from its start.
        frames: frames T of a clip.
    """
    adapter = make_adapter(name, the_tower(), frames=frames, seeds=seeds or (0,))
    if moved:
        perturb(adapter, seeds or (0,))
    return AdaptedEncoder(the_tower(), adapter)


def run(encoder: AdaptedEncoder, pixels: Tensor, *, cells: int = 0) -> Features:
    """Features of the same clips for every episode."""
    sizes = (cells,) if cells else ()
    kept = encoder.compute_prefix(pixels, grid_sizes=sizes)
    features: Features = encoder(
        kept.expand(encoder.adapter.episodes, *kept.shape), grid_sizes=sizes
    )
    return features


def losses(encoder: AdaptedEncoder, pixels: Tensor) -> Tensor:
    """One loss per episode, (E,), that every feature enters, patch tokens too.

    An adapter may act on patch tokens alone, and after the last attention only a head that reads
    them can see it.
    """
    features = run(encoder, pixels, cells=encoder.tower.grid)
    parts = [features.frames, features.clip, *features.grids.values()]
    targets = torch.linspace(-1, 1, encoder.tower.width)
    return torch.stack([(part - targets).square().flatten(1).mean(1) for part in parts]).sum(0)


def train(encoder: AdaptedEncoder, steps: int) -> None:
    """Some steps of AdamW on `losses`."""
    optimizer = torch.optim.AdamW(encoder.adapter.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(losses(encoder, the_pixels()).sum())
        optimizer.step()


def assert_same(got: Features, expected: Features, limit: float = 1e-5) -> None:
    """Frame and clip features agree, and the grids; both have one or neither."""
    close = functools.partial(torch.testing.assert_close, rtol=limit, atol=limit)
    close(got.frames, expected.frames)
    close(got.clip, expected.clip)
    assert got.grids.keys() == expected.grids.keys()
    for size, grid in got.grids.items():
        close(grid, expected.grids[size])


def of_episode(features: Features, episode: int) -> Features:
    """The features of one episode, with an axis of one for it."""
    return features.map(lambda part: part[episode, None])


with everything():
    ROWS = registry.list_methods("adapters")
    NAMES = [row.name for row in ROWS]
    TRAINED = [name for name in NAMES if any(True for _ in build(name).adapter.parameters())]
    ORDERED = [name for name in NAMES if registry.load_method("adapters", name).frame_order != "no"]

every_adapter = pytest.mark.parametrize("name", NAMES)
every_trained_adapter = pytest.mark.parametrize("name", TRAINED)
every_ordered_adapter = pytest.mark.parametrize("name", ORDERED)
