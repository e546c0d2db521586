"""Models of heads that read class names, fitted with texts of the classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fewshot_i2v import FewShotClassifier, evaluate, fit
from fewshot_i2v.data.splits.builder.labelled_clips import read_labelled_clips
from fewshot_i2v.errors import ConfigError, UnknownNameError
from fewshot_i2v.evaluation.deployment.card import model_card
from fewshot_i2v.models.checkpoints.model_file import read_model
from tests.evaluation.fitting.conftest import Material
from tests.tiny import tiny_split
from tests.tiny_clip import TinyClip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> TinyClip:
    return TinyClip(tmp_path_factory.mktemp("clip"))


def _keys(material: Material, clip: TinyClip, **more: Any) -> dict[str, Any]:
    quick = {"encoder": clip.keys, "head": "zero-shot", "folds": 2, "reject": 0}
    return material.keys(**quick | more)


def _texts(material: Material) -> dict[str, Any]:
    others = {name: f"thing {i}" for i, name in enumerate(material.classes)}
    return {**others, material.classes[1]: {"prompts": ["It | is a thing.", "One more."]}}


def test_a_model_holds_the_embeddings_and_the_texts(
    material: Material, clip: TinyClip, tmp_path: Path
) -> None:
    file = tmp_path / "texts.json"
    file.write_text(json.dumps(_texts(material)), encoding="utf-8")
    path = tmp_path / "model.safetensors"
    model = fit(material.train, path, **_keys(material, clip, class_texts=str(file)))
    file.unlink()
    prompts = [[f"a video of thing {i}"] for i in range(len(material.classes))]
    prompts[1] = ["It | is a thing.", "One more."]
    expected = torch.stack([clip.embed(some) for some in prompts])
    assert list(model.classes) == material.classes
    texts = model.scorer.head.texts
    assert texts is not None
    torch.testing.assert_close(texts.embeddings[0], expected, atol=1e-6, rtol=1e-5)

    clips = sorted(material.test.rglob("*.mp4"))[:3]
    options = {"cache": material.folder / "cache", "workers": 1}
    loaded = FewShotClassifier.load(path, **options)
    before, after = (m.predict_proba(clips) for m in (model, loaded))
    assert (before == after).all()

    recorded = read_model(path).description.checkpoint.about["class_texts"]
    assert loaded.get_params()["class_texts"] == recorded
    refitted = FewShotClassifier(**loaded.get_params() | {"cache": material.folder / "cache"})
    refitted.set_params(folds=2, reject=0)
    refitted.fit_labelled(read_labelled_clips(material.train))
    assert (refitted.predict_proba(clips) == before).all()

    card = model_card(path)
    assert f"* {material.classes[0]}: thing 0\n" in card
    assert f"* {material.classes[1]}: prompts: It \\| is a thing.; One more.\n" in card


def test_a_model_without_texts_says_nothing_of_them(
    material: Material, clip: TinyClip, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    fit(material.train, path, **_keys(material, clip))
    assert "class_texts" not in read_model(path).description.checkpoint.about
    assert "reads these texts" not in model_card(path)


def test_texts_of_other_classes_and_without_a_reader_are_refused(
    material: Material, clip: TinyClip
) -> None:
    texts = {**_texts(material), "checked": "x"}
    with pytest.raises(UnknownNameError, match="unknown class 'checked'; did you mean"):
        fit(material.train, **_keys(material, clip, class_texts=texts))
    del texts["checked"], texts[material.classes[2]]
    with pytest.raises(ConfigError, match=f"no text for 1 of the 5 .*{material.classes[2]}"):
        fit(material.train, **_keys(material, clip, class_texts=texts))
    with pytest.raises(ConfigError, match="no head reads class names"):
        fit(material.train, **material.keys(class_texts=texts))


def test_the_method_of_a_row_has_its_texts(
    material: Material, clip: TinyClip, tmp_path: Path
) -> None:
    split = tiny_split(tmp_path)
    content = split.read_text(encoding="utf-8")
    head = content[: content.index("novel:")]
    split.write_text(f"{head}novel: [{', '.join(material.classes)}]\n", encoding="utf-8")
    keys = material.keys(encoder=clip.keys, head="zero-shot", class_texts=_texts(material))
    run = {"split": str(split), "episodes": 1, "shot": 1, "query": 1, "tuning": {"steps": 0}}
    row = evaluate({**run, **keys, "adapter": "frozen", "output": str(tmp_path / "run")}).rows[0]
    places = {"cache": material.folder / "cache", "workers": 1, "folds": 2, "reject": 0}
    like = fit(material.train, like=row.folder, **places)
    given = fit(material.train, **_keys(material, clip, class_texts=_texts(material)))
    one, other = (m.scorer.head.texts for m in (like, given))
    assert one is not None
    assert other is not None
    assert torch.equal(one.embeddings, other.embeddings)
