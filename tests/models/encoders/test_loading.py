"""An encoder is exactly what was asked for, or an error that says what to give."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip import factory, pretrained
from safetensors.torch import save_file
from torch import Tensor

from fewshot_i2v.errors import EncoderError, UnknownNameError
from fewshot_i2v.models.encoders import catalog
from fewshot_i2v.models.encoders.loading import Encoder, load_encoder
from fewshot_i2v.models.encoders.opaque_tower import OpaqueTower
from fewshot_i2v.models.encoders.open_clip_conversion import tower_from_open_clip

MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
CONSTANTS: dict[str, Any] = {"mean": 0.5, "std": 0.5}
TEXT = {"context_length": 4, "vocab_size": 16, "width": 8, "heads": 2, "layers": 1}
Visual = Callable[..., Any]
Configuration = Callable[..., Path]
Random = Callable[..., Tensor]


@pytest.fixture
def weights(make_visual: Visual, tmp_path: Path) -> Path:
    """A checkpoint of the tiny visual tower."""
    path = tmp_path / "tiny.safetensors"
    save_file(make_visual().state_dict(), path)
    return path


@pytest.fixture
def tag(configuration: Configuration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes open_clip know the model "tiny-clip" and tags for it whose file lies here."""
    config = configuration("tiny-clip", top={"text_cfg": TEXT})
    monkeypatch.setattr(factory, "_MODEL_CONFIG_PATHS", [*factory._MODEL_CONFIG_PATHS, config])
    monkeypatch.setattr(factory, "_MODEL_CONFIGS", dict(factory._MODEL_CONFIGS))
    open_clip.add_model_config(config)
    whole = open_clip.create_model("tiny-clip", force_quick_gelu=True)
    path = tmp_path / "whole.safetensors"
    save_file(whole.state_dict(), path)
    settings = {"file": str(path), "mean": MEAN, "std": STD}
    tags = {"plain": settings, "quick": settings | {"quick_gelu": True}}
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny-clip", tags)
    return path


def test_a_model_of_ones_own_loads_without_a_text_tower(
    configuration: Configuration, weights: Path, make_visual: Visual, random: Random
) -> None:
    state = torch.random.get_rng_state()
    encoder = load_encoder("mine", architecture=configuration(), pretrained=weights, **CONSTANTS)
    assert torch.equal(torch.random.get_rng_state(), state)
    visual = make_visual()
    half = torch.full((3,), 0.5)
    expected = tower_from_open_clip(visual, mean=half, std=half)
    pixels = random((2, 3, 32, 32))
    assert torch.equal(encoder.tower.encode(pixels), expected.encode(pixels))
    assert (encoder.name, encoder.pretrained, encoder.has_text_tower) == (
        "mine",
        str(weights),
        False,
    )
    assert encoder.parameters == sum(p.numel() for p in visual.parameters())
    assert len(encoder.digest) == 64


def test_the_file_may_change_after_loading(
    configuration: Configuration, weights: Path, random: Random
) -> None:
    encoder = load_encoder("mine", architecture=configuration(), pretrained=weights, **CONSTANTS)
    pixels = random((1, 3, 32, 32))
    before = encoder.tower.encode(pixels)
    content = bytearray(weights.read_bytes())
    content[-2000:] = bytes(2000)
    with weights.open("r+b") as file:
        file.write(content)
    assert torch.equal(encoder.tower.encode(pixels), before)


def test_constants_come_from_the_argument_or_the_configuration_or_are_refused(
    configuration: Configuration, weights: Path
) -> None:
    bare = configuration("bare")
    kept = configuration("kept", top={"preprocess_cfg": {"mean": MEAN, "std": STD}})
    hub = bare.with_name("open_clip_config.json")
    hub.write_text(
        json.dumps({"model_cfg": json.loads(bare.read_text())} | {"preprocess_cfg": CONSTANTS})
    )
    cases: list[tuple[dict[str, Any], str]] = [({}, "mean"), ({"mean": 0.5}, "std")]
    for given, missing in (*cases, ({"std": 0.5}, "mean")):
        with pytest.raises(EncoderError, match=f"the {missing} of the pixels .* is not known"):
            load_encoder("x", architecture=bare, pretrained=weights, **given)
    found = load_encoder("x", architecture=kept, pretrained=weights).tower
    assert found.mean.tolist() == pytest.approx(MEAN)
    assert found.std.tolist() == pytest.approx(STD)
    other = load_encoder("x", architecture=kept, pretrained=weights, mean=0.25).tower
    assert other.mean.tolist() == [0.25] * 3
    assert other.std.tolist() == pytest.approx(STD)
    assert load_encoder("x", architecture=hub, pretrained=weights).tower.std.tolist() == [0.5] * 3


@pytest.mark.parametrize(
    ("kind", "value"),
    [("mean", (0.1, 0.2)), ("mean", float("nan")), ("std", 0.0), ("std", (1.0, -1.0, 1.0))],
)
def test_impossible_constants_are_refused(
    kind: str, value: object, configuration: Configuration, weights: Path
) -> None:
    given = CONSTANTS | {kind: value}
    with pytest.raises(EncoderError, match=f"^{kind} .*expected one number or three"):
        load_encoder("x", architecture=configuration(), pretrained=weights, **given)


def test_local_checkpoints_of_named_models_must_fit_and_bring_constants(weights: Path) -> None:
    with pytest.raises(EncoderError, match=r"does not fit this visual tower: .* missing"):
        load_encoder("ViT-B-32-quickgelu", pretrained=weights)
    with pytest.raises(EncoderError, match=r"does not fit this visual tower: .* missing"):
        load_encoder("ViT-B-32", pretrained=f"openai@{weights}")


def test_weights_are_random_only_by_the_word(configuration: Configuration, random: Random) -> None:
    path, pixels = configuration(), random((1, 3, 32, 32))
    with pytest.raises(EncoderError, match=r"needs `pretrained`: give the path .* or 'random'"):
        load_encoder("x", architecture=path, **CONSTANTS)
    with pytest.raises(EncoderError, match=r"'ViT-B-32' needs `pretrained`: give a tag .openai, "):
        load_encoder("ViT-B-32", **CONSTANTS)
    state = torch.random.get_rng_state()
    first = load_encoder("x", architecture=path, pretrained="random")
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(3)
    second = load_encoder("x", architecture=path, pretrained="random")
    assert (first.name, first.pretrained) == ("x (random weights)", "random (seed 0)")
    assert first.digest == second.digest
    assert torch.equal(first.tower.encode(pixels), second.tower.encode(pixels))
    assert first.tower.mean.tolist() == first.tower.std.tolist() == [0.5] * 3


def test_the_digest_sees_weights_constants_and_activation_only(
    configuration: Configuration, make_visual: Visual, tmp_path: Path
) -> None:
    def load(path: Path, **changes: Any) -> Encoder:
        given = {"architecture": configuration(), "pretrained": path} | CONSTANTS | changes
        return load_encoder("x", **given)

    state = make_visual().state_dict()
    paths = [tmp_path / name for name in ("a.safetensors", "b.safetensors", "c.pt")]
    save_file(state, paths[0])
    save_file(state | {"proj": state["proj"] + 1e-6}, paths[1])
    torch.save({"state_dict": {f"visual.{name}": value for name, value in state.items()}}, paths[2])
    base = load(paths[0]).digest
    same = [load(paths[2]), load(paths[0], image_size=64), load(paths[0], dtype=torch.bfloat16)]
    assert {encoder.digest for encoder in same} == {base}
    quick = configuration("quick", top={"quick_gelu": True})
    heads = configuration("heads", head_width=16)
    others = [
        load(paths[1]),
        load(paths[0], std=0.4),
        load(paths[0], architecture=quick),
        load(paths[0], architecture=heads),
    ]
    assert len({base, *(encoder.digest for encoder in others)}) == 5


def test_size_and_type_asked_for_are_given(configuration: Configuration) -> None:
    encoder = load_encoder(
        "x", architecture=configuration(), pretrained="random", image_size=48, dtype=torch.bfloat16
    )
    assert (encoder.tower.image_size, encoder.tower.dtype) == (48, torch.bfloat16)
    with pytest.raises(EncoderError, match="not a multiple of the patch size"):
        load_encoder("x", architecture=configuration(), pretrained="random", image_size=50)


@pytest.mark.parametrize(("name", "activation"), [("plain", "gelu"), ("quick", "silu")])
def test_a_tag_brings_its_activation_and_constants(
    name: str, activation: str, tag: Path, random: Random
) -> None:
    state = torch.random.get_rng_state()
    encoder = load_encoder("tiny-clip", pretrained=name)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert {block.activation for block in encoder.tower.blocks} == {activation}
    assert encoder.tower.mean.tolist() == pytest.approx(MEAN)
    assert encoder.tower.std.tolist() == pytest.approx(STD)
    assert (encoder.name, encoder.pretrained, encoder.has_text_tower) == ("tiny-clip", name, True)
    local = load_encoder("tiny-clip", pretrained=f"{name}@{tag}")
    assert (local.digest, local.has_text_tower) == (encoder.digest, True)
    assert local.pretrained == f"{name}@{tag}"
    model = open_clip.create_model(
        "tiny-clip", pretrained=str(tag), force_quick_gelu=activation == "silu"
    ).eval()
    pixels = random((2, 3, 32, 32))
    assert encoder.tower.projection is not None
    found = encoder.tower.encode(pixels) @ encoder.tower.projection
    expected = model.encode_image(pixels).detach()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_tag_that_cannot_be_had_says_which_file_and_what_to_do(
    tag: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tags = pretrained._PRETRAINED["tiny-clip"]
    far = {key: value for key, value in tags["plain"].items() if key != "file"}
    monkeypatch.setitem(tags, "far", far | {"hf_hub": "someone/something/"})

    def offline(*args: object, **options: object) -> str:
        raise FileNotFoundError("no network")

    monkeypatch.setattr(factory, "download_pretrained", offline)
    with pytest.raises(
        EncoderError, match=r"'far' of tiny-clip \(someone/something/\) .*no network.*=far@/"
    ) as caught:
        load_encoder("tiny-clip", pretrained="far")
    assert f"mean={MEAN}" in str(caught.value)


def test_damaged_weights_of_a_tag_are_refused(tag: Path) -> None:
    whole = open_clip.create_model("tiny-clip").state_dict()
    whole["visual.proj"][0, 0] = torch.nan
    save_file(whole, tag)
    with pytest.raises(EncoderError, match=r"NaN or infinite values \(proj\)"):
        load_encoder("tiny-clip", pretrained="plain")


def test_unknown_names_get_near_ones() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'ViT-B-32'"):
        load_encoder("ViT-B-322", pretrained="random")
    with pytest.raises(UnknownNameError, match="tag for ViT-B-32 'opennai'; did you mean 'openai'"):
        load_encoder("ViT-B/32", pretrained="opennai")


@pytest.mark.parametrize("name", ["hf-hub:someone/model", "local-dir:/somewhere"])
def test_addresses_are_never_followed(name: str) -> None:
    with pytest.raises(EncoderError, match="never fetched by address"):
        load_encoder(name, pretrained="random")


@pytest.mark.parametrize("timm_name", ["hf-hub:someone/model", "hf_hub:a/b", "local-dir:/x"])
def test_configurations_that_name_addresses_are_refused(
    timm_name: str, configuration: Configuration
) -> None:
    path = configuration(timm_model_name=timm_name, timm_model_pretrained=True)
    with pytest.raises(EncoderError, match="not a plain name"):
        load_encoder("x", architecture=path, pretrained="random")


def test_a_text_tower_with_a_remote_tokenizer_is_never_built(configuration: Configuration) -> None:
    text = {"hf_model_name": "someone/model", "hf_tokenizer_name": "x/y", "trust_remote_code": True}
    path = configuration(top={"text_cfg": text, "custom_text": True})
    encoder = load_encoder("x", architecture=path, pretrained="random")
    assert not encoder.has_text_tower


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "expected a JSON object"),
        ('{"embed_dim": 4}', "expected 'vision_cfg'"),
        ('{"embed_dim": "4", "vision_cfg": {}}', "expected 'embed_dim'"),
        ('{"model_cfg": 3}', "'model_cfg' is not an object"),
        ('{"embed_dim": 4, "vision_cfg": {}, "preprocess_cfg": 3}', "'preprocess_cfg'"),
        ('{"embed_dim": 4, "vision_cfg": {"widht": 3}}', "did you mean 'width'"),
        ('{"embed_dim": 4, "vision_cfg": {"width": "wide"}}', "cannot build this model"),
        ('{"embed_dim": 4, "vision_cfg": {"pool_type": "no"}}', "cannot build this model"),
    ],
)
def test_configurations_that_cannot_be_used_are_refused(
    content: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.json"
    path.write_text(content)
    with pytest.raises((EncoderError, UnknownNameError), match=message) as caught:
        load_encoder("x", architecture=path, pretrained="random")
    assert str(path) in str(caught.value)


def test_a_tag_for_a_model_of_ones_own_is_refused(configuration: Configuration) -> None:
    with pytest.raises(EncoderError, match="has no tag 'openai': give the path"):
        load_encoder("x", architecture=configuration(), pretrained="openai")


def test_other_kinds_of_models_load_as_one_feature_per_frame(configuration: Configuration) -> None:
    path = configuration(layers=[1, 1, 1, 1], width=8)
    encoder = load_encoder("rn", architecture=path, pretrained="random")
    assert isinstance(encoder.tower, OpaqueTower)
    assert encoder.tower.width == 24


def test_the_shipped_model_needs_no_other_word(
    configuration: Configuration, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = configuration("demo", top={"preprocess_cfg": CONSTANTS})
    monkeypatch.setattr(catalog, "DEMO_CONFIG", path)
    monkeypatch.setattr(catalog, "DEMO_WEIGHTS", weights)
    encoder = load_encoder()
    assert (encoder.name, encoder.pretrained) == ("demo", "shipped")
    assert load_encoder("demo", pretrained="random").name == "demo (random weights)"
    # a file of the same name elsewhere is somebody else's
    other = path.parent / "other" / "demo.json"
    other.parent.mkdir()
    other.write_bytes(path.read_bytes())
    with pytest.raises(EncoderError, match="needs `pretrained`"):
        load_encoder(architecture=other)
    monkeypatch.setattr(catalog, "DEMO_CONFIG", path.parent / "absent.json")
    with pytest.raises(EncoderError, match="the shipped encoder is missing"):
        load_encoder()


@pytest.mark.skipif(not catalog.DEMO_WEIGHTS.is_file(), reason="the shipped encoder is not there")
def test_the_shipped_model_is_whole() -> None:
    encoder = load_encoder()
    assert encoder.tower.layers > 0
    assert encoder.pretrained == "shipped"
    size = encoder.tower.image_size
    frames = torch.full((1, 2, size, size, 3), 120, dtype=torch.uint8)
    assert encoder.tower.encode(encoder.tower.normalize(frames)).isfinite().all()
