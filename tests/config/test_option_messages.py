"""What is said of options of adapters and heads that cannot be used."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from fewshot_i2v import registry
from fewshot_i2v.config.error_messages import describe_pattern, translate_validation_error
from fewshot_i2v.config.method import MethodSpec
from fewshot_i2v.errors import ConfigError
from fewshot_i2v.evaluation.row_expansion import load_config

BASE = {"split": "motions", "adapter": "frozen"}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("adapter", "lora:rank=4,rank=8", "override); the option 'rank' has two values"),
        (
            "head",
            "zero-shot:templates=[a video of {}, a clip of {}]",
            'quote each: templates=["a video of {}", "a clip of {}"]',
        ),
        ("adapter", "lora:targets=[q", "override); lora: targets:2:1: not valid YAML"),
        ("name", "a b", "expected letters, digits, '.', '_' and '-', and no other sign"),
    ],
)
def test_what_was_expected_is_said_without_a_stray_prefix(key: str, value: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(BASE, {key: value})
    assert said in str(caught.value)
    assert "something else" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        (
            "heads",
            "linear:tokens=patches",
            "tokens: got 'patches'; expected 'summary', 'projected', 'gridN', 'motion' or ",
        ),
        ("heads", "zero-shot:templates=foo", "got 'foo'; template 'foo': expected exactly one {}"),
        ("adapters", "lora:rnk=4", "unknown option 'rnk'; did you mean 'rank'?"),
    ],
)
def test_options_are_called_options(kind: registry.MethodKind, text: str, said: str) -> None:
    choice = MethodSpec.parse(text)
    model = registry.load_method(kind, choice.name).Options
    with pytest.raises(ValidationError) as caught:
        model.model_validate(choice.options)
    assert said in str(translate_validation_error(caught.value, model, origin="x"))


def test_patterns_of_plug_ins_are_shown_as_they_are() -> None:
    assert describe_pattern("^[ab]$") == "text that matches ^[ab]$"
