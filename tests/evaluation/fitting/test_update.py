"""Clips and classes are added to a model, and removed from it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from fewshot_i2v import FewShotClassifier, fit
from fewshot_i2v.errors import UsageError, VideoUnreadable
from fewshot_i2v.evaluation.fitting.text import render_description
from fewshot_i2v.evaluation.fitting.update import update_model
from fewshot_i2v.models.checkpoints.model_file import ModelFile, write_model
from tests.evaluation.fitting.conftest import Material

HEAD = "prototype:pooling=ordered,center=true,tokens=summary+grid2"


def _fit(material: Material, folder: Path, **more: object) -> FewShotClassifier:
    return fit(folder, **material.keys(head=HEAD) | more)  # type: ignore[arg-type]


def _logits(model: FewShotClassifier, clips: list[Path]) -> np.ndarray:
    """Scores up to a constant of each clip, without the temperature."""
    assert model.model is not None
    raw = np.log(model.predict_proba(clips)) * model.model.description.temperature
    centred: np.ndarray = raw - raw.mean(1, keepdims=True)
    return centred


def test_an_added_class_gives_the_model_that_is_fitted_to_all(
    material: Material, tmp_path: Path
) -> None:
    fewer = tmp_path / "fewer"
    shutil.copytree(material.train, fewer)
    name = material.classes[-1]
    shutil.rmtree(fewer / name)
    clips = sorted((material.train / name).iterdir())
    result = update_model(_fit(material, fewer, reject=0.2), add={name: clips})
    full = _fit(material, material.train)
    tested = sorted(material.test.rglob("*.mp4"))
    columns = [result.classifier.classes.index(c) for c in full.classes]
    added = _logits(result.classifier, tested)[:, columns]
    np.testing.assert_allclose(added, _logits(full, tested), atol=1e-3)
    before, after = full.model, result.classifier.model
    assert before is not None
    assert after is not None
    assert after.description.accuracy == before.description.accuracy
    assert after.description.temperature == pytest.approx(before.description.temperature, rel=1e-3)
    assert after.description.rejection is None
    assert any("fitted again" in note for note in result.notes)


def test_a_removed_class_is_gone_and_the_file_is_read_again(
    material: Material, tmp_path: Path
) -> None:
    model = _fit(material, material.train)
    name = material.classes[0]
    smaller = update_model(model, remove=[name]).classifier
    smaller.save(tmp_path / "m.safetensors")
    again = FewShotClassifier.load(
        tmp_path / "m.safetensors", cache=material.folder / "cache", workers=1
    )
    assert again.classes == tuple(c for c in model.classes if c != name)
    clips = sorted((material.test / material.classes[1]).iterdir())
    np.testing.assert_allclose(again.predict_proba(clips), smaller.predict_proba(clips))
    assert again.model is not None
    assert name not in again.model.description.clips
    assert len(again.model.description.digests) == 16


def test_a_saved_model_is_updated_again(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file has classes in alphabetical order, the features in the order of the classes."""
    model = _fit(material, material.train)
    clips = sorted((material.test / material.classes[0]).iterdir())
    places = {"cache": material.folder / "cache", "workers": 1}
    more = update_model(model, add={"0 first": clips}).classifier
    more.save(tmp_path / "more.safetensors")
    again = FewShotClassifier.load(tmp_path / "more.safetensors", **places)  # type: ignore[arg-type]
    back = update_model(again, remove=["0 first"]).classifier
    assert back.classes == model.classes
    tested = sorted(material.test.rglob("*.mp4"))
    np.testing.assert_allclose(_logits(back, tested), _logits(model, tested), atol=1e-3)
    # a clip of the same relative name in another folder takes the place of none
    name = material.classes[1]
    relative = next(iter(model.model.description.clips[name]))  # type: ignore[union-attr]
    (tmp_path / relative).parent.mkdir(parents=True)
    shutil.copy(clips[0], tmp_path / relative)
    monkeypatch.chdir(tmp_path)
    added = update_model(model, add={name: [relative]}).classifier.model
    assert added is not None
    assert len(added.description.digests) == len(set(added.description.digests.values())) == 21


def test_a_tuned_model_promises_nothing_after_it(material: Material) -> None:
    keys = {"adapter": "lora", "tuning": {"steps": 1, "lr": 0.01}}
    model = _fit(material, material.train, **keys)
    name = material.classes[0]
    clips = sorted((material.test / name).iterdir())
    result = update_model(model, add={name: clips})
    assert result.classifier.model is not None
    assert result.classifier.model.description.accuracy is None
    assert any("tuned on earlier clips" in note for note in result.notes)


def test_that_the_start_has_seen_the_classes_is_still_said(
    material: Material, tmp_path: Path
) -> None:
    model = _fit(material, material.train).model
    assert model is not None
    card = model.description.card | {"seen_start": True}
    description = model.description.model_copy(update={"card": card})
    write_model(tmp_path / "m.safetensors", ModelFile(description, model.tensors))
    places = {"cache": material.folder / "cache", "workers": 1}
    seen = FewShotClassifier.load(tmp_path / "m.safetensors", **places)  # type: ignore[arg-type]
    updated = update_model(seen, remove=[material.classes[0]]).classifier
    assert "it is too high" in render_description(updated)


def test_wrong_use_is_refused(material: Material, tmp_path: Path) -> None:
    model = _fit(material, material.train)
    name = material.classes[0]
    inside = sorted((material.train / name).iterdir())[:1]
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"\0" * 500)
    with pytest.raises(UsageError, match="in the model already"):
        update_model(model, add={"new": inside})
    with pytest.raises(UsageError, match="no class 'nothing'"):
        update_model(model, remove=["nothing"])
    with pytest.raises(UsageError, match="two or more"):
        update_model(model, remove=material.classes[1:])
    with pytest.raises(UsageError, match="nothing to add"):
        update_model(model)
    with pytest.raises(UsageError, match="both added to and removed"):
        update_model(model, add={name: inside}, remove=[name])
    with pytest.raises(VideoUnreadable, match=r"bad\.mp4"):
        update_model(model, add={name: [bad]})
    linear = fit(
        material.train, **material.keys(head="linear", adapter="lora", tuning={"steps": 1})
    )
    with pytest.raises(UsageError, match="parameters or texts"):
        update_model(linear, remove=[name])
