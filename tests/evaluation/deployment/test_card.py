"""The model card: what a colleague must know, in the form that the Hub reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from fewshot_i2v import fit
from fewshot_i2v.errors import CheckpointError
from fewshot_i2v.evaluation.deployment.card import model_card
from fewshot_i2v.evaluation.fitting.update import update_model
from fewshot_i2v.models.checkpoints.model_file import ModelFile, read_model, write_model
from fewshot_i2v.statistics.shares import Share
from tests.evaluation.deployment.conftest import Models

METHOD = ("frozen", "prototype", 0.05)


def _changed(models: Models, path: Path, **changes: Any) -> str:
    """The card of a model whose description is another one."""
    model = read_model(models.path(*METHOD))
    write_model(path, ModelFile(model.description.model_copy(update=changes), model.tensors))
    return model_card(path)


def _front_matter(card: str) -> dict[str, Any]:
    _, matter, _ = card.split("---\n", 2)
    values: dict[str, Any] = yaml.safe_load(matter)
    return values


def test_what_to_expect_is_said_with_its_interval(models: Models) -> None:
    path = models.path(*METHOD)
    card, description = model_card(path), read_model(path).description
    share = description.accuracy
    assert share is not None
    assert description.rejection is not None
    mean = Share(**vars(share)).mean
    assert f"To expect: {100 * mean:.1f} % [{100 * share.low:.1f}, " in card
    unknown = description.rejection.rejected_unknown
    mean = Share(**vars(unknown)).mean
    assert f"{100 * mean:.1f} % [{100 * unknown.low:.1f}" in card
    assert '"none of these"' in card
    for name, clips in description.clips.items():
        assert f"| {name} | {len(clips)} |" in card
    assert description.checkpoint.encoder.digest in card
    assert re.search(r"fitted with fewshot_i2v \S+, .*torch \d", card)
    assert f"fewshot-i2v predict {path.name} new/*.mp4" in card
    python = re.findall(r"```python\n(.*?)```", card, re.S)
    compile(python[0], "card", "exec")


def test_the_front_matter_is_that_of_the_hub(models: Models) -> None:
    path = models.path(*METHOD)
    matter = _front_matter(model_card(path))
    assert matter["pipeline_tag"] == "video-classification"
    assert matter["license"] == "unknown"
    (result,) = matter["model-index"][0]["results"]
    share = read_model(path).description.accuracy
    assert share is not None
    assert result["metrics"][0]["value"] == pytest.approx(share.count / share.clips, abs=1e-4)
    assert f"{share.low:.4f}" in result["metrics"][0]["name"]


def test_no_clip_is_named(models: Models) -> None:
    """Names of clips may say who is in them."""
    description = read_model(models.path(*METHOD)).description
    card = description.card | {
        "suspects": [{"clip": "secret.mp4", "label": "a", "predicted": "b", "probability": 0.95}]
    }
    text = _changed(models, models.folder / "suspect.safetensors", card=card)
    assert "1 of the labelled clips look mislabelled" in text
    names = [name for clips in description.clips.values() for name in clips]
    assert not [name for name in ["secret", *names] if name in text]


def test_a_model_that_promises_nothing_says_so(models: Models) -> None:
    text = _changed(
        models, models.folder / "blind.safetensors", accuracy=None, rejection=None, folds=0
    )
    assert "cannot be said" in text
    assert "also one that shows something else" in text
    assert "model-index" not in _front_matter(text)


def _updated_card(models: Models, before: Path, path: Path, **changes: Any) -> str:
    update_model(models.load(before), **changes).classifier.save(path)
    return model_card(path)


def test_the_comparison_on_an_updated_model_is_said_to_be_of_the_model_before(
    models: Models, tmp_path: Path
) -> None:
    heads = ("prototype", "nearest")
    keys = models.material.keys(head=list(heads))
    fit(models.material.train, tmp_path / "a.safetensors", folds=2, reject=0, **keys)
    before = model_card(tmp_path / "a.safetensors")
    assert "Of these methods, tried on clips held out in 2 parts, it is the" in before
    names = ", ".join(models.material.classes)
    new = {"new": models.clips()[:2]}
    again = {"more": models.clips()[2:4]}
    a, b, c = (tmp_path / f"{name}.safetensors" for name in "abc")
    cards = [
        _updated_card(models, a, b, add=new),
        _updated_card(models, b, c, add=again, remove=models.material.classes[:1]),
    ]
    for card in cards:
        assert "Of these methods" not in card
        text = " ".join(card.split())
        assert f"chosen for the model before it was updated, of 5 classes ({names}) and" in text
        assert "and 20 clips. The figures of this table are of that model, on clips held" in text
        assert "held out in 2 parts" in text
        assert "updated since" in card
    assert "| new | 2 |" in cards[0]


def test_a_comparison_of_an_unknown_model_is_left_out(models: Models, tmp_path: Path) -> None:
    """Files that were updated before the model of the comparison was recorded."""
    keys = models.material.keys(head=["prototype", "nearest"])
    fit(models.material.train, tmp_path / "a.safetensors", folds=2, reject=0, **keys)
    model = read_model(tmp_path / "a.safetensors")
    assert model.description.accuracy is not None
    fewer = model.description.accuracy.model_copy(update={"clips": 19, "count": 3})
    for accuracy in (fewer, None):
        description = model.description.model_copy(update={"accuracy": accuracy, "folds": 19})
        write_model(tmp_path / "b.safetensors", ModelFile(description, model.tensors))
        assert "| method |" not in model_card(tmp_path / "b.safetensors")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"name": "demo", "pretrained": None}, "Apache-2.0; they come with fewshot-i2v"),
        ({"name": "tiny", "pretrained": "random"}, "random numbers"),
        ({"name": "pixels", "pretrained": None}, "pixels"),
        ({"name": "ViT-B-16", "pretrained": "/there/mine.pt"}, "whoever made the file mine.pt"),
        (
            {"name": "ViT-B-16", "pretrained": "laion2b_s34b_b88k"},
            "unknown; open_clip records none. Before you publish or sell anything, read the terms "
            "of those who made the weights ViT-B-16/laion2b_s34b_b88k "
            "(https://huggingface.co/laion/CLIP-ViT-B-16-laion2B-s34B-b88K)",
        ),
        ({"name": "hf-hub:me/clip", "pretrained": None}, "card of https://huggingface.co/me/clip"),
    ],
)
def test_the_licence_of_the_weights_is_never_guessed(
    models: Models, source: dict[str, Any], expected: str
) -> None:
    description = read_model(models.path(*METHOD)).description
    changed = description.encoder_source.model_copy(update=source)
    text = _changed(models, models.folder / "licence.safetensors", encoder_source=changed)
    assert expected in text


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="a folder"):
        model_card(tmp_path)
