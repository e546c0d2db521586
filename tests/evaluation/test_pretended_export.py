"""A row tuned from a start on a device is exported there, and its export classifies there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fewshot_i2v import FewShotClassifier
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.runs.run_folder import read_run
from tests.evaluation.exports import Runs
from tests.models.made_starts import make_start
from tests.pretended_cuda import pretended_cuda

EPISODE = 1


def test_an_export_classifies_on_the_device_as_the_run_did(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    make_start(tmp_path / "start" / "lora", runs.encoder(), "lora")
    changes: dict[str, Any] = {"adapter": "lora", "head": "otam", "shot": 2, "query": 1}
    changes |= {"episodes": 2, "start": str(tmp_path / "start"), "device": "cuda"}
    places: dict[str, Any] = {"cache": tmp_path / "cache", "workers": 1}
    with pretended_cuda() as log:
        row = runs.row("run", **changes)
        exported = runs.export(row, tmp_path / "export", EPISODE)
        classifier = FewShotClassifier.load(exported.folder, device="cuda", **places)
        record = read_run(row).records[EPISODE]
        context = EvaluationContext.of(runs.config("y", **changes | {"device": "cpu"}))
        support = {
            name: [context.clip_path(clip) for clip in clips]
            for name, clips in zip(record.classes, record.support, strict=True)
        }
        query = [context.clip_path(clip) for clips in record.query for clip in clips]
        predictions = classifier.set_support(support).predict(query)
    assert not log.faults
    assert exported.difference < 1e-6
    for prediction, expected in zip(predictions, record.probabilities, strict=True):
        assert list(prediction.probabilities.values()) == pytest.approx(expected, abs=1e-4)
