"""The tables of keys in the guide to configurations say what the models say."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import click
import pytest

from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.config.keys import config_keys
from fewshot_i2v.config.training import TrainingConfig

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("key_table")


def test_the_guide_is_what_the_models_say(script: ModuleType) -> None:
    text = script.GUIDE.read_text(encoding="utf-8")
    assert script.guide_text(text) == text
    for name in {**config_keys(EvaluationConfig), **config_keys(TrainingConfig)}:
        assert f"| `{name}` | " in text


def test_a_changed_table_is_made_again_and_missing_marks_are_an_error(script: ModuleType) -> None:
    text = script.GUIDE.read_text(encoding="utf-8")
    assert "| `tuning.steps` | integer | `30` |" in text
    changed = text.replace(
        "| `tuning.steps` | integer | `30` |", "| `tuning.steps` | integer | `31` |"
    )
    assert script.guide_text(changed) == text
    with pytest.raises(click.ClickException, match="keys of a training"):
        script.guide_text(text.replace("<!-- keys of a training -->", ""))
