"""The raw pixels as an encoder: equal to plain numpy, and honest about what they cannot do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fewshot_i2v import registry
from fewshot_i2v.errors import AdapterError, EncoderError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.checkpoints.metadata import encoder_metadata
from fewshot_i2v.models.encoders.loading import load_encoder, meta_tower
from fewshot_i2v.models.encoders.open_clip_conversion import open_clip_state_dict
from fewshot_i2v.models.encoders.text_tower import load_text_tower
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.models.heads.base.readouts import motion_map
from tests.models.tiny_adapters import make_adapter

CLIPS = np.random.default_rng(0).integers(0, 256, (2, 5, 32, 32, 3), dtype=np.uint8)
"""Two clips of five frames of 2 x 2 patches."""


def read(tower: Tower, *grid_sizes: int) -> Features:
    """Features of the clips through the frozen adapter."""
    encoder = AdaptedEncoder(tower, make_adapter("frozen", tower, frames=5))
    pixels = tower.normalize(torch.from_numpy(CLIPS))
    features: Features = encoder(
        encoder.compute_prefix(pixels, grid_sizes=grid_sizes)[None], grid_sizes=grid_sizes
    )
    return features


def patches_in_numpy(mean: float, std: float) -> NDArray[np.float64]:
    """Normalised pixels of each patch, (clips, T, patches, 768)."""
    normalized = (CLIPS / 255 - mean) / std
    patches = [
        normalized[:, :, top : top + 16, left : left + 16]
        .transpose(0, 1, 4, 2, 3)
        .reshape(2, 5, -1)
        for top in (0, 16)
        for left in (0, 16)
    ]
    return np.stack(patches, 2)


@pytest.mark.parametrize(("mean", "std"), [(0.5, 0.5), (0.4, 0.25)])
def test_features_are_the_pixels_of_the_frames(mean: float, std: float) -> None:
    tower = load_encoder("pixels", image_size=32, mean=mean, std=std).tower
    features, expected = read(tower, 1, 2), patches_in_numpy(mean, std)
    assert features.grids[2].shape == (1, 2, 5, 4, 768)
    np.testing.assert_allclose(features.grids[2][0], expected, atol=1e-5)
    np.testing.assert_allclose(features.grids[1][0, :, :, 0], expected.mean(2), atol=1e-5)
    np.testing.assert_allclose(features.frames[0], expected.mean(2), atol=1e-5)
    np.testing.assert_allclose(features.clip[0], expected.mean((1, 2)), atol=1e-5)
    summary = tower.encode(tower.normalize(torch.from_numpy(CLIPS)))
    np.testing.assert_allclose(summary, expected.mean(2), atol=1e-5)


def test_the_motion_map_is_that_of_raw_frames() -> None:
    tower = load_encoder("pixels", image_size=32).tower
    patches = patches_in_numpy(0.5, 0.5)
    norms = np.sqrt(((patches - patches.mean(1, keepdims=True)) ** 2).sum(-1))
    expected = norms - norms.mean((1, 2), keepdims=True)
    np.testing.assert_allclose(motion_map(read(tower, 2).grids[2])[0], expected, atol=1e-4)


@pytest.mark.parametrize(("size", "side"), [(None, 7), (64, 4), (224, 14)])
def test_other_sizes_are_more_or_fewer_patches_of_the_same_encoder(
    size: int | None, side: int
) -> None:
    encoder = load_encoder("pixels", image_size=size)
    assert (encoder.tower.grid, encoder.tower.tokens) == (side, side**2 + 1)
    assert (encoder.tower.width, encoder.tower.patch, encoder.tower.layers) == (768, 16, 0)
    assert encoder.digest == load_encoder("pixels").digest
    with pytest.raises(EncoderError, match=r"100 is not a multiple .* nearest that is: 96"):
        load_encoder("pixels", image_size=100)


def test_the_digest_is_that_of_the_pixel_constants() -> None:
    digests = {
        load_encoder("pixels", **constants).digest
        for constants in ({}, {"mean": 0.4}, {"std": 0.25}, {"mean": (0.5, 0.5, 0.4)})
    }
    assert len(digests) == 4
    low = load_encoder("pixels", dtype=torch.bfloat16)
    assert low.digest == load_encoder("pixels", mean=0.5, std=0.5).digest
    assert (low.parameters, low.pretrained, low.has_text_tower) == (0, "none", False)


def test_bfloat16_rounds_the_pixels_and_nothing_else() -> None:
    tower = load_encoder("pixels", image_size=32, dtype=torch.bfloat16).tower
    features = read(tower, 2)
    assert tower.normalize(torch.from_numpy(CLIPS)).dtype == torch.bfloat16
    expected = torch.from_numpy(patches_in_numpy(0.5, 0.5)).float().bfloat16().float()
    torch.testing.assert_close(features.grids[2][0], expected, atol=2**-7, rtol=0)
    # the mean of rounded pixels, itself not rounded
    torch.testing.assert_close(features.frames, features.grids[2].mean(-2), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", sorted(set(registry.method_names("adapters")) - {"frozen"}))
def test_adapters_that_need_blocks_are_refused(name: str) -> None:
    with pytest.raises(AdapterError, match=r"cannot be adapted: it is the raw pixels, without any"):
        make_adapter(name, load_encoder("pixels").tower, frames=8)


@pytest.mark.parametrize(
    "settings", [{"pretrained": "random"}, {"pretrained": "openai"}, {"architecture": "mine.json"}]
)
def test_weights_and_architectures_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(EncoderError, match=r"it has no architecture, no weights .* Leave out"):
        load_encoder("pixels", **settings)


def test_what_needs_a_network_is_refused_in_words() -> None:
    tower = load_encoder("pixels").tower
    with pytest.raises(EncoderError, match="no text tower"):
        load_text_tower("pixels")
    with pytest.raises(EncoderError, match=r"without any network.*adapter 'frozen' alone"):
        meta_tower("pixels")
    with pytest.raises(EncoderError, match="without any network"):
        open_clip_state_dict(tower)
    with pytest.raises(EncoderError, match="no blocks to work on"):
        tower.with_blocks([])
    with pytest.raises(EncoderError, match="no blocks to work on"):
        _ = tower.heads


def test_a_checkpoint_can_name_it() -> None:
    metadata = encoder_metadata(load_encoder("pixels", image_size=64))
    assert metadata.label.startswith("pixels (none, sha256 ")
    assert (metadata.width, metadata.layers, metadata.heads, metadata.patch) == (768, 0, None, None)
