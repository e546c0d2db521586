"""Weights that open_clip fetched before, found without a network."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants

from fewshot_i2v.models.encoders.offline_weights import find_offline_weights


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def _write_to_hub(hub: Path, repository: str, name: str, content: bytes) -> Path:
    """Write a file as the client of the hub does."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text("abc")
    path = folder / "snapshots" / "abc" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_there_are_none_without_the_folder(hub: Path) -> None:
    assert not hub.exists()
    assert find_offline_weights() == []


def test_files_of_the_hub_are_named_by_their_tags(hub: Path) -> None:
    import open_clip

    repository = open_clip.get_pretrained_cfg("ViT-B-16", "openai")["hf_hub"].strip("/")
    older = _write_to_hub(hub, repository, "open_clip_pytorch_model.bin", b"123")
    _write_to_hub(hub, "somebody/else", "open_clip_model.safetensors", b"1")
    (weights,) = find_offline_weights()
    assert (weights.path, weights.size) == (older, 3)
    assert ("ViT-B-16", "openai") in weights.names
    # open_clip prefers this one
    newer = _write_to_hub(hub, repository, "open_clip_model.safetensors", b"12345")
    assert [w.path for w in find_offline_weights()] == [newer]
