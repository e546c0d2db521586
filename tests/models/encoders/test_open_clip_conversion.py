"""A tower written back as an open_clip visual model computes the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from fewshot_i2v.errors import EncoderError
from fewshot_i2v.models.checkpoints.files import CONFIG_FILE, WEIGHTS_FILE
from fewshot_i2v.models.checkpoints.merging import write_open_clip_folder
from fewshot_i2v.models.encoders import loading
from fewshot_i2v.models.encoders.loading import load_encoder
from fewshot_i2v.models.encoders.open_clip_conversion import (
    open_clip_state_dict,
    tower_from_open_clip,
)
from tests.tiny import tiny_tower

Visual = Callable[..., Any]
Random = Callable[..., Tensor]
TEXT = {"context_length": 4, "vocab_size": 16, "width": 8, "heads": 2, "layers": 1}
HALF = torch.full((3,), 0.5)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"quick_gelu": True},
        {"ls_init_value": 0.1},
        {"no_ln_pre": True},
        {"pool_type": "avg", "final_ln_after_pool": True, "quick_gelu": True},
    ],
    ids=str,
)
def test_walked_and_back_a_model_computes_the_same(
    changes: dict[str, Any], make_visual: Visual, random: Random
) -> None:
    original, copy = make_visual(**changes), make_visual(seed=1, **changes)
    tower = tower_from_open_clip(original, mean=HALF, std=HALF)
    state = open_clip_state_dict(tower, layer_scale="ls_init_value" in changes)
    copy.load_state_dict(state, strict=True)
    pixels = random((2, 3, 32, 32))
    with torch.no_grad():
        torch.testing.assert_close(copy(pixels), original(pixels), rtol=1e-5, atol=1e-5)
    if "ls_init_value" not in changes:
        for name, tensor in original.state_dict().items():
            torch.testing.assert_close(state[name], tensor, rtol=3e-7, atol=0)


def test_the_tensors_are_copies(make_visual: Visual) -> None:
    tower = tower_from_open_clip(make_visual(), mean=HALF, std=HALF)
    before = tower.blocks[0].qkv_bias.clone()
    for tensor in open_clip_state_dict(tower).values():
        tensor.zero_()
    assert torch.equal(tower.blocks[0].qkv_bias, before)


def test_towers_that_cannot_be_written_are_refused() -> None:
    with pytest.raises(EncoderError, match="no projection"):
        open_clip_state_dict(tiny_tower())
    resnet = {"layers": [1, 1, 1, 1], "width": 8, "image_size": 32}
    from open_clip.model import CLIPVisionCfg, _build_vision_tower

    visual = _build_vision_tower(8, CLIPVisionCfg(**resnet), False).eval()
    with pytest.raises(EncoderError, match="cannot be written: it is a ResNet"):
        open_clip_state_dict(tower_from_open_clip(visual, mean=HALF, std=HALF))


def test_another_input_size_and_other_constants_are_written_down(
    configuration: Callable[..., Path], tmp_path: Path, random: Random
) -> None:
    path = configuration()
    given = {"architecture": path, "pretrained": "random"}
    encoder = load_encoder("x", **given, mean=(0.1, 0.2, 0.3), std=0.4, image_size=48)
    assert not write_open_clip_folder(tmp_path, encoder.tower, name="x", **given)
    settings = json.loads((tmp_path / CONFIG_FILE).read_text(encoding="utf-8"))
    assert settings["model_cfg"]["vision_cfg"]["image_size"] == 48
    assert settings["preprocess_cfg"]["size"] == [48, 48]
    again = load_encoder(
        "x", architecture=tmp_path / CONFIG_FILE, pretrained=tmp_path / WEIGHTS_FILE
    )
    pixels = random((1, 3, 48, 48))
    torch.testing.assert_close(again.tower.encode(pixels), encoder.tower.encode(pixels))
    assert torch.equal(again.tower.mean, encoder.tower.mean)
    assert json.loads(path.read_text(encoding="utf-8"))["vision_cfg"]["image_size"] == 32
    assert not any(name.startswith("visual.") for name in load_file(tmp_path / WEIGHTS_FILE))


def _whole(folder: Path, config: dict[str, Any]) -> Any:  # noqa: ANN401 - a model of open_clip
    """A CLIP model with both towers, with random weights."""
    folder.mkdir()
    (folder / CONFIG_FILE).write_text(json.dumps({"model_cfg": config}), encoding="utf-8")
    with torch.random.fork_rng():
        return open_clip.create_model(f"local-dir:{folder}").eval()


@pytest.mark.parametrize("source", ["file", "wrapped", "tag"])
def test_the_text_tower_goes_with_it(
    source: str,
    configuration: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    random: Random,
) -> None:
    path = configuration(top={"text_cfg": TEXT, "quick_gelu": True})
    config = json.loads(path.read_text(encoding="utf-8"))
    whole = _whole(tmp_path / "source", config)
    given: dict[str, Any] = {"architecture": path, "pretrained": str(tmp_path / "clip.pt")}
    state = whole.state_dict()
    if source == "wrapped":
        state = {"state_dict": {f"module.{name}": t for name, t in state.items()}}
    torch.save(state, given["pretrained"])
    encoder = load_encoder("x", **given, mean=0.5, std=0.5)
    if source == "tag":  # its activation is not the name's
        given["pretrained"] = "a-tag"
        path.write_text(json.dumps(config | {"quick_gelu": False}), encoding="utf-8")
        settings = {"mean": 0.1, "std": 0.1, "interpolation": "bilinear", "url": "https://x"}
        monkeypatch.setattr(loading, "load_pretrained_clip", lambda *_: (whole, settings))
        # tags belong to open_clip's own architectures, and this one is a file's
        monkeypatch.setattr(
            loading, "find_weights", lambda model, tag: loading.WeightsSource(model, tag, None)
        )
    out = tmp_path / "out"
    out.mkdir()
    assert write_open_clip_folder(out, encoder.tower, name="x", **given)
    again = open_clip.create_model(f"local-dir:{out}").eval()
    pixels, texts = random((2, 3, 32, 32)), torch.tensor([[1, 2, 15, 0]])
    with torch.no_grad():
        assert torch.equal(again.encode_text(texts), whole.encode_text(texts))
        torch.testing.assert_close(
            again.encode_image(pixels), whole.encode_image(pixels), rtol=1e-5, atol=1e-5
        )
    pixel_settings = json.loads((out / CONFIG_FILE).read_text(encoding="utf-8"))["preprocess_cfg"]
    assert pixel_settings["mean"] == [0.5] * 3
    assert pixel_settings.get("interpolation") == ("bilinear" if source == "tag" else None)
    assert "url" not in pixel_settings


def test_a_text_tower_that_the_configuration_does_not_have_is_left_out(
    configuration: Callable[..., Path], tmp_path: Path
) -> None:
    config = json.loads(configuration(top={"text_cfg": TEXT}).read_text(encoding="utf-8"))
    whole = _whole(tmp_path / "source", config)
    torch.save(whole.state_dict(), tmp_path / "clip.pt")
    given: dict[str, Any] = {"architecture": configuration(), "pretrained": tmp_path / "clip.pt"}
    encoder = load_encoder("x", **given, mean=0.5, std=0.5)
    given["pretrained"] = str(given["pretrained"])
    assert not write_open_clip_folder(tmp_path, encoder.tower, name="x", **given)
    assert "conv1.weight" in load_file(tmp_path / WEIGHTS_FILE)
