"""Support clips that are changed at every step of an evaluation: frames, colours, views."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.evaluation import evaluate
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.inputs import load_inputs
from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.device_memory import PartSize
from fewshot_i2v.runs.episode_record import TIMING_KEYS
from tests.tiny import tiny_folder, tiny_run

CLASSES, CLIPS, FRAMES = ("a", "b", "c"), 4, 4
PICTURES, LEVEL = 24, 10
"""Each picture of a clip is grey, its number times this."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Encoder, and a split of clips whose frames show their numbers as levels of grey."""
    folder = tiny_folder(tmp_path_factory.mktemp("augmented"))
    for name in CLASSES:
        (folder / "clips" / name).mkdir(parents=True)
        for number in range(CLIPS):
            _write_clip(folder / "clips" / name / f"{name}-{number}.mp4")
    (folder / "own.yaml").write_text(
        "name: own\nversion: 1\nsource: here\nlicence: none\nroot: clips\nsubsets:\n"
        f"  novel: [{', '.join(CLASSES)}]\n",
        encoding="utf-8",
    )
    return folder


def _write_clip(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for number in range(PICTURES):
            picture = np.full((32, 32, 3), LEVEL * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _config(folder: Path, output: Path, **changes: Any) -> EvaluationConfig:
    settings: dict[str, Any] = {
        "split": str(folder / "own.yaml"),
        "adapter": ["st-adapter"],
        "head": ["prototype"],
        "shot": [1],
        "query": 1,
        "episodes": 3,
        "at_once": 3,
        "tuning": {"recipe": "none", "steps": 2, "temporal": True, "views": 2},
    }
    return tiny_run(folder, output, **settings | changes)


def _records(config: EvaluationConfig) -> list[dict[str, Any]]:
    (row,) = evaluate.run(config).rows
    lines = (row.folder / "episodes.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMING_KEYS} for line in lines]


def test_jitter_takes_real_frames_of_the_right_segments(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(folder, tmp_path)
    context = EvaluationContext.of(config)
    (row,) = expand_rows(config)
    runner, episodes = RowRunner(row, context), context.episodes[1]
    names = {name for episode in episodes for name in episode.clip_names()}
    context.decode_clips(names, progress=False)
    context.augmentation_clips(row.tuning).decode_clips(names, progress=False)
    encoder = runner.build_encoder([0, 1, 2])
    inputs = load_inputs(row, context, episodes, encoder, grid_sizes=(), part_size=PartSize())
    seen: list[Tensor] = []
    real = AdaptedEncoder.compute_prefix

    def _watch(self: AdaptedEncoder, pixels: Tensor, **options: Any) -> Tensor:
        seen.append(pixels)
        return real(self, pixels, **options)

    monkeypatch.setattr(AdaptedEncoder, "compute_prefix", _watch)
    for step in range(8):
        assert inputs.support_at(step).shape[:2] == (3, 2 * len(CLASSES))
    levels = 255 * (0.5 * torch.cat(seen) + 0.5).mean((-1, -2, -3)) / LEVEL
    numbers = levels.round()
    assert (levels - numbers).abs().max() < 0.3
    # of the segments of six pictures, the middle of each third
    assert set(numbers.flatten().tolist()) == set(range(1, PICTURES, 2))
    assert torch.equal(numbers // 6, torch.arange(4.0).expand_as(numbers))
    assert inputs.labels_at(0).tolist() == [[0, 1, 2, 0, 1, 2]] * 3


def test_it_is_repeatable_whatever_runs_side_by_side(folder: Path, tmp_path: Path) -> None:
    changes = {"steps": 3, "temporal": True, "colour": 0.4, "crop_scale": [0.4, 0.9], "views": 2}
    first, again, alone = (
        _records(_config(folder, tmp_path / str(i), tuning=changes, at_once=at_once))
        for i, at_once in enumerate((3, 3, 1))
    )
    assert first == again
    for one, other in zip(first, alone, strict=True):
        assert one["losses"] == pytest.approx(other["losses"], abs=1e-4)


def test_a_clip_that_cannot_be_read_at_more_frames_is_reported_like_any_other(
    folder: Path, tmp_path: Path
) -> None:
    victim = folder / "clips" / "a" / "a-0.mp4"
    good = victim.read_bytes()
    victim.write_bytes(good[: len(good) // 3])
    try:
        config = _config(folder, tmp_path, max_failed=12, episodes=8, cache=str(tmp_path / "c"))
        records = _records(config)
    finally:
        victim.write_bytes(good)
    failed = [record for record in records if record["status"] == "failed"]
    assert 0 < len(failed) < 8
    assert {record["error"]["path"] for record in failed} == {str(victim)}


def test_without_augmentation_the_identity_is_that_of_earlier_versions() -> None:
    base = {"split": "motions", "adapter": "aim"}
    later = {"colour", "temporal", "views", "label_smoothing"}

    def _keys(**tuning: Any) -> set[str]:
        (row,) = expand_rows(load_config({**base, "tuning": {"recipe": "none", **tuning}}))
        return later & set(row.identity()["tuning"])

    assert _keys() == _keys(steps=4) == set()
    assert _keys(flip="on") == _keys(crop_scale=[0.5, 1]) == later - {"label_smoothing"}
    assert _keys(label_smoothing=0.1) == {"label_smoothing"}
    assert _keys(colour=0.1, label_smoothing=0.1) == later
