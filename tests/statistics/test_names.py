"""The names of `fewshot_i2v.statistics` are loaded when used, and there is one list of them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from fewshot_i2v import statistics

SOURCE = ast.parse(Path(str(statistics.__file__)).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", statistics.__all__)
def test_every_name_exists(name: str) -> None:
    value = getattr(statistics, name)
    assert name in dir(statistics)
    assert value.__name__ == name
    assert value.__doc__


def test_type_checkers_see_the_same_names() -> None:
    guard = next(node for node in SOURCE.body if isinstance(node, ast.If))
    typed = {
        alias.name: str(node.module)
        for node in guard.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == {
        name: f"fewshot_i2v.statistics.{home}" for name, home in statistics._HOMES.items()
    }
    assert set(typed) <= set(statistics.__all__)


def test_other_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'mean_intervall'"):
        _ = statistics.mean_intervall
