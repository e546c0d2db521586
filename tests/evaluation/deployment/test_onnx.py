"""Export to ONNX: the file gives what PyTorch gives, for any number of clips, and says how."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

import fewshot_i2v
from fewshot_i2v import FewShotClassifier, registry
from fewshot_i2v.errors import AdapterError, CheckpointError, ExportError, UsageError
from fewshot_i2v.evaluation.deployment import onnx_export
from fewshot_i2v.evaluation.deployment.onnx_export import BATCHES, TOLERANCE, export_onnx
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.base.vector_head import VectorHead
from tests.evaluation.deployment.conftest import Models

GRIDS = "tokens=summary+grid2+frozen-motion2,weights=loo"
CONVOLUTION = ("st-adapter", f"prototype:pooling=ordered,center=true,{GRIDS}", 0.05)
ATTENTION = ("aim", "prototype")


@pytest.fixture(scope="module")
def exported(models: Models) -> Path:
    path = models.folder / "convolution.onnx"
    export_onnx(models.path(*CONVOLUTION), path)
    return path


def _run(path: Path, pixels: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs: list[NDArray[np.float32]] = session.run(None, {"frames": pixels})
    return outputs


def _difference(model: FewShotClassifier, path: Path, clips: list[Path]) -> float:
    """Largest difference of a probability of real clips."""
    frames = torch.from_numpy(np.stack([model.scorer._store.get(clip) for clip in clips]))
    probabilities, _ = _run(path, model.encoder.tower.normalize(frames).numpy())
    return float(np.abs(model.predict_proba(clips) - probabilities).max())


@pytest.mark.parametrize("count", BATCHES)
def test_temporal_convolution_gives_what_pytorch_gives(
    models: Models, exported: Path, count: int
) -> None:
    model = models.load(models.path(*CONVOLUTION))
    model.predict(models.clips())  # decoded
    assert _difference(model, exported, models.clips()[:count]) <= TOLERANCE


@pytest.mark.slow
def test_temporal_attention_gives_what_pytorch_gives(models: Models, tmp_path: Path) -> None:
    path = tmp_path / "attention.onnx"
    result = export_onnx(models.path(*ATTENTION), path)
    assert not result.merged
    assert max(result.difference, result.logit_difference) <= TOLERANCE
    assert (result.bytes, result.opset) == (path.stat().st_size, 20)
    model = models.load(models.path(*ATTENTION))
    model.predict(models.clips())
    for count in BATCHES:
        assert _difference(model, path, models.clips()[:count]) <= TOLERANCE
    onnx.checker.check_model(path, full_check=True)


def test_the_file_says_how_its_input_is_made(models: Models, exported: Path) -> None:
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 4, 3, 32, 32]
    assert [output.name for output in session.get_outputs()] == ["probabilities", "logits"]
    texts = session.get_modelmeta().custom_metadata_map
    model = models.load(models.path(*CONVOLUTION)).model
    assert model is not None
    description = model.description
    assert json.loads(texts["classes"]) == description.checkpoint.classes
    assert json.loads(texts["mean"]) == description.checkpoint.encoder.mean == [0.5] * 3
    assert json.loads(texts["std"]) == [0.5] * 3
    values = {key: json.loads(texts[key]) for key in ("frames", "image_size", "resize", "policy")}
    assert values == {"frames": 4, "image_size": 32, "resize": 32, "policy": "segment-center"}
    assert json.loads(texts["temperature"]) == description.temperature
    assert description.rejection is not None
    assert json.loads(texts["none_of_these"])["is_below"] == description.rejection.threshold
    assert json.loads(texts["encoder"])["digest"] == description.checkpoint.encoder.digest
    assert "floor((i + 1/2) n / T)" in texts["preprocessing"]


def test_thresholds_and_temperature_are_those_of_predict(models: Models, exported: Path) -> None:
    """What is read from the file decides as `predict` does."""
    model = models.load(models.path(*CONVOLUTION))
    predictions = model.predict(models.clips())
    frames = torch.from_numpy(np.stack([model.scorer._store.get(clip) for clip in models.clips()]))
    outputs = _run(exported, model.encoder.tower.normalize(frames).numpy())
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    rule = json.loads(session.get_modelmeta().custom_metadata_map["none_of_these"])
    scores = outputs[rule["largest"] == "logit"].max(1)
    assert [p.class_name is None for p in predictions] == list(scores < rule["is_below"])


def test_the_example_of_the_guide_gives_what_predict_gives(
    models: Models,
    exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It reads a video with PyAV and Pillow alone."""
    guide = (Path(fewshot_i2v.__file__).parent / "evaluation" / "README.md").read_text("utf-8")
    code = guide.partition("<!-- onnx-example -->\n```python\n")[2].partition("```")[0]
    shutil.copy(exported, tmp_path / "gestures.onnx")
    monkeypatch.chdir(tmp_path)
    model = models.load(models.path(*CONVOLUTION))
    for clip in models.clips()[:3]:
        shutil.copy(clip, "new.mp4")
        (prediction,) = model.predict([clip])
        exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - that is the point
        name, _, probability = capsys.readouterr().out.strip().rpartition(" ")
        if prediction.class_name is None:
            assert (name, probability) == ("none of", "these")
        else:
            assert name == prediction.class_name
            assert float(probability) == pytest.approx(prediction.probability, abs=TOLERANCE)


def test_nothing_is_written_where_the_file_differs(
    models: Models, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_another(deployed: object, description: object, path: Path) -> int:
        shutil.copy(exported, path)
        return 20

    monkeypatch.setattr(onnx_export, "_write", write_another)
    frozen = models.path("frozen", CONVOLUTION[1])
    with pytest.raises(ExportError, match="gives other results than PyTorch"):
        export_onnx(frozen, tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_wrong_use_is_refused(models: Models, exported: Path, tmp_path: Path) -> None:
    path = models.path("frozen", CONVOLUTION[1])
    with pytest.raises(UsageError, match=r"ends in \.onnx"):
        export_onnx(path, tmp_path / "x.bin")
    with pytest.raises(UsageError, match="already there"):
        export_onnx(path, exported)
    with pytest.raises(CheckpointError, match="no such file"):
        export_onnx(tmp_path / "absent.safetensors", tmp_path / "x.onnx")


def test_the_missing_extra_is_named(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: name == "onnx" or None)
    with pytest.raises(UsageError, match=r"needs onnxscript, onnxruntime.*pip install '.*\[onnx\]"):
        export_onnx(models.path("frozen", CONVOLUTION[1]), tmp_path / "x.onnx")


@pytest.mark.slow
def test_a_method_that_cannot_be_traced_is_named(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one of a plug-in, which reads values of tensors in Python."""
    head = registry.load_method("heads", "prototype")
    original = head.comparable

    def reads_a_value(self: VectorHead, features: Features) -> torch.Tensor:
        vectors: torch.Tensor = original(self, features)
        return vectors if float(vectors.sum()) < 1e9 else -vectors

    monkeypatch.setattr(head, "comparable", reads_a_value)
    with pytest.raises(AdapterError, match="frozen with the head prototype cannot be exported"):
        export_onnx(models.path("frozen", CONVOLUTION[1]), tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("adapter", registry.method_names("adapters"))
def test_every_adapter_can_be_exported(models: Models, adapter: str, tmp_path: Path) -> None:
    """With a head that reads all kinds of readouts; merged where the method can be."""
    result = export_onnx(
        models.path(adapter, "nearest:tokens=summary+projected+grid2+motion2"), tmp_path / "x.onnx"
    )
    assert result.merged == registry.load_method("adapters", adapter).mergeable
    assert max(result.difference, result.logit_difference) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("head", registry.method_names("heads"))
@pytest.mark.parametrize("adapter", ["frozen", "st-adapter"])
def test_every_head_can_be_exported(
    models: Models, adapter: str, head: str, tmp_path: Path
) -> None:
    encoder = {}
    if registry.load_method("heads", head).uses_class_names:
        encoder = {"encoder": {"name": "demo"}}
    path = models.fit(tmp_path / "m.safetensors", adapter, head, tuning={"steps": 1}, **encoder)
    result = export_onnx(path, tmp_path / "x.onnx")
    assert max(result.difference, result.logit_difference) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pixels", "RN50"])
def test_encoders_without_blocks_can_be_exported(models: Models, name: str, tmp_path: Path) -> None:
    encoder = {"name": name} | ({"pretrained": "random"} if name != "pixels" else {})
    path = models.fit(tmp_path / "m.safetensors", "frozen", "prototype", encoder=encoder)
    result = export_onnx(path, tmp_path / "x.onnx")
    assert max(result.difference, result.logit_difference) <= TOLERANCE
