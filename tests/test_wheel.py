"""The built wheel, used outside the checkout: what is shipped is inside, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[1]
DATA = {"episodes": "fewshot_i2v/_data/episodes", "configs": "fewshot_i2v/_data/configs"}
SUFFIXES = {
    ".py", ".typed", ".yaml", ".gz", ".json", ".safetensors", ".html", ".css", ".js", ".md",
    ".txt",
}  # fmt: skip
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what belongs into a source distribution."""
    copy = tmp_path_factory.mktemp("source")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for name in project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]:
        path = ROOT / name.lstrip("/")
        if path.is_dir() and path.name != "tests":
            shutil.copytree(path, copy / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.is_file():
            shutil.copy(path, copy)
    shutil.copy(ROOT / "pyproject.toml", copy)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist"],
        cwd=copy,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    (path,) = (copy / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def names(wheel: Path) -> dict[str, int]:
    """Files in the wheel with their sizes in bytes."""
    with ZipFile(wheel) as archive:
        return {info.filename: info.file_size for info in archive.infolist()}


def test_every_file_of_the_package_and_all_shipped_data_are_inside(names: dict[str, int]) -> None:
    wanted = {
        f"fewshot_i2v/{path.relative_to(ROOT / 'fewshot_i2v').as_posix()}"
        for path in (ROOT / "fewshot_i2v").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    for folder, inside in DATA.items():
        found = [path for path in (ROOT / folder).rglob("*") if path.is_file()]
        assert [path for path in found if path.suffix == ".yaml"]
        wanted |= {f"{inside}/{path.relative_to(ROOT / folder).as_posix()}" for path in found}
    assert wanted <= set(names)
    rest = {n for n in set(names) - wanted if ".dist-info/" not in n}
    assert all(n.startswith(tuple(DATA.values())) for n in rest), rest


def test_nothing_else_is_inside(names: dict[str, int]) -> None:
    package = [PurePosixPath(name) for name in names if ".dist-info/" not in name]
    assert {path.parts[0] for path in package} == {"fewshot_i2v"}
    assert {path.suffix for path in package} <= SUFFIXES
    assert not [path for path in package if path.name.startswith("test_") or "tests" in path.parts]
    sizes = {name: size for name, size in names.items() if not name.endswith(".safetensors")}
    assert max(sizes.values()) < MEGABYTE, "large lists belong into a compressed file"


def test_it_carries_its_licence_and_entry_point(wheel: Path, names: dict[str, int]) -> None:
    (licence,) = (name for name in names if name.endswith("licenses/LICENSE"))
    (points,) = (name for name in names if name.endswith("entry_points.txt"))
    with ZipFile(wheel) as archive:
        assert b"Apache License" in archive.read(licence)
        assert b"fewshot-i2v = fewshot_i2v.cli:main" in archive.read(points)


def test_the_installed_command_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    target, away = tmp_path / "installed", tmp_path / "away"
    away.mkdir()
    options = ["--quiet", "--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(wheel)],
        check=True,
        capture_output=True,
    )

    def run(*args: str) -> str:
        done = subprocess.run(
            [sys.executable, str(target / "bin" / "fewshot-i2v"), *args],
            cwd=away,
            env=os.environ | {"PYTHONPATH": str(target)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    for kind, folder in (("splits", "episodes"), ("configs", "configs")):
        rows = json.loads(run("list", kind, "--json"))
        shipped = {
            path.relative_to(ROOT / folder).with_suffix("").as_posix()
            for path in (ROOT / folder).rglob("*.yaml")
            if path.parent.name != "recipes"  # parts of a configuration
        }
        assert {row["name"] for row in rows} == shipped
        assert all(Path(row["origin"]).is_relative_to(target) for row in rows)
    shipped = {
        path.parent.parent.relative_to(ROOT / "configs" / "starts").as_posix()
        for path in (ROOT / "configs" / "starts").rglob("adapter.json")
    }
    rows = json.loads(run("list", "starts", "--json"))
    assert {row["name"] for row in rows} == shipped
    assert all(Path(row["origin"]).is_relative_to(target) for row in rows)
    shipped = {path.name for path in (ROOT / "configs" / "recipes").glob("*.yaml")}
    recipes = target / "fewshot_i2v" / "_data" / "configs" / "recipes"
    assert {path.name for path in recipes.glob("*.yaml")} == shipped
    assert "frozen" in run("list", "adapters")
    assert json.loads(run("list", "encoders", "--json"))[0]["name"] == "demo"
