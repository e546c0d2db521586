"""The names of `fewshot_i2v.statistics` are loaded when used, and none of them is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fewshot_i2v import statistics


@pytest.mark.parametrize("name", statistics.__all__)
def test_every_name_exists(name: str) -> None:
    value = getattr(statistics, name)
    assert name in dir(statistics)
    assert value.__name__ == name
    assert value.__module__.startswith("fewshot_i2v.statistics.")
    assert value.__doc__


def test_importing_the_package_needs_no_numpy() -> None:
    code = (
        "import sys, fewshot_i2v.statistics as s;"
        "s.Interval;"
        "assert 'numpy' not in sys.modules; s.log_loss; assert 'numpy' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_other_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'mean_intervall'"):
        _ = statistics.mean_intervall
