"""What a subclass sets is something that its base class has: a misspelled setting has no effect."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import pytest

import fewshot_i2v

CONTRACTS = {
    "fewshot_i2v.models.adapters.base.adapter": "Adapter",
    "fewshot_i2v.models.heads.base.head": "Head",
    "fewshot_i2v.training.objective": "Objective",
}


def modules() -> Iterator[ModuleType]:
    for info in pkgutil.walk_packages(fewshot_i2v.__path__, "fewshot_i2v."):
        if not info.name.endswith("__main__"):
            yield importlib.import_module(info.name)


def settings_without_base(base: type, module: ModuleType) -> list[str]:
    """Class attributes that subclasses of `base` set and no class above them has."""
    unused = []
    for name, cls in vars(module).items():
        if not (inspect.isclass(cls) and issubclass(cls, base) and cls is not base):
            continue
        if cls.__module__ != module.__name__:
            continue
        above = {key for c in cls.__mro__[1:] for key in {**vars(c), **inspect.get_annotations(c)}}
        own = {key for key, value in vars(cls).items() if not callable(value)}
        own -= {key for key, value in vars(cls).items() if isinstance(value, property)}
        unused += [f"{name}.{key}" for key in own - above if not key.startswith("_")]
    return unused


@pytest.mark.parametrize(("module", "name"), CONTRACTS.items())
def test_a_method_sets_nothing_that_its_contract_does_not_have(module: str, name: str) -> None:
    base: type = getattr(importlib.import_module(module), name)
    found = [entry for each in modules() for entry in settings_without_base(base, each)]
    assert found == []
