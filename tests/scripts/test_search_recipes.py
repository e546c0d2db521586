"""The search of recipes: what it tunes once and reads in several ways, and what it refuses."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result

ROOT = Path(__file__).resolve().parents[2]
ORDERED = "prototype:center=true,pooling=ordered"
CONFIG = f"""
split: motions
subset: val
way: 2
shot: 1
query: 1
episodes: 2
adapter: [st-adapter]
head: ["{ORDERED}", "{ORDERED},tokens=motion"]
video: {{frames: 4, crop: 1.0}}
"""
CANDIDATES = """
one step: {steps: 1, lr: 0.005}
two views: {steps: 1, lr: 0.005, views: 2, crop_scale: [0.6, 1.0], head: "prototype:tokens=grid2"}
"""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("search_recipes")


def _search(script: ModuleType, *arguments: str) -> Result:
    return CliRunner().invoke(script.main, arguments)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str, str]:
    """Configuration, candidates and results."""
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "candidates.yaml").write_text(CANDIDATES)
    names = ("config.yaml", "candidates.yaml", "out.jsonl")
    config, candidates, out = (str(tmp_path / name) for name in names)
    return config, candidates, out


def test_each_candidate_is_tuned_once_and_read_by_all_heads(
    script: ModuleType, files: tuple[str, str, str]
) -> None:
    config, candidates, out = files
    result = _search(script, config, candidates, "--out", out)
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in Path(out).read_text().splitlines()]
    assert [row["candidate"] for row in rows] == [script.UNTUNED, "one step", "two views"]
    heads = [ORDERED, f"{ORDERED},tokens=motion"]
    assert list(rows[0]["accuracies"]) == heads
    for row in rows[1:]:
        assert set(row["accuracies"]) == {
            name + end for name in heads for end in ("", script.MIXED)
        }
        assert all(len(values) == 2 for values in row["accuracies"].values())
        assert row["tuning"]["recipe"] == "none"
    assert [row["head"] for row in rows] == [ORDERED, ORDERED, "prototype:tokens=grid2"]
    assert [row["tuning"]["views"] for row in rows] == [1, 1, 2]
    assert result.output.count("+-") == sum(len(row["accuracies"]) for row in rows)

    again = _search(script, config, candidates, "--out", out)
    assert again.output == result.output  # nothing is tuned again
    assert len(Path(out).read_text().splitlines()) == 3
    over = _search(script, config, candidates, "--out", out, "--over", "one step")
    (its_own,) = over.output.split("\nst-adapter")[1:2]
    assert "one step" in its_own
    assert its_own.count("( +0.0 +-  0.0)") == 4
    assert len(Path(out).read_text().splitlines()) == 3
    wrong = _search(script, config, candidates, "--out", out, "--over", "two")
    assert "two: " in wrong.output
    assert wrong.exit_code == 2
    other = _search(script, config, candidates, "--out", out, "head=prototype")
    assert other.exit_code != 0
    assert "read by other heads" in other.output


def test_a_trained_start_is_read_and_tuned_too(
    script: ModuleType, files: tuple[str, str, str]
) -> None:
    config, candidates, out = files
    Path(candidates).write_text("one step: {steps: 1, lr: 0.001}")
    keys = ("start=demo-motions", "allow_seen=true", "video.frames=8")
    result = _search(script, config, candidates, "--out", out, *keys)
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in Path(out).read_text().splitlines()]
    assert [row["row"] for row in rows] == ["st-adapter demo-motions 1-shot"] * 2
    assert all(len(values) == 2 for values in rows[0]["accuracies"].values())


def test_classes_of_the_evaluation_are_refused(
    script: ModuleType, files: tuple[str, str, str]
) -> None:
    config, candidates, out = files
    result = _search(script, config, candidates, "subset=novel", "--out", out)
    assert result.exit_code == 2
    assert "subset=novel: recipes are chosen on other classes" in result.output
    assert not Path(out).exists()


def test_bad_keys_are_named_without_a_traceback(
    script: ModuleType, files: tuple[str, str, str]
) -> None:
    config, candidates, out = files
    Path(candidates).write_text("x: {stpes: 3}\n")
    result = _search(script, config, candidates, "--out", out)
    assert result.exit_code == 1
    assert "stpes" in result.output
    assert "Traceback" not in result.output
