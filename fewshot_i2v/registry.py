"""Names to things: adapters and heads are files, found by listing their folder.

Adding an adapter or a head is adding one file; its name is the file's name with dashes for
underscores. A module is imported only when it is used, so listing needs no torch. Other packages
can offer more through the entry point groups `fewshot_i2v.adapters` and `fewshot_i2v.heads`. A
folder of files can be added with `add_folder`, or without any Python: the environment variable
FEWSHOT_I2V_PLUGINS names one or more folders with `adapters/` and `heads/` inside.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast

from fewshot_i2v.errors import UnknownNameError, UsageError
from fewshot_i2v.utils.input_files import read_regular
from fewshot_i2v.utils.resources import PACKAGE_FOLDER

Kind = Literal["adapters", "heads"]
_METHODS = PACKAGE_FOLDER / "models"
_VARIABLE = "FEWSHOT_I2V_PLUGINS"
_BASES = {"adapters": "Adapter", "heads": "Head"}
_NEEDED = {"adapters": ("source", "identity_at_start", "order"), "heads": ("source",)}
_ORDERS = ("no", "embedding", "yes")
_EXTRA = "_fewshot_i2v_extra_"
_SOURCE_LIMIT = 4 << 20
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


def add_folder(kind: Kind, folder: Path) -> None:
    """Also look for adapters or heads in `folder`, one per file.

    Raises:
        UsageError: when `folder` is not a folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: not a folder; expected one with a Python file per {kind[:-1]}")
    _extra_folders[kind].append(folder.resolve())


def _folders(kind: Kind) -> Iterator[Path]:
    yield _METHODS / kind
    yield from _extra_folders[kind]
    for text in filter(None, os.environ.get(_VARIABLE, "").split(os.pathsep)):
        folder = Path(text)
        problem = _folder_problem(folder)
        if problem:
            raise UsageError(
                f"{text}: {problem}; {_VARIABLE} names folders with adapters/ and heads/ inside, "
                f"separated by {os.pathsep!r}"
            )
        yield folder.resolve() / kind


def _folder_problem(folder: Path) -> str:
    """Why adapters and heads cannot be looked for in a folder, or ""."""
    if not folder.is_dir():
        return "not a folder"
    if any((folder / kind).is_dir() for kind in _BASES):
        return ""
    around = (folder.parent, *sorted(folder.glob("*/")))
    near = [f for f in around if any((f / kind).is_dir() for kind in _BASES)]
    hint = f": give {near[0]}" if near else ""
    return f"has neither adapters/ nor heads/ inside{hint}"


def _files(kind: Kind) -> Iterator[tuple[str, Path]]:
    for folder in dict.fromkeys(_folders(kind)):
        for path in sorted(folder.glob("*.py")):
            if not path.name.startswith("_"):
                yield path.stem.replace("_", "-"), path


def _entry_points(kind: Kind) -> dict[str, EntryPoint]:
    return {e.name: e for e in entry_points(group=f"fewshot_i2v.{kind}")}


def found(kind: Kind) -> list[Found]:
    """All adapters or heads that exist, without importing any of them."""
    rows = [Found(name, _summary(path), str(path)) for name, path in _files(kind)]
    rows += [Found(n, "from another package", e.value) for n, e in _entry_points(kind).items()]
    counts = Counter(row.name for row in rows)
    for i, row in enumerate(rows):
        if counts[row.name] > 1:
            others = [o.origin for o in rows if o.name == row.name and o.origin != row.origin]
            said = f"cannot be used: {row.origin} and {' and '.join(others)} have the same name"
            rows[i] = replace(row, summary=said)
    return sorted(rows, key=lambda row: row.name)


def names(kind: Kind) -> list[str]:
    """Names of all adapters or heads, sorted."""
    return sorted({*(name for name, _ in _files(kind)), *_entry_points(kind)})


def _summary(path: Path) -> str:
    """First line of a file's docstring, read without running it."""
    try:
        doc = ast.get_docstring(ast.parse(read_regular(path, _SOURCE_LIMIT))) or ""
    except SyntaxError as error:
        return f"cannot be used: line {error.lineno} is not valid Python"
    except (OSError, ValueError, RecursionError) as error:
        return f"cannot be used: {error}"
    return doc.splitlines()[0].rstrip(".") if doc else ""


@cache
def _module(path: Path) -> ModuleType:
    if path.parent.parent == _METHODS:
        return importlib.import_module(f"fewshot_i2v.models.{path.parent.name}.{path.stem}")
    name = f"{_EXTRA}{path.parent.name}_{path.stem}"
    _guarded(path, lambda: read_regular(path, _SOURCE_LIMIT))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path}: cannot be imported as a Python module")
    module, loader = importlib.util.module_from_spec(spec), spec.loader
    sys.modules[name] = module
    try:
        _guarded(path, lambda: loader.exec_module(module))
    except UsageError:
        del sys.modules[name]
        raise
    return module


def _guarded(origin: Path | str, load: Callable[[], Any]) -> Any:  # noqa: ANN401 - what it loads
    """Runs code of others.

    Raises:
        UsageError: whatever it raised, naming the file, the exception and the line.
    """
    try:
        return load()
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(origin)]
        said = str(error)
        if isinstance(error, SyntaxError) and error.filename == str(origin):
            lines, said = [error.lineno], error.msg
        where = f", line {lines[-1]}" if lines else ""
        raise UsageError(
            f"{origin}{where}: cannot be imported: {type(error).__name__}: {said}"
        ) from error


def load(kind: Kind, name: str) -> type[Any]:
    """The class behind a name.

    Args:
        kind: "adapters" or "heads".
        name: as listed by `found`.

    Returns:
        The one subclass of `Adapter` or `Head` that the file defines.

    Raises:
        UnknownNameError: naming the nearest and all existing names.
        UsageError: when the file cannot be imported, does not define exactly one, or the class
            lacks something; or two files have this name.
    """
    points = _entry_points(kind)
    files = [path for found_name, path in _files(kind) if found_name == name]
    origins: list[Path | str] = [*files, *([points[name].value] if name in points else [])]
    if not origins:
        raise UnknownNameError(kind[:-1], name, names(kind))
    if len(origins) > 1:
        both = " and ".join(map(str, origins))
        raise UsageError(f"two {kind} are called {name!r}: {both}; rename one")
    if files:
        cls = _only_class(kind, _module(files[0]), files[0])
    else:
        cls = _guarded(points[name].value, points[name].load)
    _check_complete(kind, cls, origins[0])
    return cls


def name_of(cls: type[Any]) -> str:
    """The command-line name of an adapter or head; for others the name of the class.

    Args:
        cls: as `load` returns it.
    """
    for kind in _BASES:
        for name, point in _entry_points(cast("Kind", kind)).items():
            if point.value == f"{cls.__module__}:{cls.__qualname__}":
                return name
        for package in (f"fewshot_i2v.models.{kind}.", f"{_EXTRA}{kind}_"):
            if cls.__module__.startswith(package):
                return cls.__module__.removeprefix(package).replace("_", "-")
    return cls.__name__


def _check_complete(kind: Kind, cls: Any, origin: Path | str) -> None:  # noqa: ANN401 - anything
    """Raises UsageError for what is no class of this kind, or lacks what each one has."""
    base, order = _base(kind), getattr(cls, "order", None)
    if not (inspect.isclass(cls) and issubclass(cls, base)):
        raise UsageError(f"{origin}: expected a subclass of {base.__name__}, found {cls!r}")
    lacking = [name for name in _NEEDED[kind] if not hasattr(cls, name)]
    lacking += [f"{name}()" for name in sorted(getattr(cls, "__abstractmethods__", ()))]
    if lacking:
        raise UsageError(
            f"{origin}: {cls.__name__} lacks {', '.join(lacking)}, which every {kind[:-1]} has; "
            f"see {base.__name__} in {base.__module__}"
        )
    if kind == "adapters" and order not in _ORDERS:
        expected = ", ".join(map(repr, _ORDERS))
        raise UsageError(f"{origin}: {cls.__name__}.order is {order!r}; expected {expected}")


def _base(kind: Kind) -> type[Any]:
    base: type[Any] = getattr(
        importlib.import_module(f"fewshot_i2v.models.{kind}.base.{kind[:-1]}"), _BASES[kind]
    )
    return base


def _only_class(kind: Kind, module: ModuleType, path: Path) -> type[Any]:
    base = _base(kind)
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


def code_digest(kind: Kind, name: str) -> str | None:
    """sha256 (hexadecimal) of the file of an adapter or head; None for the package's own."""
    path = Path(inspect.getfile(load(kind, name)))
    if path.resolve().is_relative_to(PACKAGE_FOLDER):
        return None
    return hashlib.sha256(read_regular(path, _SOURCE_LIMIT)).hexdigest()
