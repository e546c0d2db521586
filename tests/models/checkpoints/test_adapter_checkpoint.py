"""A saved adapter comes back as it was, or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fewshot_i2v import load_adapter, registry, save_adapter
from fewshot_i2v.errors import CheckpointError, ExportError
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.checkpoints.adapter_checkpoint import write_adapter
from fewshot_i2v.models.encoders.loading import Encoder, load_encoder
from fewshot_i2v.models.encoders.open_clip_conversion import open_clip_state_dict
from tests.models.made_starts import make_start
from tests.models.saved import (
    FRAMES,
    WAY,
    features_of,
    make_head,
    moved_adapter,
    only,
    tiny_encoder,
)
from tests.models.tiny_adapters import make_adapter
from tests.tiny import tiny_architecture

ADAPTERS, HEADS = registry.method_names("adapters"), registry.method_names("heads")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return tiny_encoder(tmp_path_factory.mktemp("checkpoint"))


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_adapter_comes_back_as_it_was(name: str, encoder: Encoder, tmp_path: Path) -> None:
    adapter = moved_adapter(name, encoder)
    info = save_adapter(tmp_path / "saved", encoder, name, adapter, episode=1)
    trained = load_adapter(tmp_path / "saved", encoder, adapter=name)
    assert trained.metadata == info
    assert trained.head is None
    assert trained.adapter.options == adapter.options
    expected, found = features_of(encoder, adapter), features_of(encoder, trained.adapter)
    torch.testing.assert_close(found.frames[0], expected.frames[1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.clip[0], expected.clip[1], rtol=1e-5, atol=1e-5)
    old, new = adapter.state_dict(), trained.adapter.state_dict()
    assert old.keys() == new.keys()
    assert all(torch.equal(new[key][0], old[key][1]) for key in old)


@pytest.mark.parametrize("name", HEADS)
def test_every_head_comes_back_as_it_was(name: str, encoder: Encoder, tmp_path: Path) -> None:
    adapter, head = moved_adapter("st-adapter", encoder), make_head(name, encoder)
    for module in head.parameters():
        module.data.add_(1.0)
    classes = ["a", "b/c", "<d>"]
    save_adapter(tmp_path / "x", encoder, "st-adapter", adapter, name, head, classes=classes)
    trained = load_adapter(tmp_path / "x", encoder, head=name)
    assert trained.head is not None
    assert trained.metadata.classes == classes
    features = features_of(encoder, adapter)
    support = Features(features.frames[:, :WAY], features.clip[:, :WAY])
    labels = torch.arange(WAY).expand(2, -1)
    with torch.no_grad():
        expected = head(features, support, labels)[0]
        found = trained.head(only(features, 0), only(support, 0), labels[:1])[0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", ["st-adapter", "aim", "zeroi2v"])
def test_a_starting_point_in_half_precision_is_loaded_in_float32(
    name: str, encoder: Encoder, tmp_path: Path
) -> None:
    half, whole = (tmp_path / kind for kind in ("half", "whole"))
    make_start(whole, encoder, name)
    make_start(half, encoder, name, half=True)
    expected = load_adapter(whole, encoder).adapter.state_dict()
    found = load_adapter(half, encoder).adapter.state_dict()
    assert found.keys() == expected.keys()
    for key, value in found.items():
        assert value.dtype == torch.float32, key
        assert torch.equal(value, expected[key].half().float()), key


def test_half_precision_is_damage_where_nothing_says_so(encoder: Encoder, tmp_path: Path) -> None:
    half = moved_adapter("aim", encoder).half()
    for i, about in enumerate(({}, {"start": {}}, {"start": "float16"}, {"stored": "float16"})):
        save_adapter(tmp_path / str(i), encoder, "aim", half, about=about)
        with pytest.raises(CheckpointError, match=r"float16 .*should be float32"):
            load_adapter(tmp_path / str(i), encoder)


def test_a_changed_starting_point_in_half_precision_is_refused(
    encoder: Encoder, tmp_path: Path
) -> None:
    make_start(tmp_path / "s", encoder, half=True)
    path = tmp_path / "s" / "adapter.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="changed since it was written"):
        load_adapter(tmp_path / "s", encoder)


def test_options_presets_and_plain_facts_are_kept(encoder: Encoder, tmp_path: Path) -> None:
    options = {"scale": 1.0, "offsets": [0, -1]}
    cls = registry.load_method("adapters", "zeroi2v")
    adapter = cls(encoder.tower, cls.parse(options), frames=FRAMES, seeds=[0])
    about = {"run": "x", "numbers": [1, 2.5, None]}
    save_adapter(tmp_path / "x", encoder, "zeroi2v", adapter, preset="sthv2", about=about)
    info = load_adapter(tmp_path / "x", encoder).metadata
    assert info.adapter.options["offsets"] == info.head_offsets == [0, -1]
    assert info.adapter.preset == "sthv2"
    assert info.about == about
    assert (info.encoder.width, info.encoder.layers, info.encoder.heads) == (32, 2, 2)
    assert (info.encoder.patch, info.encoder.image_size, info.frames) == (16, 32, FRAMES)
    assert (info.encoder.mean, info.encoder.std) == ([0.5] * 3, [0.5] * 3)
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == [
        "adapter.json",
        "adapter.safetensors",
    ]


def test_all_files_can_be_read_by_the_same_people(encoder: Encoder, tmp_path: Path) -> None:
    frozen = make_adapter("frozen", encoder.tower, frames=FRAMES)
    for mask, mode in ((0o022, 0o644), (0o027, 0o640)):
        before = os.umask(mask)
        try:
            save_adapter(tmp_path / str(mask), encoder, "frozen", frozen)
        finally:
            os.umask(before)
        modes = {path.stat().st_mode & 0o777 for path in (tmp_path / str(mask)).iterdir()}
        assert modes == {mode}


def test_a_tower_without_blocks_has_no_heads_to_write_down(tmp_path: Path) -> None:
    path = tmp_path / "resnet.json"
    vision = {"layers": [1, 1, 1, 1], "width": 8, "image_size": 32}
    path.write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision}), encoding="utf-8")
    encoder = load_encoder("rn", architecture=path, pretrained="random")
    frozen = make_adapter("frozen", encoder.tower, frames=FRAMES)
    save_adapter(tmp_path / "x", encoder, "frozen", frozen)
    info = load_adapter(tmp_path / "x", encoder).metadata
    assert (info.encoder.heads, info.encoder.patch) == (None, None)


def test_what_does_not_belong_together_is_not_saved(encoder: Encoder, tmp_path: Path) -> None:
    adapter, head = moved_adapter("lora", encoder), make_head("linear", encoder)
    place = tmp_path / "x"

    def refused(pattern: str, *args: Any, **more: Any) -> None:
        with pytest.raises(CheckpointError, match=pattern):
            save_adapter(place, encoder, *args, **more)
        assert list(tmp_path.iterdir()) == []

    refused("adapter 'aim' is AIM; got", "aim", adapter)
    refused("head 'otam' is", "lora", adapter, "otam", head)
    refused("give a head with its name", "lora", adapter, None, head)
    refused("give a head with its name", "lora", adapter, "linear")
    refused("2 class names", "lora", adapter, "linear", head, classes=["a", "b"])
    refused("holds copies 0 to 1", "lora", adapter, episode=2)
    refused("plain JSON values", "lora", adapter, about={"x": object()})
    refused("plain JSON values", "lora", adapter, about={"x": float("nan")})
    with torch.no_grad():
        next(adapter.parameters())[0, 0] = float("inf")
    refused("NaN or infinite values in adapter.maps", "lora", adapter)


def test_nothing_is_written_over(encoder: Encoder, tmp_path: Path) -> None:
    frozen = make_adapter("frozen", encoder.tower, frames=FRAMES)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("full", "file"):
        with pytest.raises(CheckpointError, match="exists, and nothing is written over"):
            save_adapter(tmp_path / name, encoder, "frozen", frozen)
    (tmp_path / "empty").mkdir()
    save_adapter(tmp_path / "empty", encoder, "frozen", frozen)
    save_adapter(tmp_path / "deep" / "er", encoder, "frozen", frozen)
    assert load_adapter(tmp_path / "deep" / "er", encoder).adapter.frames == FRAMES
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "empty", "file", "full"]


def test_a_full_disk_leaves_nothing_behind(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    frozen = make_adapter("frozen", encoder.tower, frames=FRAMES)
    with pytest.raises(ExportError, match=r"cannot be written: .*No space left"):
        save_adapter(tmp_path / "x", encoder, "frozen", frozen)
    assert list(tmp_path.iterdir()) == []


def test_the_description_says_nothing_of_this_machine(encoder: Encoder, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(open_clip_state_dict(encoder.tower), path)
    own = load_encoder(
        "mine", architecture=tiny_architecture(tmp_path), pretrained=path, mean=0.5, std=0.5
    )
    folder = tmp_path / "x"
    folder.mkdir()
    write_adapter(folder, own, "frozen", make_adapter("frozen", own.tower, frames=FRAMES))
    text = (folder / "adapter.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert '"pretrained": "weights.safetensors"' in text
