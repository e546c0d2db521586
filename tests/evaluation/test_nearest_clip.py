"""None of these by the nearest labelled clip: where it is tried, and that predict goes by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from fewshot_i2v import FewShotClassifier, fit
from fewshot_i2v.errors import CheckpointError
from fewshot_i2v.evaluation.deployment.onnx_export import export_onnx
from fewshot_i2v.evaluation.fitting import rejection
from fewshot_i2v.evaluation.fitting.job import FitJob
from fewshot_i2v.evaluation.nearest_clip import nearest_clip_head
from fewshot_i2v.models.checkpoints.model_file import ModelFile, write_model
from fewshot_i2v.statistics.rejection import Rejection
from tests.evaluation.deployment.conftest import Models

OPTIONS = "pooling=ordered,center=true,tokens=summary+grid2+motion2"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("nearest"))


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> dict[str, Rejection]:
    """What was found with each score, by its name."""
    results: dict[str, Rejection] = {}
    choose = rejection._choose_threshold

    def record(job: FitJob, score: str, *args: Any) -> Rejection:
        results[score] = choose(job, score, *args)
        return results[score]

    monkeypatch.setattr(rejection, "_choose_threshold", record)
    return results


def _with_rejection(
    models: Models, head: str, threshold: float, score: str = "nearest"
) -> ModelFile:
    model = models.load(models.path("frozen", head, 0.2)).model
    assert model is not None
    assert model.description.rejection is not None
    changed = {"score": score, "threshold": threshold}
    facts = model.description.rejection.model_copy(update=changed)
    return ModelFile(model.description.model_copy(update={"rejection": facts}), model.tensors)


def _nearest_scores(models: Models) -> list[float]:
    """Similarities by a model whose head is the nearest clip."""
    other = models.load(models.path("frozen", f"nearest:{OPTIONS}"))
    other.predict(models.clips())
    clips = [other.scorer._store.get(clip) for clip in models.clips()]
    scores: list[float] = other.scorer.logits_of(clips).max(1).tolist()
    return scores


def test_the_score_that_separates_best_is_taken(
    models: Models, tried: dict[str, Rejection], tmp_path: Path
) -> None:
    model = models.load(
        models.fit(tmp_path / "m.safetensors", "frozen", f"prototype:{OPTIONS}", 0.2)
    )
    assert tried.keys() == {"probability", "logit", "nearest"}
    assert model.model is not None
    facts = model.model.description.rejection
    assert facts is not None
    assert facts.auroc == max(result.auroc for result in tried.values())
    assert facts.threshold == tried[facts.score].threshold


def test_its_threshold_is_that_of_a_model_of_nearest_clips(
    models: Models, tried: dict[str, Rejection], tmp_path: Path
) -> None:
    for head in ("prototype", "nearest"):
        models.fit(tmp_path / f"{head}.safetensors", "frozen", f"{head}:{OPTIONS}", 0.2)
        if head == "prototype":
            expected = tried.pop("nearest")
    assert tried.keys() == {"probability", "logit"}
    assert tried["logit"] == expected


def test_it_is_not_tried_where_something_is_tuned(
    models: Models, tried: dict[str, Rejection], tmp_path: Path
) -> None:
    keys = {"tuning": {"steps": 1, "lr": 0.01}, "folds": 2}
    material = models.material.keys(adapter="lora", head=f"prototype:{OPTIONS}", **keys)
    fit(models.material.train, tmp_path / "m.safetensors", reject=0.2, **material)
    assert tried.keys() == {"probability", "logit"}
    assert nearest_clip_head("otam", {}) is None


def test_predict_goes_by_it(models: Models, tmp_path: Path) -> None:
    scores = _nearest_scores(models)
    threshold = float(np.median(scores)) + 1e-6
    path = tmp_path / "m.safetensors"
    write_model(path, _with_rejection(models, f"prototype:{OPTIONS}", threshold))
    predictions = models.load(path).predict(models.clips())
    assert [p.class_name is None for p in predictions] == [s < threshold for s in scores]
    assert {p.class_name is None for p in predictions} == {True, False}


def test_a_score_that_the_head_does_not_have_is_refused(models: Models, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_model(path, _with_rejection(models, "otam", 0.5))
    with pytest.raises(CheckpointError, match="nearest labelled clip, which the head otam"):
        models.load(path)


@pytest.mark.slow
def test_an_onnx_file_gives_it(models: Models, tmp_path: Path) -> None:
    scores = _nearest_scores(models)
    path = tmp_path / "m.safetensors"
    write_model(path, _with_rejection(models, f"prototype:{OPTIONS}", float(np.median(scores))))
    export_onnx(path, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    rule = json.loads(session.get_modelmeta().custom_metadata_map["none_of_these"])
    assert rule["largest"] == "nearest"
    names = [output.name for output in session.get_outputs()]
    model: FewShotClassifier = models.load(path)
    model.predict(models.clips())
    frames = torch.from_numpy(np.stack([model.scorer._store.get(clip) for clip in models.clips()]))
    pixels = model.encoder.tower.normalize(frames).numpy()
    outputs = dict(zip(names, session.run(None, {"frames": pixels}), strict=True))
    np.testing.assert_allclose(outputs["nearest"].max(1), scores, atol=1e-3)
