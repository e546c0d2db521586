"""The table of adapters in the guide to models says what the code does."""

from __future__ import annotations

import importlib
import re
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result

from fewshot_i2v import registry
from fewshot_i2v.models.cost import CostRow

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "fewshot_i2v" / "models" / "README.md"
SEEN = {"aim": (2e-5, 4e-6, 1e-7), "frozen": (2e-6, 1e-6, None)}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("adapter_table")


@cache
def rows_on_the_shipped_encoder() -> list[CostRow]:
    script = importlib.import_module("adapter_table")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script, "ENCODER", "demo")
        patch.setattr(registry, "method_names", lambda _: ["aim", "frozen"])
        rows: list[CostRow] = script.rows()
    return rows


@pytest.fixture
def small(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program with a small encoder, two adapters and given differences."""
    rows = rows_on_the_shipped_encoder()
    monkeypatch.setattr(script, "rows", lambda: rows)
    monkeypatch.setattr(script, "shared_folder", lambda: ROOT)
    monkeypatch.setattr(script, "measured", lambda _: SEEN)
    return script


@pytest.fixture
def guide(tmp_path: Path) -> Path:
    path = tmp_path / "README.md"
    path.write_text("before\n<!-- adapter-table -->\nold\n<!-- /adapter-table -->\nafter\n")
    return path


def call(script: ModuleType, *args: str) -> Result:
    return CliRunner().invoke(script.main, list(args))


def test_some_rows_of_the_guide_are_what_the_code_says(script: ModuleType, tmp_path: Path) -> None:
    """One that merges, the frozen encoder, and a method one of whose presets costs more."""
    some = ("bitfit", "frozen", "st-adapter")
    before, table, after = script.between(GUIDE)
    names = {name for line in table for name in re.findall(r"^\| `([\w-]+)", line)}
    assert names == set(registry.method_names("adapters"))
    rows = tuple(f"| `{name}" for name in some)
    kept = [line for line in table if line.startswith(rows) or not line.startswith("| `")]
    assert sum(line.startswith(rows) for line in kept) >= len(some)
    guide = tmp_path / "README.md"
    guide.write_text(before + "".join(f"{line}\n" for line in kept) + after, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "method_names", lambda _: some)
        result = call(script, "--check", "--file", str(guide))
    assert result.exit_code == 0, result.output


@pytest.mark.slow
def test_the_guide_is_what_the_code_says(script: ModuleType) -> None:
    assert script.GUIDE == GUIDE
    result = call(script, "--check")
    assert result.exit_code == 0, result.output


def test_writing_and_checking(small: ModuleType, guide: Path) -> None:
    assert call(small, "--check", "--file", str(guide)).exit_code == 1
    assert call(small, "--file", str(guide)).exit_code == 0
    text = guide.read_text()
    assert text.startswith("before\n<!-- adapter-table -->\n| adapter |")
    assert text.endswith("\n<!-- /adapter-table -->\nafter\n")
    assert "| `frozen` | no | none | 0 | 0.0221 | - | - | < 1e-5 | < 1e-5 | - |\n" in text
    assert "| `aim` | through the embedding | every frame | 151,616 |" in text
    assert "`aim:preset=ssv2`" in text
    assert "`aim:preset=k400`" not in text, "it costs what the defaults do"
    assert call(small, "--check", "--file", str(guide)).exit_code == 0
    printed = call(small, "--stdout", "--file", str(guide)).stdout
    assert printed in text
    assert guide.read_text() == text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("151,616", "151,617", "is:     | `aim` "),
        ("0.0221", "0.0222", "is:     | `frozen` "),
        ("clips of 8", "clips of 9", "should: ViT-B/16 at 224"),
        ("to compare with.", "to compare with.\nMore.", "lines of table and legend"),
        ("< 1e-5 | < 1e-5 | -", "< 1e-6 | < 1e-5 | -", "frozen has < 1e-6 for tokens"),
        ("< 1e-5 | < 1e-5 | -", "- | < 1e-5 | -", "frozen has - for tokens"),
        ("< 1e-5 | < 1e-5 | -", "< 1e-5 | < 1e-5 | < 1e-5", "frozen has < 1e-5 for gradients"),
    ],
)
def test_what_the_check_finds(
    small: ModuleType, guide: Path, old: str, new: str, message: str
) -> None:
    call(small, "--file", str(guide))
    text = guide.read_text()
    assert old in text
    guide.write_text(text.replace(old, new))
    result = call(small, "--check", "--file", str(guide))
    assert result.exit_code == 1
    assert message in result.output


def test_without_the_material_costs_alone_are_checked(
    small: ModuleType, guide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(small, "--file", str(guide))
    monkeypatch.setattr(small, "shared_folder", lambda: None)
    assert call(small, "--check", "--file", str(guide)).exit_code == 0
    result = call(small, "--file", str(guide))
    assert result.exit_code == 1
    assert "FEWSHOT_I2V_SHARED" in result.output
    guide.write_text(guide.read_text().replace("151,616", "1"))
    assert call(small, "--check", "--file", str(guide)).exit_code == 1


def test_without_markers(small: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("nothing\n")
    result = call(small, "--file", str(path))
    assert (result.exit_code, path.read_text()) == (1, "nothing\n")
    assert "<!-- /adapter-table -->" in result.output


def test_bounds_leave_room_for_other_machines(script: ModuleType) -> None:
    values = (None, 0.0, 3e-6, 4e-6, 2e-7)
    assert [script.bound(v) for v in values] == ["-", "< 1e-12", "< 1e-5", "< 1e-4", "< 1e-6"]


@pytest.mark.shared
def test_official_outputs_are_met(script: ModuleType, shared: Path) -> None:
    found = script.measured(shared)
    assert {"aim", "frozen", "st-adapter", "zeroi2v"} <= found.keys()
    for name, (tokens, features, gradients) in found.items():
        assert 0 < tokens < 1e-4, name
        assert 0 < features < 3e-5, name
        assert (gradients is None) is (name == "frozen")
        assert (gradients or 0) < 1e-5, name
