"""The reckoned minutes in the guide are those of the script, from the counts that are there now."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts/benchmarks/reckon_gpus.py"))


def test_the_guide_has_the_rows_of_the_script() -> None:
    result = CliRunner().invoke(SCRIPT["main"], [])
    rows = result.stdout.splitlines()
    assert len(rows) == 9
    guide = (ROOT / "configs/README.md").read_text(encoding="utf-8")
    assert result.stdout in guide
    assert "**Nothing has run on CUDA.**" in guide


def test_a_step_of_a_known_size() -> None:
    best, worst = SCRIPT["seconds_of_step"]({"flop": 989e9, "bytes": 6.7e9})
    assert best == pytest.approx(2e-3)  # memory takes longer than products
    assert worst == pytest.approx(3e-3 / 0.6)
