"""Places for the weights of plain vision transformers, which need no open_clip."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip.model import CLIPVisionCfg, _build_vision_tower

from fewshot_i2v.models.encoders import architectures, loading
from fewshot_i2v.models.encoders.catalog import DEMO_CONFIG
from fewshot_i2v.models.encoders.loading import load_encoder
from fewshot_i2v.models.encoders.plain_transformer import plain_vision_transformer
from tests.tiny import tiny_architecture

DEMO: dict[str, Any] = json.loads(DEMO_CONFIG.read_text())["model_cfg"]
SMALL = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 8}


NORMS = {"no_ln_pre": True, "norm_kwargs": {"eps": 1e-6}, "pool_type": "tok"}
"""As of ImageNet's transformers, and with layer scale of DINOv2."""
VARIANTS = [{}, NORMS, NORMS | {"ls_init_value": 1e-5, "mlp_ratio": 4.0}, {"mlp_ratio": 2.5}]


@pytest.mark.parametrize(
    "config", [DEMO, *({"embed_dim": 16, "vision_cfg": SMALL | change} for change in VARIANTS)]
)
def test_names_shapes_and_settings_are_those_of_open_clip(config: dict[str, Any]) -> None:
    plain = plain_vision_transformer(config)
    assert plain is not None
    with torch.device("meta"):
        expected: Any = _build_vision_tower(
            config["embed_dim"], CLIPVisionCfg(**config["vision_cfg"])
        )
    shapes = {name: tensor.shape for name, tensor in expected.state_dict().items()}
    assert {name: tensor.shape for name, tensor in plain.state_dict().items()} == shapes
    for key in ("image_size", "patch_size", "pool_type"):
        assert getattr(plain, key) == getattr(expected, key)
    assert getattr(plain.ln_pre, "eps", None) == getattr(expected.ln_pre, "eps", None)
    assert plain.ln_post.eps == expected.ln_post.eps
    blocks: Any = plain.transformer.resblocks
    for block, other in zip(blocks, expected.transformer.resblocks, strict=True):
        assert block.attn.num_heads == other.attn.num_heads
        assert (block.ln_1.eps, block.ln_2.eps) == (other.ln_1.eps, other.ln_2.eps)
        assert block.mlp.gelu.approximate == other.mlp.gelu.approximate
    assert all(parameter.is_meta for parameter in plain.parameters())


@pytest.mark.parametrize(
    "change",
    [
        {"no_ln_pre": 1},
        {"pool_type": "avg"},
        {"norm_kwargs": {"eps": 1e-6, "bias": False}},
        {"norm_kwargs": [1e-6]},
        {"norm_kwargs": {"eps": 0}},
        {"mlp_ratio": "4"},
        {"final_ln_after_pool": True},
        {"layers": [1, 1, 1, 1]},
        {"width": 33},
        {"layers": 0},
        {"patch_size": 64},
        {"ls_init_value": True},
    ],
)
def test_what_is_not_plain_is_left_to_open_clip(change: dict[str, Any]) -> None:
    assert plain_vision_transformer({"embed_dim": 16, "vision_cfg": SMALL | change}) is None
    quick = {"embed_dim": 16, "quick_gelu": True, "vision_cfg": SMALL}
    assert plain_vision_transformer(quick) is None


@pytest.mark.parametrize("change", VARIANTS)
def test_random_weights_of_other_than_plain_sizes_are_left_to_open_clip(
    change: dict[str, Any],
) -> None:
    plain = plain_vision_transformer({"embed_dim": 16, "vision_cfg": SMALL | change}, "cpu")
    assert (plain is None) == bool(change)


@pytest.mark.parametrize("change", VARIANTS)
def test_weights_of_a_file_give_the_same_encoder_with_and_without_open_clip(
    change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, weights = tmp_path / "mine.json", tmp_path / "mine.pt"
    path.write_text(json.dumps({"embed_dim": 16, "vision_cfg": SMALL | change}))
    visual = _build_vision_tower(16, CLIPVisionCfg(**(SMALL | change)))
    torch.save({f"visual.{name}": tensor for name, tensor in visual.state_dict().items()}, weights)
    options: dict[str, Any] = {"architecture": path, "pretrained": weights, "mean": 0.5, "std": 0.5}
    encoder = load_encoder("mine", **options)
    monkeypatch.setattr(architectures, "plain_vision_transformer", lambda *_: None)
    assert encoder.digest == load_encoder("mine", **options).digest
    pixels = torch.rand(2, 3, 32, 32)
    theirs = load_encoder("mine", **options)
    assert torch.equal(encoder.tower.encode(pixels), theirs.tower.encode(pixels))


def test_random_weights_are_those_of_open_clips_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    architecture = tiny_architecture(tmp_path)
    state = torch.random.get_rng_state()
    encoder = load_encoder("tiny", architecture=architecture, pretrained="random")
    assert torch.equal(state, torch.random.get_rng_state())
    monkeypatch.setattr(loading, "plain_vision_transformer", lambda *_: None)
    theirs = load_encoder("tiny", architecture=architecture, pretrained="random")
    assert encoder.digest == theirs.digest


def test_shipped_and_random_weights_are_loaded_without_open_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That no module imports it at once is held by the test of what a dry run imports."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "open_clip"]:
        monkeypatch.setitem(sys.modules, name, None)  # to import it is an error now
    with pytest.raises(ImportError):
        import open_clip.model  # noqa: F401
    load_encoder("tiny", architecture=tiny_architecture(tmp_path), pretrained="random")
    assert load_encoder().digest[:8] == "06d7a7dc"
