"""The tables of keys in the guides to configurations and splits say what the code says."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import click
import pytest

from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.config.keys import config_keys
from fewshot_i2v.config.training import TrainingConfig
from fewshot_i2v.data.splits.split_fields import SPLIT_FIELDS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("key_table")


def test_the_guides_are_what_models_and_fields_say(script: ModuleType) -> None:
    known_keys = {**config_keys(EvaluationConfig), **config_keys(TrainingConfig)}
    for guide, keys in ((script.CONFIG_GUIDE, known_keys), (script.SPLIT_GUIDE, SPLIT_FIELDS)):
        text = guide.read_text(encoding="utf-8")
        assert script.guide_text(guide, text) == text
        for name in keys:
            assert f"| `{name}` | " in text


@pytest.mark.parametrize(
    ("guide", "line", "table"),
    [
        ("CONFIG_GUIDE", "| `tuning.steps` | integer | `30` |", "keys of a training"),
        (
            "SPLIT_GUIDE",
            "| `generator.seed` | a whole number from 0 | `0` |",
            "keys of a split file",
        ),
    ],
)
def test_a_changed_table_is_made_again_and_missing_marks_are_an_error(
    script: ModuleType, guide: str, line: str, table: str
) -> None:
    path = getattr(script, guide)
    text = path.read_text(encoding="utf-8")
    assert line in text
    changed = text.replace(line, line.replace("0` |", "1` |"))
    assert script.guide_text(path, changed) == text
    with pytest.raises(click.ClickException, match=table):
        script.guide_text(path, text.replace(f"<!-- {table} -->", ""))
