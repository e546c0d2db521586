"""An export that would not be what a run recorded is not written, and the reason is said."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.errors import (
    AdapterError,
    CheckpointError,
    ConfigError,
    ExportError,
    UsageError,
    VideoUnreadable,
)
from fewshot_i2v.evaluation import export
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.export import export_episode
from fewshot_i2v.evaluation.row_runner import RowRunner, TunedGroup
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.checkpoints import merging
from fewshot_i2v.models.encoders.open_clip_conversion import open_clip_state_dict
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.runs.run_folder import RunData
from tests.cli.test_show import record
from tests.evaluation.exports import Runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("export"))


def test_moved_files_are_named_and_can_be_given(runs: Runs, tmp_path: Path) -> None:
    weights, split = tmp_path / "own.safetensors", tmp_path / "own.yaml"
    save_file(open_clip_state_dict(runs.encoder().tower), weights)
    shutil.copy(runs.folder / "tiny.yaml", split)
    shutil.copy(runs.folder / "tiny.json", tmp_path / "own.json")
    encoder = vars(runs.config("x", adapter="frozen").encoder) | {
        "pretrained": str(weights),
        "architecture": str(tmp_path / "own.json"),
    }
    row = runs.row("own", adapter="lora", encoder=encoder, split=str(split), episodes=2)
    assert runs.export(row, tmp_path / "found", episode=1).merged
    moved = weights.rename(tmp_path / "moved.safetensors")
    with pytest.raises(ConfigError, match=r"pretrained own\.safetensors; .*Give --pretrained"):
        runs.export(row, tmp_path / "x", episode=1)
    split = split.rename(tmp_path / "moved.yaml")
    with pytest.raises(UsageError, match="unknown split 'own'"):
        runs.export(row, tmp_path / "x", episode=1, pretrained=moved)
    runs.export(row, tmp_path / "given", episode=1, pretrained=str(moved), split=str(split))
    places = {"pretrained": moved, "split": split, "cache": runs.folder / "cache"}
    assert export_episode(row, 1, tmp_path / "where it was", **places).merged
    (tmp_path / "own.json").unlink()
    with pytest.raises(ConfigError, match=r"architecture own\.json; .*Give --architecture"):
        export_episode(row, 1, tmp_path / "x", **places)
    assert not (tmp_path / "x").exists()


def test_another_split_or_encoder_is_refused(runs: Runs, tmp_path: Path) -> None:
    row = runs.rows()["lora"]
    text = (runs.folder / "tiny.yaml").read_text(encoding="utf-8")
    other = tmp_path / "other.yaml"
    other.write_text(text.replace("seed: 0", "seed: 1"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"the split .*other\.yaml has sha256 \w+; the run was"):
        runs.export(row, tmp_path / "x", split=other)
    wider = tmp_path / "wider.json"
    config = json.loads((runs.folder / "tiny.json").read_text(encoding="utf-8"))
    config["vision_cfg"]["mlp_ratio"] = 2.0
    wider.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"the encoder random .* has sha256"):
        runs.export(row, tmp_path / "x", architecture=wider)


def test_episodes_that_are_not_there_are_refused(runs: Runs, tmp_path: Path) -> None:
    row = runs.rows()["lora"]
    with pytest.raises(UsageError, match="no record of episode 5; there are: 0 to 4"):
        runs.export(row, tmp_path / "x", episode=5)
    with pytest.raises(UsageError, match="give the folder of one row"):
        runs.export(row.parent, tmp_path / "x")
    with pytest.raises(UsageError, match="not a run folder"):
        runs.export(tmp_path, tmp_path / "x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(CheckpointError, match="nothing is written over"):
        runs.export(row, tmp_path / "full")


def test_methods_that_do_not_merge_say_so_before_anything_is_tuned(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(RowRunner, "run_group")
    with pytest.raises(AdapterError, match="st-adapter cannot be merged"):
        runs.export(runs.rows()["st-adapter"], tmp_path / "x", merge=True)


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ({"predictions": [2, 2, 2, 2, 2, 2]}, r"probabilities differ by 0 "),
        ({"probabilities": [[1.0, 0.0, 0.0]] * 6}, r"probabilities differ by 0\.\d"),
        ({"support": [["x"], ["y"], ["z"]]}, "the clips are others"),
    ],
)
def test_what_comes_out_differently_is_not_written(
    change: dict[str, Any],
    pattern: str,
    runs: Runs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = RowRunner.run_group

    def altered(self: RowRunner, specs: Sequence[Episode]) -> TunedGroup:
        group = real(self, specs)
        for kept in group.records:
            for key, value in change.items():
                object.__setattr__(kept, key, value)
        return group

    monkeypatch.setattr(RowRunner, "run_group", altered)
    with pytest.raises(ExportError, match=f"episode 4, tuned again, .*{pattern}"):
        runs.export(runs.rows()["lora"], tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_merged_weights_that_compute_something_else_are_not_written(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def halved(tower: Tower, _rest: Adapter) -> Tower:
        return dataclasses.replace(tower, class_token=tower.class_token / 2)

    monkeypatch.setattr(merging, "_with_final_norm", halved)
    with pytest.raises(ExportError, match="lora: after merging the features differ by"):
        runs.export(runs.rows()["lora"], tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_clip_that_is_gone_is_named(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(self: EvaluationContext, clips: set[str], *, progress: bool) -> None:
        self.unreadable[min(clips)] = VideoUnreadable(min(clips), "gone")

    monkeypatch.setattr(EvaluationContext, "decode_clips", prepare)
    with pytest.raises(VideoUnreadable, match="gone"):
        runs.export(runs.rows()["lora"], tmp_path / "x")


def test_the_batch_is_that_of_the_run() -> None:
    records = {i: record(i, None if i == 4 else 0.5) for i in range(8)}
    data = RunData({"identity": {"at_once": 3}}, records)
    batches: Callable[[int], list[int]] = lambda i: export._RecordedRow(Path("r"), data).batch_of(i)  # noqa: E731
    assert [batches(i) for i in (0, 3, 7)] == [[0, 1, 2], [3, 5], [6, 7]]
    with pytest.raises(UsageError, match="episode 4 failed: empty; there is nothing"):
        batches(4)


def test_the_device_is_of_the_recorded_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(found))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: found[i])
    assert export._matching_device(Path("r"), "cpu") == "cpu"
    with pytest.raises(ConfigError, match="r: was tuned on Large, and there is no CUDA device"):
        export._matching_device(Path("r"), "Large")
    found[:] = ["Small", "Large"]
    assert export._matching_device(Path("r"), "Large") == "cuda:1"
    assert export._matching_device(Path("r"), "Huge") == "cuda"
