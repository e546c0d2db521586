"""The whole command: evaluate, show, again, and a plan; on a tiny encoder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fewshot_i2v.utils.yaml import dump_yaml
from tests.cli.conftest import Invoke
from tests.tiny import tiny_architecture, tiny_split


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration whose paths are relative to it."""
    folder = tmp_path_factory.mktemp("command")
    tiny_architecture(folder)
    tiny_split(folder)
    config = {
        "split": "tiny.yaml",
        "encoder": {"name": "tiny", "architecture": "tiny.json", "pretrained": "random"},
        "video": {"frames": 2, "crop": 1},
        "adapter": ["frozen", "st-adapter"],
        "way": 2,
        "query": 1,
        "episodes": 3,
        "tuning": {"steps": 1},
        "workers": 1,
        "cache": "cache",
        "output": "out",
    }
    (folder / "mine.yaml").write_text(dump_yaml(config))
    return folder


FLAGS = ("--mean", "0.5", "--std", "0.5")


def test_evaluate_then_show_then_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke
) -> None:
    monkeypatch.chdir(tmp_path)
    config = str(folder / "mine.yaml")
    first = invoke("evaluate", config, *FLAGS)
    assert first.exit_code == 0
    head, _, rest = first.stderr.partition("\n\n")
    assert "flags: encoder.mean 0.5, encoder.std 0.5" in " ".join(head.split())
    out = folder / "out"
    assert rest.strip().splitlines() == [
        f"records are in {out}",
        "",
        f"next: fewshot-i2v recommend {out}",
    ]
    shown = invoke("show", str(out)).stdout
    said = " ".join(shown.split())
    assert said.startswith("split tiny (novel), 2-way, 1 query clip per class, seed 0, encoder ")
    assert shown == first.stdout
    before = {path: path.read_bytes() for path in folder.rglob("episodes.jsonl")}
    assert len(before) == 2
    again = invoke("evaluate", config, *FLAGS, "--json")
    assert (again.exit_code, again.stderr) == (0, first.stderr)
    assert [row["episodes"] for row in json.loads(again.stdout)["rows"]] == [3, 3]
    assert {path: path.read_bytes() for path in folder.rglob("episodes.jsonl")} == before
    assert not list(tmp_path.iterdir()), "nothing is written beside what was asked for"


def test_a_dry_run_writes_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("evaluate", str(folder / "mine.yaml"), *FLAGS, "--dry-run", "-o", "none")
    assert "total" in result.stdout
    result = invoke(
        "evaluate", str(folder / "mine.yaml"), *FLAGS, "--dry-run", "--json", "-o", "none"
    )
    plan = json.loads(result.stdout)
    assert plan["config"]["encoder"]["mean"] == 0.5
    assert len(plan["first_episode"]["classes"]) == 2
    assert plan["cost"]["clips"] > 0
    assert not list(tmp_path.iterdir())
