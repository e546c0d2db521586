"""The benchmark beside learn2learn runs and says what it did, or what it lacks."""

from __future__ import annotations

import importlib.util
import json
import runpy
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.needs_learn2learn import learn2learn_algorithms

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "benchmarks" / "bench_tasksets.py"
ASKED = ("--split", "hmdb51-arn", "--subset", "novel", "--episodes", "5", "--their-episodes", "2")


@pytest.fixture(autouse=True)
def _beside_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python does for a script that is run."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))


@pytest.mark.learn2learn
def test_both_are_timed() -> None:
    learn2learn_algorithms()
    main = runpy.run_path(str(SCRIPT))["main"]
    result = CliRunner().invoke(main, [*ASKED, "--repeats", "2"], catch_exceptions=False)
    data = json.loads(result.stdout)
    assert data["setting"]["clips"] == 1292
    assert data["ours"]["microseconds_per_episode"] > 0
    assert data["learn2learn"]["microseconds_per_episode"] > 0
    assert data["times_as_fast"] > 0


def test_without_learn2learn_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("learn2learn") is not None:
        monkeypatch.setitem(__import__("sys").modules, "learn2learn", None)
    main = runpy.run_path(str(SCRIPT))["main"]
    result = CliRunner().invoke(main, [*ASKED, "--repeats", "1"])
    assert result.exit_code == 1
    assert "bash scripts/install_learn2learn.sh python" in result.stderr
