"""Exported adapters give the predictions that were recorded, in this package and in open_clip."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from fewshot_i2v import load_adapter, load_merged
from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.errors import CheckpointError
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.export import export_episode
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.checkpoints.adapter_checkpoint import LoadedAdapter
from fewshot_i2v.models.encoders import catalog
from fewshot_i2v.models.encoders.architectures import architecture_from_file, build_visual_tower
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.runs.run_folder import read_run
from tests.evaluation.exports import EPISODE, MERGEABLE, OTHERS, Runs
from tests.models.tiny_adapters import make_clips, tower_tensors


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("export"))


@torch.no_grad()
def _features(tower: Tower, adapter: Adapter, pixels: Tensor) -> Features:
    adapted = AdaptedEncoder(tower, adapter)
    features: Features = adapted(adapted.compute_prefix(pixels[None]))
    return features


@torch.no_grad()
def _probabilities(
    config: EvaluationConfig, kept: EpisodeRecord, tower: Tower, got: LoadedAdapter
) -> Tensor:
    """What a loaded adapter and head say of the query clips of a record, (Q, way)."""
    work = EvaluationContext.of(config)
    work.decode_clips({c for clips in (*kept.support, *kept.query) for c in clips}, progress=False)

    def features(names: Sequence[str]) -> Features:
        clips = torch.stack([torch.from_numpy(work.frames(name).copy()) for name in names])
        return _features(tower, got.adapter, tower.normalize(clips))

    assert got.head is not None
    flat = [[c for clips in group for c in clips] for group in (kept.query, kept.support)]
    labels = torch.arange(len(kept.classes)).repeat_interleave(len(kept.support[0]))
    scores: Tensor = got.head(features(flat[0]), features(flat[1]), labels[None])
    return scores[0].softmax(-1)


def _close(found: Tensor, kept: EpisodeRecord) -> None:
    expected = torch.tensor(kept.probabilities)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert found.argmax(-1).tolist() == kept.predictions


@pytest.mark.parametrize("name", [*MERGEABLE, *OTHERS])
def test_exported_adapters_predict_what_was_recorded(runs: Runs, name: str) -> None:
    kept = read_run(runs.rows()[name]).records[EPISODE]
    done = runs.exported(name)
    assert done.merged == (name in MERGEABLE)
    assert done.difference <= 1e-4
    assert done.accuracy == kept.accuracy
    if done.merged:
        encoder, trained = load_merged(done.folder)
    else:
        encoder = runs.encoder()
        trained = load_adapter(done.folder, encoder, adapter=name, head="linear")
    config = runs.config("x", adapter=name)
    _close(_probabilities(config, kept, encoder.tower, trained), kept)
    assert trained.metadata.classes == kept.classes
    assert trained.metadata.about["support"] == kept.support
    assert sorted(p.name for p in done.folder.iterdir()) == list(done.files)


@pytest.mark.parametrize("name", MERGEABLE)
def test_merged_and_unmerged_give_the_same_features(runs: Runs, name: str, tmp_path: Path) -> None:
    plain = runs.encoder()
    apart = runs.export(runs.rows()[name], tmp_path / "apart", merge=False)
    assert apart.files == ("adapter.json", "adapter.safetensors")
    adapter = load_adapter(tmp_path / "apart", plain).adapter
    encoder, trained = load_merged(runs.exported(name).folder)
    pixels = make_clips(plain.tower, 3, frames=4)
    before = _features(plain.tower, adapter, pixels)
    after = _features(encoder.tower, trained.adapter, pixels)
    torch.testing.assert_close(after.frames, before.frames, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after.clip, before.clip, rtol=1e-4, atol=1e-4)
    frozen = plain.tower.encode(pixels)
    assert (before.frames[0] - frozen).abs().max() > 0.01, "tuning moved the features"
    old, new = tower_tensors(plain.tower), tower_tensors(encoder.tower)
    assert [t.shape for t in new] == [t.shape for t in old], "nothing to compute was added"
    assert encoder.parameters == plain.parameters
    assert trained.metadata.merged_from is not None
    assert trained.metadata.merged_from.digest == plain.digest != encoder.digest


@pytest.mark.parametrize("name", ["lora", "bitfit", "full"])
def test_open_clips_own_forward_pass_is_the_adapted_encoder(runs: Runs, name: str) -> None:
    folder = runs.exported(name).folder
    architecture = architecture_from_file(folder / "open_clip_config.json")
    visual = build_visual_tower(architecture, in_memory=True)
    visual.load_state_dict(load_file(folder / "open_clip_model.safetensors"), strict=True)
    encoder, trained = load_merged(folder)
    assert list(trained.adapter.parameters()) == []
    pixels = make_clips(encoder.tower, 3, frames=4)
    features = _features(encoder.tower, trained.adapter, pixels).frames.flatten(0, 2)
    assert encoder.tower.projection is not None
    with torch.no_grad():
        theirs = visual(pixels.flatten(0, 1))
    torch.testing.assert_close(features @ encoder.tower.projection, theirs, rtol=1e-4, atol=1e-4)
    visual.proj = None  # type: ignore[assignment]  # as `usage` says
    with torch.no_grad():
        torch.testing.assert_close(features, visual(pixels.flatten(0, 1)), rtol=1e-4, atol=1e-4)
    assert "forward gives the features of a frame times visual.proj" in trained.metadata.usage


def test_head_offsets_belong_to_the_merged_weights(runs: Runs, tmp_path: Path) -> None:
    folder = runs.exported("zeroi2v").folder
    encoder, trained = load_merged(folder)
    assert trained.metadata.head_offsets == [-1, 1]
    assert "right with the head offsets [-1, 1] only" in trained.metadata.usage
    assert torch.equal(encoder.tower.norm_post.weight, trained.adapter.ln_post.weight[0])
    assert trained.adapter.state_dict().keys() == {
        "temporal_embedding.table",
        "ln_post.weight",
        "ln_post.bias",
    }
    cls = type(trained.adapter)
    swapped = cls(encoder.tower, cls.parse({"offsets": [1, -1]}), frames=4, seeds=[0], merged=True)
    swapped.load_state_dict(trained.adapter.state_dict())
    pixels = make_clips(encoder.tower, 2, frames=4)
    mine = _features(encoder.tower, trained.adapter, pixels).frames
    others = _features(encoder.tower, swapped, pixels).frames
    assert (mine - others).abs().max() > 0.01

    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    path = copy / "adapter.json"
    plain = json.loads(path.read_text(encoding="utf-8"))
    plain["head_offsets"] = plain["adapter"]["options"]["offsets"] = [1, -1]
    path.write_text(json.dumps(plain), encoding="utf-8")
    with pytest.raises(CheckpointError, match="changed since it was written"):
        load_merged(copy)


def test_what_remains_does_not_go_with_the_frozen_encoder(runs: Runs, tmp_path: Path) -> None:
    folder = runs.exported("lora").folder
    with pytest.raises(CheckpointError, match=r"merged into tiny .*use load_merged"):
        load_adapter(folder, runs.encoder())
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    weights = runs.exported("bitfit").folder / "open_clip_model.safetensors"
    shutil.copy(weights, copy)
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors: sha256 .* changed since it was"
    ):
        load_merged(copy)


@pytest.mark.parametrize("file", ["open_clip_model.safetensors", "open_clip_config.json"])
def test_merged_files_that_were_changed_are_named(runs: Runs, file: str, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(runs.exported("lora").folder, tmp_path / "copy"))
    whole = (copy / file).read_bytes()
    (copy / file).write_bytes(whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])
    with pytest.raises(CheckpointError, match=f"{file}: sha256 .* changed since it was written"):
        load_merged(copy)
    (copy / file).write_bytes(whole + b" ")
    with pytest.raises(CheckpointError, match=f"{file}: {len(whole) + 1} bytes where"):
        load_merged(copy)
    (copy / file).unlink()
    with pytest.raises(CheckpointError, match=f"{file}: no such file"):
        load_merged(copy)
    modes = {path.stat().st_mode for path in runs.exported("lora").folder.iterdir()}
    assert len(modes) == 1


def test_merged_folders_must_say_which_files_are_theirs(runs: Runs, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(runs.exported("lora").folder, tmp_path / "copy"))
    path = copy / "adapter.json"
    plain = json.loads(path.read_text(encoding="utf-8"))
    assert plain["files"].keys() == {"open_clip_config.json", "open_clip_model.safetensors"}
    path.write_text(json.dumps(plain | {"files": {}}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"does not say which .* export the episode again"):
        load_merged(copy)
    changed = plain["encoder"] | {"digest": "0" * 64}
    path.write_text(json.dumps(plain | {"encoder": changed}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"0{12}: adapter.json was changed, or another"):
        load_merged(copy)


def test_a_model_with_a_text_tower_loads_whole(runs: Runs, tmp_path: Path) -> None:
    row = runs.row(
        "demo",
        encoder={"name": "demo"},
        adapter="lora:rank=2",
        head="zero-shot",
        episodes=2,
        at_once=2,
        query=1,
        tuning={"steps": 2, "flip": "on"},
    )
    done = export_episode(row, 1, tmp_path / "x", cache=runs.folder / "cache")
    assert "open_clip.create_model('local-dir:FOLDER')" in done.usage
    encoder, trained = load_merged(done.folder)
    assert encoder.has_text_tower
    whole = open_clip.create_model(f"local-dir:{done.folder}").eval()
    source = load_file(catalog.DEMO_WEIGHTS)
    text = [name for name in source if not name.startswith("visual.")]
    assert text
    state = whole.state_dict()
    assert all(torch.equal(state[name], source[name].float()) for name in text)
    pixels = make_clips(encoder.tower, 2, frames=2)
    assert encoder.tower.projection is not None
    with torch.no_grad():
        theirs = whole.encode_image(pixels.flatten(0, 1))
    ours = encoder.tower.encode(pixels.flatten(0, 1)) @ encoder.tower.projection
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert "encode_image gives the features of a frame times model.visual.proj" in done.usage
    assert whole.visual.preprocess_cfg["mean"] == encoder.tower.mean.tolist()
    kept = read_run(row).records[1]
    config = runs.config("y", encoder={"name": "demo"}, adapter="frozen")
    _close(_probabilities(config, kept, encoder.tower, trained), kept)
    assert trained.metadata.head is not None
    recorded = read_run(row).header["identity"]["text"]["digest"]
    assert trained.metadata.head.text_digest == recorded


def test_a_run_in_bfloat16_is_merged_in_float32(runs: Runs, tmp_path: Path) -> None:
    row = runs.row("bf16", adapter="zeroi2v", precision="bf16", episodes=2)
    done = runs.export(row, tmp_path / "x", episode=1)
    tensors = load_file(done.folder / "open_clip_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    encoder, _ = load_merged(done.folder)
    assert encoder.tower.dtype == torch.float32
