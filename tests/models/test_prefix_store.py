"""The door to frozen prefixes: read where they were computed before, and equal either way."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewshot_i2v.data.video.clip_cache import ClipCache
from fewshot_i2v.data.video.feature_files import FeatureFiles
from fewshot_i2v.data.video.reader import DecodeOptions
from fewshot_i2v.errors import VideoChangedError
from fewshot_i2v.models import prefix_store
from fewshot_i2v.models.adapters.base.frozen_prefix import PrefixSpec
from fewshot_i2v.models.encoders.loading import Encoder, load_encoder
from fewshot_i2v.models.prefix_store import PrefixStore
from tests.data.video.made_videos import write_video
from tests.tiny import tiny_architecture

FRAMES = 4
SPEC = PrefixSpec(2, grid_sizes=(2,))


class Door:
    """One clip, one encoder and one cache folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clip = write_video(folder / "clip.mp4", "mpeg4", 9)
        self.encoder = load_encoder(
            "tiny", architecture=tiny_architecture(folder), pretrained="random", mean=0.5, std=0.5
        )
        self.said: list[str] = []
        self.frames_read = 0

    def store(self, encoder: Encoder | None = None, **options: int | bool) -> PrefixStore:
        frames = int(options.get("frames", FRAMES))
        size = (encoder or self.encoder).tower.image_size
        decoding = DecodeOptions(frames=frames, size=size, crop=options.get("crop", 0.875))
        self.clips = ClipCache(self.folder / "clips", decoding, workers=0)
        files = FeatureFiles(self.clips, self.said.append) if options.get("cached", True) else None
        deterministic = bool(options.get("deterministic"))
        return PrefixStore(encoder or self.encoder, frames, files, deterministic=deterministic)

    def load(self, store: PrefixStore, spec: PrefixSpec = SPEC, order: str = "") -> Tensor:
        def _frames() -> NDArray[np.uint8]:
            self.frames_read += 1
            assert self.clips.prepare([self.clip]) == {}
            return self.clips.get(self.clip)

        return store.load(self.clip, spec, _frames, order)


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path)


@pytest.mark.parametrize(
    "spec",
    [
        PrefixSpec(2),
        SPEC,
        PrefixSpec(2, levels=(0, 1)),
        PrefixSpec(2, levels=(0, 1), summary_only=True),
        PrefixSpec(1),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_prefix_is_read_once_it_was_computed(
    door: Door, spec: PrefixSpec, dtype: torch.dtype
) -> None:
    encoder = replace(door.encoder, tower=door.encoder.tower.to("cpu", dtype))
    first = door.store(encoder)
    computed = door.load(first, spec)
    assert (first.n_computed, first.n_read, door.frames_read) == (1, 0, 1)
    again = door.store(encoder)
    stored = door.load(again, spec)
    assert (again.n_computed, again.n_read, door.frames_read) == (0, 1, 1)
    without = door.load(door.store(encoder, cached=False), spec)
    assert door.frames_read == 2
    for other in (stored, without):
        assert other.dtype == computed.dtype
        assert torch.equal(other, computed)
    assert computed.shape == spec.clip_shape(encoder.tower, FRAMES)
    assert door.said == []


@pytest.mark.parametrize("spec", [PrefixSpec(-1), PrefixSpec(0)])
def test_what_is_larger_than_frames_and_quickly_computed_is_not_written(
    door: Door, spec: PrefixSpec
) -> None:
    for _ in range(2):
        store = door.store()
        door.load(store, spec)
        assert store.n_computed == 1
        assert store.find([door.clip], spec, [""]) == [False]


def test_a_large_prefix_is_not_written(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_store, "_MAX_ENTRY_BYTES", 100)
    for _ in range(2):
        store = door.store()
        door.load(store)
        assert store.n_computed == 1


def _other_weights(door: Door) -> Encoder:
    return load_encoder("tiny", architecture=door.folder / "tiny.json", pretrained="random", mean=0)


CHANGES: dict[str, Callable[[Door, pytest.MonkeyPatch], Tensor]] = {
    "weights or pixel constants": lambda door, _: door.load(
        door.store(replace(door.encoder, digest="0" * 64))
    ),
    "precision": lambda door, _: door.load(
        door.store(replace(door.encoder, tower=door.encoder.tower.to("cpu", torch.bfloat16)))
    ),
    "size": lambda door, _: door.load(
        door.store(replace(door.encoder, tower=door.encoder.tower.resized(64)))
    ),
    "frames": lambda door, _: door.load(door.store(frames=3)),
    "crop": lambda door, _: door.load(door.store(crop=1.0)),
    "order of the frames": lambda door, _: door.load(door.store(), order="[3, 2, 1, 0]"),
    "what is computed": lambda door, _: door.load(door.store(), PrefixSpec(2, grid_sizes=(1, 2))),
    "version": lambda door, patch: _with(patch, "PREFIX_VERSION", 0, door),
    "device": lambda door, patch: _with(patch, "device_name", lambda _: "H200", door),
    "content": lambda door, _: _other_content(door),
}


def _with(patch: pytest.MonkeyPatch, name: str, value: object, door: Door) -> Tensor:
    patch.setattr(prefix_store, name, value)
    return door.load(door.store())


def _other_content(door: Door) -> Tensor:
    write_video(door.clip, "mpeg4", 12)
    return door.load(door.store())


@pytest.mark.parametrize("change", CHANGES)
def test_each_part_of_the_key_makes_another_entry(
    door: Door, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    door.load(door.store())
    CHANGES[change](door, monkeypatch)
    assert door.frames_read == 2


def test_code_of_other_packages_is_part_of_the_key(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    door.load(door.store())
    monkeypatch.setattr(type(door.encoder.tower), "computation", ("open_clip_torch 9",))
    door.load(door.store())
    assert door.frames_read == 2


def test_settings_that_weights_do_not_show_are_part_of_the_key(door: Door) -> None:
    path, prefixes, digests = door.folder / "tiny.json", [], set()
    content = json.loads(path.read_text())
    for heads in (2, 4):
        content["vision_cfg"] |= {"attentional_pool": True, "attn_pooler_heads": heads}
        path.write_text(json.dumps(content))
        encoder = load_encoder("tiny", architecture=path, pretrained="random", mean=0.5, std=0.5)
        prefixes.append(door.load(door.store(encoder), PrefixSpec(encoder.tower.layers)))
        digests.add(encoder.digest)
        door.load(door.store(encoder), PrefixSpec(encoder.tower.layers))
    assert len(digests) == 1
    assert not torch.equal(*prefixes)
    assert door.frames_read == 2


def test_a_damaged_prefix_is_computed_again(door: Door) -> None:
    computed = door.load(door.store())
    (path,) = (door.folder / "clips").rglob("*.safetensors")
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[-5] ^= 4
    path.write_bytes(data)
    assert torch.equal(door.load(door.store()), computed)
    assert door.frames_read == 2
    assert len(door.said) == 1
    assert torch.equal(door.load(door.store()), computed)
    assert door.frames_read == 2


def test_frames_of_other_content_are_not_stored_under_this_one(door: Door) -> None:
    store = door.store()

    def _frames() -> NDArray[np.uint8]:
        door.clips.prepare([door.clip])
        frames = door.clips.get(door.clip)
        write_video(door.clip, "mpeg4", 12)
        return frames

    with pytest.raises(VideoChangedError, match="changed while it was read"):
        store.load(door.clip, SPEC, _frames)
    assert not list((door.folder / "clips").rglob("*.safetensors"))


def test_a_clip_does_not_depend_on_its_neighbours(door: Door) -> None:
    """Each is encoded alone: the batch has one shape, whatever is missing."""
    shapes = []
    tower = door.encoder.tower
    original = type(tower).patch_embed

    class _Watched(type(tower)):  # type: ignore[misc]
        def patch_embed(self, pixels: Tensor) -> Tensor:
            shapes.append(tuple(pixels.shape[:2]))
            return original(self, pixels)

    watched = _Watched(**vars(tower))
    store = PrefixStore(replace(door.encoder, tower=watched), FRAMES, None, deterministic=False)
    frames = np.zeros((FRAMES, 32, 32, 3), np.uint8)
    for _ in range(3):
        store.compute(frames, SPEC)
    assert shapes == [(1, FRAMES)] * 3
