"""How long a fit would take: what is counted, and that nothing is tuned for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fewshot_i2v.cli._root import cli
from fewshot_i2v.evaluation.fitting import workers
from fewshot_i2v.evaluation.fitting.fit import forecast, run_fit
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.evaluation.row_work import RowWork
from fewshot_i2v.evaluation.time_estimate import TimeEstimator
from tests.evaluation.fitting.conftest import Material
from tests.evaluation.fitting.test_workers import HEAD, TUNED

CLASSES, CLIPS = 5, 20


@pytest.fixture
def works(monkeypatch: pytest.MonkeyPatch) -> list[RowWork]:
    """The work that is estimated, at one second for each pass of a clip; nothing may be tuned."""
    estimated: list[RowWork] = []

    def _estimate(self: TimeEstimator, runner: RowRunner, work: RowWork) -> dict[str, Any]:
        del self, runner
        estimated.append(work)
        return {"seconds": float(work.episodes * work.passes_per_episode), "memory_mb": 7}

    def _fail(*_: object) -> None:
        raise AssertionError("something was predicted")

    monkeypatch.setattr(TimeEstimator, "estimate", _estimate)
    monkeypatch.setattr(workers, "predict_batch", _fail)
    return estimated


def test_folds_and_classes_left_out_are_counted(material: Material, works: list[RowWork]) -> None:
    keys = material.keys(**TUNED | {"adapter": ["frozen", "lora"], "folds": 4, "processes": 2})
    result = forecast(material.train, keys)
    frozen, lora = result.methods
    assert (result.clips, result.classes, result.device) == (CLIPS, CLASSES, "cpu")
    assert (frozen.adapter, frozen.is_tuned, frozen.folds) == ("frozen", False, 4)
    assert (frozen.seconds, frozen.seconds_if_fitted) == (0, 0)
    of_frozen, of_folds, if_fitted = works
    assert of_frozen.first_clips == CLIPS
    assert (of_folds.episodes, of_folds.steps, of_folds.step_clips) == (4, 2, 15)
    assert if_fitted.episodes == 1 + CLASSES, "all clips, and without each class"
    assert lora.seconds == 4 * of_folds.passes_per_episode
    assert result.seconds == lora.seconds + lora.seconds_if_fitted
    works.clear()
    forecast(material.train, keys | {"reject": 0})
    assert works[-1].episodes == 1


def test_one_clip_of_each_class_has_no_folds(
    material: Material, works: list[RowWork], tmp_path: Path
) -> None:
    for name in material.classes:
        (tmp_path / name).mkdir()
        clip = f"{name}/{name}-000.mp4"
        (tmp_path / clip).write_bytes((material.train / clip).read_bytes())
    keys = material.keys(**TUNED | {"adapter": "lora"})
    (lora,) = forecast(tmp_path, keys).methods
    assert (lora.folds, lora.seconds) == (0, 0)
    assert lora.seconds_if_fitted > 0
    assert works[-1].episodes == 1


def test_a_dry_run_writes_no_model(
    material: Material, works: list[RowWork], tmp_path: Path
) -> None:
    out = tmp_path / "m.safetensors"
    encoder = ["--encoder", "tiny", "--architecture", str(material.folder / "tiny.json")]
    encoder += ["--pretrained", "random", "--mean", "0.5", "--std", "0.5"]
    running = ["--frames", "4", "--crop", "1", "--workers", "1", "--device", "cpu"]
    running += ["--cache", str(material.folder / "cache"), "--dry-run"]
    method = ["--adapter", "frozen", "--adapter", "lora", "--head", HEAD]
    arguments = ["fit", str(material.train), "--out", str(out), *encoder, *running, *method]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert not out.exists()
    assert works
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["method", "head", "parts", "time", "if", "fitted", "MiB"]
    assert [line.split()[0] for line in lines[2:4]] == ["frozen", "lora"]
    assert "20 clips of 5 classes" in result.stdout
    assert "next: fewshot-i2v fit" in result.stderr
    assert "--dry-run" not in result.stderr
    plain = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).stdout)
    assert [m["adapter"] for m in plain["methods"]] == ["frozen", "lora"]
    assert plain["seconds"] > 0


def test_the_time_is_said_before_anything_is_tuned(
    material: Material, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = material.keys(**TUNED | {"adapter": ["frozen", "lora"], "folds": 2, "reject": 0})
    run_fit(material.train, keys | {"progress": True})
    text = " ".join(capsys.readouterr().err.split())
    assert "fine-tuning for 2 parts of held-out clips takes at most about " in text
    run_fit(material.train, keys | {"progress": True, "adapter": "frozen"})
    assert "fine-tuning" not in capsys.readouterr().err
