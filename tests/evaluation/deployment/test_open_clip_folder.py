"""The merged encoder of a fitted model gives what the model gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from open_clip import create_model

from fewshot_i2v import FewShotClassifier
from fewshot_i2v.errors import AdapterError, CheckpointError
from fewshot_i2v.evaluation.deployment.open_clip_folder import export_open_clip
from fewshot_i2v.statistics.temperature import softmax
from tests.evaluation.deployment.conftest import Models


@pytest.mark.parametrize("adapter", ["lora", "zeroi2v"])
def test_the_merged_encoder_and_head_give_the_same(
    models: Models, adapter: str, tmp_path: Path
) -> None:
    path, out = models.path(adapter, "linear"), tmp_path / "merged"
    result = export_open_clip(path, out)
    assert {"adapter.json", "open_clip_model.safetensors"} <= set(result.files)
    merged = FewShotClassifier.load(out, cache=models.material.folder / "cache", workers=1)
    model, clips = models.load(path), models.clips()
    assert model.model is not None
    assert merged.classes == model.classes
    raw = np.log(model.predict_proba(clips)) * model.model.description.temperature
    np.testing.assert_allclose(merged.predict_proba(clips), softmax(raw), atol=1e-4)
    assert str(out / "x") not in result.usage
    assert "load_merged(FOLDER)" in result.usage


def test_open_clip_loads_it_where_there_is_a_text_tower(models: Models, tmp_path: Path) -> None:
    encoder = {"encoder": {"name": "demo"}}
    path = models.fit(tmp_path / "m.safetensors", "lora", "linear", tuning={"steps": 1}, **encoder)
    export_open_clip(path, tmp_path / "merged")
    assert create_model(f"local-dir:{tmp_path / 'merged'}").visual is not None


def test_what_cannot_be_merged_is_refused(models: Models, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"st-adapter cannot be merged.*--onnx"):
        export_open_clip(models.path("st-adapter", "linear"), tmp_path / "merged")
    reads_both = models.path("lora", "prototype:tokens=summary+frozen-grid2")
    with pytest.raises(AdapterError, match=r"reads summary\+frozen-grid2, so .*--onnx"):
        export_open_clip(reads_both, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(CheckpointError, match="nothing is written over"):
        export_open_clip(models.path("lora", "linear"), tmp_path / "full")
