"""Names to things: adapters and heads are files, found by listing their folder.

Adding an adapter or a head is adding one file; its name is the file's name with dashes for
underscores. A module is imported only when it is used, so listing needs no torch. Other packages
can offer more through the entry point groups `fewshot_i2v.adapters` and `fewshot_i2v.heads`. A
folder of files can be added with `add_folder`, or without any Python: the environment variable
FEWSHOT_I2V_PLUGINS names one or more folders with `adapters/` and `heads/` inside.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from fewshot_i2v.errors import UnknownNameError, UsageError

Kind = Literal["adapters", "heads"]
DataKind = Literal["episodes", "configs"]
_PACKAGE = Path(__file__).parent
_VARIABLE = "FEWSHOT_I2V_PLUGINS"
_BASES = {"adapters": "Adapter", "heads": "Head"}
_extra_folders: dict[str, list[Path]] = {"adapters": [], "heads": []}


@dataclass(frozen=True)
class Found:
    """One adapter or head that can be used by name.

    Attributes:
        name: the name to give on the command line, such as "st-adapter".
        summary: first line of its documentation.
        origin: the file, or the entry point's value.
    """

    name: str
    summary: str
    origin: str


def data_folder(kind: DataKind) -> Path:
    """The folder of shipped splits ("episodes") or run configurations ("configs").

    In a checkout it lies beside the package, in an installed package inside it.
    """
    inside = _PACKAGE / "_data" / kind
    return inside if inside.is_dir() else _PACKAGE.parent / kind


def data_file(kind: DataKind, name: str) -> Path:
    """The YAML file of a shipped split or configuration, by name (`folder/name` below it).

    Raises:
        UnknownNameError: naming what exists.
    """
    folder = data_folder(kind)
    known = data_names(kind)
    if name not in known:
        what = "split" if kind == "episodes" else "config"
        raise UnknownNameError(what, name, known, f"A path to a YAML file works too ({what}).")
    return folder / f"{name}.yaml"


def data_names(kind: DataKind) -> list[str]:
    """Names of the shipped splits or configurations, sorted."""
    folder = data_folder(kind)
    return sorted(p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.yaml"))


def add_folder(kind: Kind, folder: Path) -> None:
    """Also look for adapters or heads in `folder`, one per file.

    Raises:
        UsageError: when `folder` is not a folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: not a folder; expected one with a Python file per {kind[:-1]}")
    _extra_folders[kind].append(folder.resolve())


def _folders(kind: Kind) -> Iterator[Path]:
    yield _PACKAGE / kind
    yield from _extra_folders[kind]
    for text in filter(None, os.environ.get(_VARIABLE, "").split(os.pathsep)):
        folder = Path(text)
        if not folder.is_dir():
            raise UsageError(
                f"{text}: not a folder; {_VARIABLE} names folders with adapters/ and heads/ "
                f"inside, separated by {os.pathsep!r}"
            )
        yield folder.resolve() / kind


def _files(kind: Kind) -> Iterator[tuple[str, Path]]:
    for folder in _folders(kind):
        for path in sorted(folder.glob("*.py")):
            if not path.name.startswith("_"):
                yield path.stem.replace("_", "-"), path


def _entry_points(kind: Kind) -> dict[str, EntryPoint]:
    return {e.name: e for e in entry_points(group=f"fewshot_i2v.{kind}")}


def found(kind: Kind) -> list[Found]:
    """All adapters or heads that exist, without importing any of them."""
    rows = [Found(name, _summary(path), str(path)) for name, path in _files(kind)]
    rows += [Found(n, "from another package", e.value) for n, e in _entry_points(kind).items()]
    return sorted(rows, key=lambda row: row.name)


def names(kind: Kind) -> list[str]:
    """Names of all adapters or heads, sorted."""
    return sorted({*(name for name, _ in _files(kind)), *_entry_points(kind)})


def _summary(path: Path) -> str:
    """First line of a file's docstring, read without running it."""
    try:
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    except SyntaxError as error:
        return f"cannot be used: line {error.lineno} is not valid Python"
    return doc.splitlines()[0].rstrip(".") if doc else ""


@cache
def _module(path: Path) -> ModuleType:
    if path.parent.parent == _PACKAGE:
        return importlib.import_module(f"fewshot_i2v.{path.parent.name}.{path.stem}")
    name = f"_fewshot_i2v_extra_{path.parent.name}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path}: cannot be imported as a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def load(kind: Kind, name: str) -> type[Any]:
    """The class behind a name.

    Args:
        kind: "adapters" or "heads".
        name: as listed by `found`.

    Returns:
        The one subclass of `Adapter` or `Head` that the file defines.

    Raises:
        UnknownNameError: naming the nearest and all existing names.
        UsageError: when the file does not define exactly one.
    """
    points = _entry_points(kind)
    files: dict[str, Path] = {}
    for found_name, path in _files(kind):
        if found_name in files or found_name in points:
            other = files.get(found_name) or points[found_name].value
            raise UsageError(f"two {kind} are called {found_name!r}: {path} and {other}")
        files[found_name] = path
    if name in points:
        loaded: type[Any] = points[name].load()
        return loaded
    if name not in files:
        raise UnknownNameError(kind[:-1], name, [*files, *points])
    return _only_class(kind, _module(files[name]), files[name])


def _only_class(kind: Kind, module: ModuleType, path: Path) -> type[Any]:
    base = getattr(importlib.import_module(f"fewshot_i2v.{kind}._contract"), _BASES[kind])
    own = [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, base)
        and value.__module__ == module.__name__
    ]
    if len(own) != 1:
        names = ", ".join(c.__name__ for c in own) or "none"
        raise UsageError(f"{path}: expected exactly one subclass of {_BASES[kind]}, found {names}")
    return own[0]
