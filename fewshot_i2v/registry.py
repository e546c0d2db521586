"""Find adapters and heads by name: each is a file, listed from its folder.

To add an adapter or a head, add one file; its name is the file's name with dashes for underscores.
A module is imported only when it is used, so listing needs no torch. Other packages can offer more
through the entry point groups `fewshot_i2v.adapters` and `fewshot_i2v.heads`. `add_plugin_folder`
adds a folder of files; so does, without any Python, the environment variable FEWSHOT_I2V_PLUGINS,
which names one or more folders with `adapters/` and `heads/` inside.
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
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast

from fewshot_i2v.errors import UnknownNameError, UsageError
from fewshot_i2v.utils.input_files import read_regular
from fewshot_i2v.utils.resources import PACKAGE_FOLDER

MethodKind = Literal["adapters", "heads"]
_METHODS = PACKAGE_FOLDER / "models"
_PLUGINS_VARIABLE = "FEWSHOT_I2V_PLUGINS"
_BASE_CLASSES = {"adapters": "Adapter", "heads": "Head"}
_REQUIRED_MEMBERS = {
    "adapters": ("source", "identity_at_init", "frame_order"),
    "heads": ("source",),
}
_FRAME_ORDERS = ("no", "embedding", "yes")
_PLUGIN_MODULE_PREFIX = "_fewshot_i2v_extra_"
_MAX_SOURCE_BYTES = 4 << 20
_extra_folders: dict[str, list[Path]] = {"adapters": [], "heads": []}
_extra_files: dict[str, dict[Path, str]] = {"adapters": {}, "heads": {}}
"""Single files, each with the name of the class to take, or "" for its only one."""


@dataclass(frozen=True)
class MethodInfo:
    """An adapter or head that can be used by name.

    Attributes:
        name: its name on the command line, such as "st-adapter".
        summary: first line of its documentation.
        origin: the file, or the entry point's value.
        problem: why it is broken, as far as that is known without running it; "" if it is not.
    """

    name: str
    summary: str
    origin: str
    problem: str = ""


def add_plugin_folder(kind: MethodKind, folder: Path) -> None:
    """Add a folder of adapters or heads, one per file.

    Raises:
        UsageError: when `folder` is not a folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: not a folder; expected one with a Python file per {kind[:-1]}")
    _extra_folders[kind].append(folder.resolve())


@contextmanager
def plugin_file(kind: MethodKind, path: Path, class_name: str = "") -> Iterator[str]:
    """Let a single file be an adapter or head within the block, wherever it lies.

    Args:
        kind: "adapters" or "heads".
        path: of the file.
        class_name: which of its classes; "": its only one.

    Yields:
        The name of the method.
    """
    resolved_path = path.resolve()
    _extra_files[kind][resolved_path] = class_name
    try:
        yield _name_of_file(resolved_path)
    finally:
        del _extra_files[kind][resolved_path]


def _name_of_file(path: Path) -> str:
    return path.stem.replace("_", "-")


def _method_folders(kind: MethodKind) -> Iterator[Path]:
    yield _METHODS / kind
    yield from _extra_folders[kind]
    for entry in filter(None, os.environ.get(_PLUGINS_VARIABLE, "").split(os.pathsep)):
        folder = Path(entry)
        problem = _folder_problem(folder)
        if problem:
            raise UsageError(
                f"{entry}: {problem}; {_PLUGINS_VARIABLE} names folders with adapters/ and heads/ "
                f"inside, separated by {os.pathsep!r}"
            )
        yield folder.resolve() / kind


def _folder_problem(folder: Path) -> str:
    """Why a folder cannot hold adapters and heads, or ""."""
    if not folder.is_dir():
        return "not a folder"
    if any((folder / kind).is_dir() for kind in _BASE_CLASSES):
        return ""
    neighbours = (folder.parent, *sorted(folder.glob("*/")))
    candidates = [
        neighbour
        for neighbour in neighbours
        if any((neighbour / kind).is_dir() for kind in _BASE_CLASSES)
    ]
    hint = f": give {candidates[0]}" if candidates else ""
    return f"has neither adapters/ nor heads/ inside{hint}"


def _method_files(kind: MethodKind) -> Iterator[tuple[str, Path]]:
    paths = [
        path
        for folder in dict.fromkeys(_method_folders(kind))
        for path in sorted(folder.glob("*.py"))
        if not path.name.startswith("_")
    ]
    for path in dict.fromkeys([*paths, *_extra_files[kind]]):
        yield _name_of_file(path), path


def _entry_points(kind: MethodKind) -> dict[str, EntryPoint]:
    return _entry_points_on(kind, tuple((folder, _change_time(folder)) for folder in sys.path))


def _change_time(folder: str) -> int:
    try:
        return Path(folder).stat().st_mtime_ns
    except OSError:
        return 0


@cache  # reading what is installed takes 10 ms, and a small run needs it 50 times
def _entry_points_on(
    kind: MethodKind, _search_path: tuple[tuple[str, int], ...]
) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"fewshot_i2v.{kind}")}


def list_methods(kind: MethodKind) -> list[MethodInfo]:
    """List all adapters or heads, without importing any of them."""
    rows = [_read_info(name, path) for name, path in _method_files(kind)]
    rows += [
        MethodInfo(n, "from another package", point.value)
        for n, point in _entry_points(kind).items()
    ]
    counts = Counter(row.name for row in rows)
    for i, row in enumerate(rows):
        if counts[row.name] > 1:
            duplicate_origins = [
                duplicate.origin
                for duplicate in rows
                if duplicate.name == row.name and duplicate.origin != row.origin
            ]
            problem = (
                f"{row.origin} and {' and '.join(duplicate_origins)} have the same name; rename one"
            )
            rows[i] = replace(row, problem=problem)
    return sorted(rows, key=lambda row: row.name)


def method_names(kind: MethodKind) -> list[str]:
    """Names of all adapters or heads, sorted."""
    return sorted({*(name for name, _ in _method_files(kind)), *_entry_points(kind)})


def _read_info(name: str, path: Path) -> MethodInfo:
    """Describe a file by the first line of its docstring, read without running it."""
    doc, problem = "", ""
    try:
        doc = _read_docstring(read_regular(path, _MAX_SOURCE_BYTES))
    except SyntaxError as error:
        problem = f"{path}, line {error.lineno}: is not valid Python: {error.msg}"
    except (OSError, ValueError, RecursionError) as error:
        problem = str(error) if str(path) in str(error) else f"{path}: {error}"
    return MethodInfo(name, doc.splitlines()[0].rstrip(".") if doc else "", str(path), problem)


@cache
def _read_docstring(source: bytes) -> str:
    """Read a module's docstring: parsing takes longer than all else that a list of methods does."""
    return ast.get_docstring(ast.parse(source)) or ""


def find_problem(kind: MethodKind, info: MethodInfo) -> str:
    """Find out why an adapter or head is broken: methods from outside the package are imported.

    Args:
        kind: "adapters" or "heads".
        info: an entry of `list_methods`.

    Returns:
        The reason, with the file; "" for a method that can be loaded.
    """
    if info.problem or Path(info.origin).parent.parent == _METHODS:
        return info.problem
    try:
        load_method(kind, info.name)
    except UsageError as error:
        return str(error)
    return ""


def unknown_method(kind: MethodKind, name: str) -> UnknownNameError:
    """Build the error for a name that no adapter or head has; it says how to add one."""
    file = f"{kind}/{name.replace('-', '_')}.py"
    folders = os.environ.get(_PLUGINS_VARIABLE, "")
    lacking = f" (now {folders}, without {file})" if folders else ""
    hint = (
        f"Your own {kind[:-1]} is a file {file} in a folder that {_PLUGINS_VARIABLE} names"
        f"{lacking}; CONTRIBUTING.md has a complete example, and `fewshot-i2v check-{kind[:-1]} "
        "FILE` checks one"
    )
    return UnknownNameError(kind[:-1], name, method_names(kind), hint)


@cache
def _load_module(path: Path, kind: MethodKind) -> ModuleType:
    if path.parent.parent == _METHODS:
        return importlib.import_module(f"fewshot_i2v.models.{path.parent.name}.{path.stem}")
    name = f"{_PLUGIN_MODULE_PREFIX}{kind}_{path.stem}"
    _run_plugin_code(path, lambda: read_regular(path, _MAX_SOURCE_BYTES))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path}: cannot be imported as a Python module")
    module, loader = importlib.util.module_from_spec(spec), spec.loader
    sys.modules[name] = module
    try:
        _run_plugin_code(path, lambda: loader.exec_module(module))
    except UsageError:
        del sys.modules[name]
        raise
    return module


def _run_plugin_code(origin: Path | str, action: Callable[[], Any]) -> Any:  # noqa: ANN401 - what it loads
    """Run code of a plug-in; a UsageError names the file, the exception and the line."""
    try:
        return action()
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(origin)]
        message = str(error)
        if isinstance(error, SyntaxError) and error.filename == str(origin):
            lines, message = [error.lineno], error.msg
        line_note = f", line {lines[-1]}" if lines else ""
        raise UsageError(
            f"{origin}{line_note}: cannot be imported: {type(error).__name__}: {message}"
        ) from error


def load_method(kind: MethodKind, name: str) -> type[Any]:
    """Import the class behind a name.

    Args:
        kind: "adapters" or "heads".
        name: as listed by `list_methods`.

    Returns:
        The file's one subclass of `Adapter` or `Head`.

    Raises:
        UnknownNameError: naming the nearest and all existing names.
        UsageError: when the file cannot be imported, does not define exactly one, or the class
            lacks something; or two files have this name.
    """
    points = _entry_points(kind)
    files = [path for file_name, path in _method_files(kind) if file_name == name]
    origins: list[Path | str] = [*files, *([points[name].value] if name in points else [])]
    if not origins:
        raise unknown_method(kind, name)
    if len(origins) > 1:
        origin_list = " and ".join(map(str, origins))
        raise UsageError(f"two {kind} are called {name!r}: {origin_list}; rename one")
    if files:
        cls = _single_class(kind, _load_module(files[0], kind), files[0])
    else:
        cls = _run_plugin_code(points[name].value, points[name].load)
    _check_class(kind, cls, origins[0])
    return cls


def method_name(cls: type[Any]) -> str:
    """The command-line name of an adapter or head, else the class name.

    Args:
        cls: as returned by `load_method`.
    """
    for kind in _BASE_CLASSES:
        for name, point in _entry_points(cast("MethodKind", kind)).items():
            if point.value == f"{cls.__module__}:{cls.__qualname__}":
                return name
        for package in (f"fewshot_i2v.models.{kind}.", f"{_PLUGIN_MODULE_PREFIX}{kind}_"):
            if cls.__module__.startswith(package):
                return cls.__module__.removeprefix(package).replace("_", "-")
    return cls.__name__


def _check_class(kind: MethodKind, cls: Any, origin: Path | str) -> None:  # noqa: ANN401 - anything
    """Raise UsageError for a class of another kind, or one that lacks a required member."""
    base, frame_order = _base_class(kind), getattr(cls, "frame_order", None)
    if not (inspect.isclass(cls) and issubclass(cls, base)):
        raise UsageError(f"{origin}: expected a subclass of {base.__name__}, found {cls!r}")
    missing = [name for name in _REQUIRED_MEMBERS[kind] if not hasattr(cls, name)]
    missing += [f"{name}()" for name in sorted(getattr(cls, "__abstractmethods__", ()))]
    if missing:
        raise UsageError(
            f"{origin}: {cls.__name__} lacks {', '.join(missing)}, which every {kind[:-1]} has; "
            f"see {base.__name__} in {base.__module__}"
        )
    if kind == "adapters" and frame_order not in _FRAME_ORDERS:
        expected = ", ".join(map(repr, _FRAME_ORDERS))
        raise UsageError(
            f"{origin}: {cls.__name__}.frame_order is {frame_order!r}; expected {expected}"
        )


def _base_class(kind: MethodKind) -> type[Any]:
    base: type[Any] = getattr(
        importlib.import_module(f"fewshot_i2v.models.{kind}.base.{kind[:-1]}"), _BASE_CLASSES[kind]
    )
    return base


def _single_class(kind: MethodKind, module: ModuleType, path: Path) -> type[Any]:
    base = _base_class(kind)
    classes = [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, base)
        and value.__module__ == module.__name__
        and value.__name__ == (_extra_files[kind].get(path) or value.__name__)
    ]
    if len(classes) != 1:
        class_names = ", ".join(cls.__name__ for cls in classes) or "none"
        raise UsageError(
            f"{path}: expected exactly one subclass of {_BASE_CLASSES[kind]}, found {class_names}; "
            "give each one a file of its own"
        )
    return classes[0]


def code_digest(kind: MethodKind, name: str) -> str | None:
    """sha256 (hexadecimal) of a plug-in's file; None for the package's own methods."""
    path = Path(inspect.getfile(load_method(kind, name)))
    if path.resolve().is_relative_to(PACKAGE_FOLDER):
        return None
    return hashlib.sha256(read_regular(path, _MAX_SOURCE_BYTES)).hexdigest()
