"""A file of weights is read with the settings it was trained with, or refused with advice."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip import factory, pretrained
from open_clip.transform import PreprocessCfg, merge_preprocess_dict
from torch import nn

from fewshot_i2v.config.file_names import map_weights_file, parse_pretrained
from fewshot_i2v.errors import EncoderError, UnknownNameError
from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.models.encoders import architectures, deferred, loading
from fewshot_i2v.models.encoders.deferred import open_encoder
from fewshot_i2v.models.encoders.loading import Encoder, load_encoder
from fewshot_i2v.models.encoders.text_tower import load_text_tower

MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
TEXT = {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
PAIRS = open_clip.list_pretrained()


@pytest.fixture
def tags(
    configuration: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, dict[str, Any]]:
    """Tags of the model "tiny-clip" and "tiny-clip-quickgelu", whose file is `whole.pt`."""
    file = tmp_path / "whole.pt"
    monkeypatch.setattr(factory, "_MODEL_CONFIG_PATHS", list(factory._MODEL_CONFIG_PATHS))
    monkeypatch.setattr(factory, "_MODEL_CONFIGS", dict(factory._MODEL_CONFIGS))
    settings = {"file": str(file), "mean": MEAN, "std": STD, "interpolation": "bilinear"}
    found = {"plain": settings, "quick": settings | {"quick_gelu": True}}
    for name, top in (("tiny-clip", {}), ("tiny-clip-quickgelu", {"quick_gelu": True})):
        open_clip.add_model_config(configuration(name, top={"text_cfg": TEXT, **top}))
        kept = {key: found[key] for key in found if key == "quick" or not top}
        monkeypatch.setitem(pretrained._PRETRAINED, name, kept)
    with torch.random.fork_rng(devices=[]):
        torch.save(open_clip.create_model("tiny-clip").state_dict(), file)
    return found


def activations(name: str, weights: str, **more: Any) -> tuple[set[str], str]:
    """Activations of the blocks, and what the encoder says that it was loaded with."""
    encoder = load_encoder(name, pretrained=weights, **more)
    return {block.activation for block in encoder.tower.blocks}, encoder.pretrained


@pytest.mark.parametrize(
    ("given", "tag", "file"),
    [
        ("openai", "openai", None),
        ("random", "random", None),
        ("openai@/a/b@2.pt", "openai", "/a/b@2.pt"),
        ("openai@w.safetensors", "openai", "w.safetensors"),
        ("./odd@name.pt", None, "odd@name.pt"),
        ("w.bin", None, "w.bin"),
        ("openai@~/w.pt", "openai", str(Path.home() / "w.pt")),
    ],
)
def test_weights_are_a_tag_a_file_or_both(given: str, tag: str | None, file: str | None) -> None:
    assert parse_pretrained(given) == (tag, file)


def test_a_tag_with_a_file_is_the_tag_itself(
    tags: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    for tag, kind in (("plain", "gelu"), ("quick", "silu")):
        given = f"{tag}@{tmp_path / 'whole.pt'}"
        assert activations("tiny-clip", given) == ({kind}, given)
        local = load_encoder("tiny-clip", pretrained=given)
        assert local.digest == load_encoder("tiny-clip", pretrained=tag).digest
        assert local.tower.mean.tolist() == pytest.approx(MEAN)
    other = load_encoder("tiny-clip", pretrained=given, mean=0.5)
    assert (other.tower.mean.tolist(), other.tower.std[0].item()) == ([0.5] * 3, pytest.approx(0.4))


def test_a_file_alone_is_refused_where_tags_differ_in_the_activation(
    tags: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    file = str(tmp_path / "whole.pt")
    for load in (load_encoder, load_text_tower):
        with pytest.raises(EncoderError, match=r"quick@.*QuickGELU: quick; GELU: plain") as caught:
            load("tiny-clip", pretrained=file)
        assert file in str(caught.value)
    constants: dict[str, Any] = {"mean": MEAN, "std": STD}
    with pytest.raises(EncoderError, match="trained with GELU or QuickGELU"):
        load_encoder("tiny-clip", pretrained=file, **constants)
    # the name says it, and only the pixels are missing
    assert activations("tiny-clip-quickgelu", file, **constants) == ({"silu"}, file)
    with pytest.raises(EncoderError, match=r"mean of the pixels .* pretrained=TAG@PATH"):
        load_encoder("tiny-clip-quickgelu", pretrained=file)


def test_files_that_open_clip_publishes_are_known_by_their_digest(
    tags: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    file = tmp_path / "whole.pt"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    for url in (f"https://somewhere/{digest}/x.pt", f"https://somewhere/x-{digest[:8]}.pt"):
        tags["quick"]["url"] = url
        assert activations("tiny-clip", str(file)) == ({"silu"}, f"quick@{file}")
        assert activations("tiny-clip", f"quick@{file}") == ({"silu"}, f"quick@{file}")
        for name, given in (("tiny-clip", f"plain@{file}"), ("ViT-B-16", str(file))):
            with pytest.raises(EncoderError, match="encoder tiny-clip with pretrained quick@FILE"):
                load_encoder(name, pretrained=given)
    load_text_tower("tiny-clip", pretrained=str(file))
    tags["quick"]["url"] = "https://somewhere/x.pt"
    with pytest.raises(EncoderError, match="trained with GELU or QuickGELU"):
        load_encoder("tiny-clip", pretrained=str(file))


def test_a_program_is_named_as_such_with_what_to_do(
    tags: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    file = tmp_path / "program.pt"
    with zipfile.ZipFile(file, "w") as archive:  # as torch.jit.save lays it out
        archive.writestr("program/code/__torch__.py", "")
        archive.writestr("program/data.pkl", b"")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    tags["quick"]["url"] = f"https://somewhere/{digest}/x.pt"
    with pytest.raises(EncoderError, match=r"tiny-clip.*TorchScript.*pretrained=quick") as caught:
        load_encoder("tiny-clip", pretrained=str(file))
    assert f"quick@{file.with_suffix('.safetensors')}" in str(caught.value)


def test_tags_are_those_of_the_architecture(
    tags: dict[str, dict[str, Any]], configuration: Callable[..., Path], tmp_path: Path
) -> None:
    file = tmp_path / "whole.pt"
    with pytest.raises(UnknownNameError, match="tag for tiny-clip 'quikc'; did you mean 'quick'"):
        load_encoder("tiny-clip", pretrained=f"quikc@{file}")
    with pytest.raises(EncoderError, match=r"'x' has no tag 'quick': its configuration is .*json"):
        load_encoder("x", architecture=configuration(), pretrained=f"quick@{file}")
    with pytest.raises(EncoderError, match=r"absent.pt: no such file"):
        load_encoder("tiny-clip", pretrained=f"quick@{tmp_path / 'absent.pt'}")


def test_open_clip_s_addresses_hold_the_digests_that_it_checks_itself() -> None:
    digests = {
        (name, tag): loading.digest_in_url(open_clip.get_pretrained_cfg(name, tag).get("url", ""))
        for name, tag in PAIRS
    }
    openai = [pair for pair in PAIRS if pair[1] == "openai"]
    assert openai
    assert all(len(digests[pair] or "") == 64 for pair in openai)
    assert len(digests["ViT-B-32", "laion400m_e31"] or "") == 8
    assert sum(digest is not None for digest in digests.values()) >= 30


class _Captured(nn.Module):
    """Takes the place of a model: keeps what it would be built with."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.config = config
        self.visual = nn.Module()


# one model of open_clip has QuickGELU where its only tag does not say so: then the model decides
@pytest.mark.filterwarnings("ignore:QuickGELU mismatch between final:UserWarning")
@pytest.mark.parametrize("chunk", range(4))
def test_settings_by_tag_are_those_that_open_clip_uses(
    chunk: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for model_class in ("CLIP", "CustomTextCLIP", "CoCa"):
        monkeypatch.setattr(factory, model_class, _Captured)
    monkeypatch.setattr(factory, "_set_model_device_and_precision", lambda *_a, **_k: None)
    monkeypatch.setattr(factory, "download_pretrained", lambda *_a, **_k: None)
    file = tmp_path / "w.safetensors"
    for name, tag in PAIRS[chunk::4]:
        quick = bool(open_clip.get_pretrained_cfg(name, tag).get("quick_gelu"))
        model, _, preprocess = open_clip.create_model_and_transforms(
            name, pretrained=tag, load_weights=False, force_quick_gelu=quick
        )
        wanted = open_clip.get_model_preprocess_cfg(model)
        ours, found = loading.resolve_file_settings(
            architectures.open_clip_architecture(name), tag, file
        )
        assert found == tag
        given: Mapping[str, Any] = ours.preprocess
        usual = asdict(PreprocessCfg())
        merged = merge_preprocess_dict(usual, dict(given))
        for key in ("mean", "std", "interpolation", "resize_mode"):
            assert merged[key] == wanted[key], (name, tag, key)
        assert bool(ours.config["quick_gelu"]) == bool(model.config.get("quick_gelu")), (name, tag)
        means = [step.mean for step in preprocess.transforms if hasattr(step, "mean")]
        assert [tuple(mean) for mean in means] == [tuple(given["mean"])]


def test_the_tags_that_lost_quickgelu_as_files_have_it(tmp_path: Path) -> None:
    file, lost = tmp_path / "w.safetensors", []
    for name, tag in PAIRS:
        plain = architectures.open_clip_architecture(name)
        if loading.resolve_file_settings(plain, tag, file)[0].config["quick_gelu"] != bool(
            plain.config.get("quick_gelu")
        ):
            lost.append((name, tag))
            with pytest.raises(EncoderError, match="QuickGELU"):
                loading.resolve_file_settings(plain, None, file)
    assert len(lost) >= 27
    assert ("ViT-B-16", "openai") in lost


def test_a_configuration_may_give_both_and_records_the_name_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "split: motions\nadapter: frozen\n"
        "encoder: {name: ViT-B-16, pretrained: openai@weights/b16.safetensors}\n"
    )
    config = load_config(path)
    assert config.encoder.pretrained == f"openai@{tmp_path}/weights/b16.safetensors"
    recorded = expand_rows(config)[0].identity()["encoder"]["pretrained"]
    assert recorded == "openai@b16.safetensors"
    assert map_weights_file("openai", str.upper) == "openai"


def test_the_weights_of_a_tag_are_not_loaded_for_what_is_recorded(
    tags: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def _load(**source: Any) -> Encoder:
        loaded.append(source["pretrained"])
        return load_encoder(**source)

    monkeypatch.setattr(deferred, "load_encoder", _load)

    def _open(tag: str = "plain") -> Encoder:
        source = {"name": "tiny-clip", "pretrained": tag, "architecture": None}
        return open_encoder(tmp_path, source, device="cpu", dtype=torch.float32)

    first = _open()
    again = _open()
    assert loaded == ["plain"]
    assert (again.digest, again.pretrained) == (first.digest, "plain")
    assert again.has_text_tower
    assert torch.equal(again.tower.mean, first.tower.mean)
    assert first.tower.projection is not None
    assert again.tower.projection is not None
    assert torch.equal(again.tower.projection, first.tower.projection)
    assert loaded == ["plain"]
    # weights are loaded when they are read; another tag has its own record
    assert torch.equal(again.tower.blocks[0].fc_weight, first.tower.blocks[0].fc_weight)
    assert _open("quick").digest != first.digest
    assert loaded == ["plain", "plain", "quick"]


def test_a_recorded_tag_is_opened_without_open_clip(
    tags: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    source = {"name": "tiny-clip", "pretrained": "plain", "architecture": None}
    first = open_encoder(tmp_path, source, device="cpu", dtype=torch.float32)
    program = (
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from fewshot_i2v.models.encoders.deferred import open_encoder\n"
        f"encoder = open_encoder(Path({str(tmp_path)!r}), {source!r}, device='cpu', "
        "dtype=torch.float32)\n"
        "print(encoder.digest, encoder.tower.width, 'open_clip' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == [first.digest, str(first.tower.width), "False"], done.stderr


def test_other_weights_of_a_tag_are_loaded_again(
    tags: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    source = {"name": "tiny-clip", "pretrained": "plain", "architecture": None}
    placement = {"device": "cpu", "dtype": torch.float32}
    first = open_encoder(tmp_path, source, **placement)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        torch.save(open_clip.create_model("tiny-clip").state_dict(), tags["plain"]["file"])
    second = open_encoder(tmp_path, source, **placement)
    assert second.digest != first.digest
    assert second.digest == load_encoder("tiny-clip", pretrained="plain").digest
    # the record is that of the new file now
    assert open_encoder(tmp_path, source, **placement).digest == second.digest
    Path(tags["plain"]["file"]).unlink()
    with pytest.raises(EncoderError, match="cannot be had"):
        open_encoder(tmp_path, source, **placement)
