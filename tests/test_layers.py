"""The tree of the package: few rooms, imports that point down, modules that stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "fewshot_i2v"
FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "version"}),
    frozenset({"utils", "statistics"}),
    frozenset({"registry"}),
    frozenset({"config", "data"}),
    frozenset({"models", "runs"}),
    frozenset({"tuning", "report"}),
    frozenset({"evaluation", "training"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)
"""Lowest first; a room imports itself and rooms of lower floors, never a sibling."""
ENTRANCES = frozenset({"__init__"})
"""Modules that re-export names of any room, lazily."""
MAX_ROOMS = 14
NO_TORCH = frozenset(
    {"errors", "version", "registry", "utils", "config", "data", "runs", "statistics", "report"}
    | {"cli", "__init__"}
)
NO_PYDANTIC = frozenset(
    {"errors", "version", "utils", "statistics", "registry", "runs", "report", "cli", "__init__"}
)
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in FILES
}


def room_of(module: str) -> str:
    """The name directly below the package."""
    return module.split(".")[1] if "." in module else "__init__"


def floor_of(room: str) -> int:
    for floor, rooms in enumerate(FLOORS):
        if room in rooms:
            return floor
    raise AssertionError(f"fewshot_i2v/{room} has no floor: add it to FLOORS in {__file__}")


def _statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements that run, at any depth; those for type checkers only are left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        yield from _statements(child)


def imports(path: Path) -> Iterator[str]:
    """Dotted names of everything a file imports."""
    for statement in _statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        else:
            assert not statement.level, f"{path}: relative import"
            yield from (f"{statement.module}.{alias.name}" for alias in statement.names)


@cache
def imported_names() -> Mapping[str, tuple[str, ...]]:
    """What each module imports; reading all files takes a second."""
    return {module: tuple(imports(path)) for module, path in MODULES.items()}


def imported_modules(importing: str) -> set[str]:
    """Modules of the package that a module imports, or names of."""
    modules = set()
    for name in imported_names()[importing]:
        module = name
        while module not in MODULES and "." in module:
            module = module.rpartition(".")[0]
        if module in MODULES:
            modules.add(module)
    return modules


@cache
def graph() -> Mapping[str, set[str]]:
    return {module: imported_modules(module) - {module} for module in MODULES}


def is_allowed(room: str, imported: str) -> bool:
    if room == imported or room in ENTRANCES:
        return True
    return imported not in ENTRANCES and floor_of(imported) < floor_of(room)


def test_imports_point_down() -> None:
    wrong = [
        f"{module} must not import {name}"
        for module, names in graph().items()
        for name in sorted(names)
        if not is_allowed(room_of(module), room_of(name))
    ]
    assert wrong == []


def test_direction_is_checked_at_all() -> None:
    assert is_allowed("models", "data")
    assert not is_allowed("config", "data")
    assert not is_allowed("data", "models")
    assert not is_allowed("tuning", "evaluation")
    assert not is_allowed("models", "__init__")


def test_no_circle() -> None:
    """Removes modules that import none of those that remain, until there are no more."""
    remaining = {module: set(names) for module, names in graph().items()}
    while free := {module for module, names in remaining.items() if not names & remaining.keys()}:
        remaining = {module: names for module, names in remaining.items() if module not in free}
    assert not remaining, f"these modules import each other in a circle: {sorted(remaining)}"


def test_the_root_of_the_package_is_small() -> None:
    rooms = {room_of(module) for module in MODULES} - {"__init__", "__main__"}
    assert len(rooms) <= MAX_ROOMS, sorted(rooms)
    assert rooms <= set().union(*FLOORS)


def test_there_are_no_private_files_outside_the_command_line() -> None:
    private = [
        str(path.relative_to(PACKAGE))
        for path in FILES
        if path.name.startswith("_") and path.name not in ("__init__.py", "__main__.py")
    ]
    assert [path for path in private if not path.startswith("cli/")] == []


def test_heavy_packages_stay_where_they_belong() -> None:
    wrong = []
    for module, names in imported_names().items():
        lazy = module in ("fewshot_i2v.utils.environment", "fewshot_i2v.utils.seeding")
        forbidden = set()
        if room_of(module) in NO_TORCH and not lazy:
            forbidden |= {"torch", "torchvision", "open_clip"}
        if room_of(module) in NO_PYDANTIC:
            forbidden.add("pydantic")
        roots = {name.split(".")[0] for name in names}
        wrong += [f"{module} must not import {name}" for name in sorted(roots & forbidden)]
    assert wrong == []


def test_light_modules_do_not_load_torch_at_run_time() -> None:
    modules = [
        module
        for module, path in MODULES.items()
        if room_of(module) in NO_TORCH and path.name != "__main__.py"
    ]
    modules.append("fewshot_i2v.models.encoders.catalog")
    program = (
        "import importlib, sys\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
        "    for heavy in ('torch', 'open_clip', 'decord', 'av', 'sklearn', 'learn2learn'):\n"
        "        assert heavy not in sys.modules, f'{name} loads {heavy}'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PACKAGE.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_importing_the_package_loads_nothing_but_the_standard_library() -> None:
    program = (
        "import sys; before = set(sys.modules); import fewshot_i2v; "
        "new = {m.split('.')[0] for m in set(sys.modules) - before}; "
        "assert new <= set(sys.stdlib_module_names) | {'fewshot_i2v'}, new"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PACKAGE.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
