"""Imports point one way, and what must stay light imports nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "fewshot_i2v"

# Lowest first; a layer may import itself and those before it.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset(
        {"errors", "_leftovers", "plugins", "_limits", "paths", "yaml_loader", "_yaml_text"}
        | {"config", "_config_errors", "_config_merge", "_config_models", "_config_material"}
        | {"_config_choice", "_config_commands", "_config_starts", "_options", "train_config"}
        | {"_config_episodes", "_config_rows", "_config_origins", "_progress", "_search_path"}
        | {"_files", "_printable"}
    ),
    frozenset({"episodes", "video", "encoders"}),
    frozenset({"adapters", "heads", "clip_check"}),
    frozenset(
        {"augment", "tuning", "cost", "checkpoint", "starts", "_bank", "_material"}
        | {"_start_facts", "_start_seen"}
        | {
            "_objectives",
            "_base_objectives",
            "_train_batches",
            "_train_roster",
            "meta",
            "_learner",
            "tasksets",
        }
    ),
    frozenset(
        {
            "evaluation",
            "results",
            "_machine",
            "_row",
            "_row_batches",
            "_row_header",
            "_row_records",
            "_stopped",
            "_until",
            "_estimate",
            "filmstrips",
            "reproduction",
            "_workspace",
            "export",
            "_export_config",
            "classify",
        }
        | {"training", "_train_folder", "_train_loop", "_train_state", "_train_validation"}
    ),
    frozenset({"cli", "__main__"}),
)
STRANGERS = frozenset({"episodes", "video", "encoders"})
"""Members of one layer that do not import each other."""
WHAT_A_FILE_IS = ("fewshot_i2v.video._content.", "fewshot_i2v.video.frame_folder.")
"""Modules that import errors alone and say what lies on a disk: lists of clips need it too."""
APART = frozenset(
    {
        "records",
        "_header",
        "_journal",
        "_marker",
        "_record",
        "_record_check",
        "_record_lines",
        "statistics",
        "report",
        "_report",
    }
)
"""They know the errors and each other; only evaluation and what is above it knows them."""
NO_TORCH = frozenset(
    {*LAYERS[0], *APART, "episodes", "video", "clip_check", "filmstrips", "reproduction"}
    | {"results", "cli", "__init__"}
)
NO_PYDANTIC = frozenset({*APART, "errors", "plugins", "cli", "__init__"})
FILES = sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    """The first name below the package that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def level_of(part: str) -> int:
    for level, names in enumerate(LAYERS):
        if part in names:
            return level
    raise AssertionError(
        f"fewshot_i2v/{part} has no layer: add it to LAYERS or APART in {__file__}"
    )


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


def inner(path: Path) -> set[str]:
    """Parts of the package that a file imports; `WHAT_A_FILE_IS` is anyone's to ask."""
    asked = (name for name in imports(path) if not name.startswith(WHAT_A_FILE_IS))
    names = {name.split(".")[1] for name in asked if name.startswith("fewshot_i2v.")}
    return {n for n in names if (PACKAGE / n).is_dir() or (PACKAGE / f"{n}.py").is_file()}


def allowed(part: str, other: str) -> bool:
    if part == other or part == "__init__":
        return True
    if part in APART:
        return other in APART or other in {"errors", "_leftovers"}
    if other in APART:
        return level_of(part) >= level_of("evaluation")
    if {part, other} <= STRANGERS:
        return False
    return level_of(other) <= level_of(part)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    wrong = {other for other in inner(path) if not allowed(part_of(path), other)}
    assert not wrong, f"{path.relative_to(PACKAGE.parent)} must not import {sorted(wrong)}"


def test_every_module_has_a_layer() -> None:
    for part in {part_of(path) for path in FILES} - APART - {"__init__"}:
        assert level_of(part) >= 0


def test_direction_is_checked_at_all() -> None:
    assert allowed("heads", "adapters")
    assert not allowed("video", "episodes")
    assert not allowed("tuning", "evaluation")
    assert not allowed("records", "config")
    assert not allowed("tuning", "records")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_packages_stay_where_they_belong(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)}
    if part_of(path) in NO_TORCH:
        assert not roots & {"torch", "torchvision", "open_clip"}
    if part_of(path) in NO_PYDANTIC:
        assert "pydantic" not in roots


def test_light_modules_do_not_load_torch_at_run_time() -> None:
    modules = [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in FILES
        if part_of(path) in NO_TORCH and path.name != "__main__.py"
    ]
    modules.append("fewshot_i2v.encoders.catalog")
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
