"""The package's public names are loaded when used, and there is one list of them."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import fewshot_i2v

SOURCE = ast.parse(Path(fewshot_i2v.__file__).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", fewshot_i2v.__all__)
def test_every_public_name_exists(name: str) -> None:
    value = getattr(fewshot_i2v, name)
    assert name in dir(fewshot_i2v)
    if callable(value):
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
    lazy = {name: f"fewshot_i2v.{home}" for name, home in fewshot_i2v._MODULES.items()}
    assert typed == lazy
    assert set(fewshot_i2v.__all__) == {*lazy, "__version__"}


def test_what_trains_is_public() -> None:
    """The names that a training from Python needs, beside those that evaluate what came of it."""
    assert {"train", "TrainingConfig", "load_train_config"} <= set(fewshot_i2v.__all__)


@pytest.mark.parametrize("name", fewshot_i2v.__all__)
def test_no_public_name_is_that_of_a_module(name: str) -> None:
    """Importing a module binds it in the package, where it would hide what has its name."""
    folder = Path(fewshot_i2v.__file__).parent
    assert not (folder / f"{name}.py").exists()
    assert not (folder / name).exists()


def test_other_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="'fewshot_i2v' has no attribute 'evalute'"):
        _ = fewshot_i2v.evalute


@pytest.mark.parametrize("name", [n for n in fewshot_i2v.__all__ if n[0].islower()])
def test_every_path_may_be_a_text(name: str, tmp_path: Path) -> None:
    function = getattr(fewshot_i2v, name)
    taken = {k: v for k, v in getattr(function, "__annotations__", {}).items() if k != "return"}
    assert [key for key, kind in taken.items() if "Path" in kind and "str" not in kind] == []


def test_the_root_of_a_split_may_be_a_text(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: s\nversion: 1\nsource: x\nlicence: x\nsubsets: {novel: {a: [a/1.mp4]}}\n"
    )
    assert fewshot_i2v.load_split(str(path), root=str(tmp_path)).root == tmp_path


@pytest.mark.parametrize("package", ["fewshot_i2v.models.adapters", "fewshot_i2v.models.heads"])
def test_what_authors_of_methods_need_is_offered_lazily(package: str) -> None:
    face = importlib.import_module(package)
    assert dir(face) == sorted(face.__all__)
    for name in face.__all__:
        assert getattr(face, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'Adaptor'"):
        _ = face.Adaptor
