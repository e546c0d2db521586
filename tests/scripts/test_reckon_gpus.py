"""The reckoned minutes in the guide are those of the script, from the counts that are there now."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts/benchmarks/reckon_gpus.py"))


@pytest.mark.parametrize(
    ("gpu", "guide"), [("h100", "configs/README.md"), ("h200", "scripts/README.md")]
)
def test_the_guide_has_the_rows_of_the_script(gpu: str, guide: str) -> None:
    result = CliRunner().invoke(SCRIPT["main"], ["--gpu", gpu])
    rows = result.stdout.splitlines()
    assert len(rows) == 9
    text = (ROOT / guide).read_text(encoding="utf-8")
    assert result.stdout in text
    assert "**Nothing has run on CUDA.**" in text


def test_a_step_of_a_known_size() -> None:
    best, worst = SCRIPT["seconds_of_step"]({"flop": 989e9, "bytes": 6.7e9}, SCRIPT["GPUS"]["h100"])
    assert best == pytest.approx(2e-3)  # memory takes longer than products
    assert worst == pytest.approx(3e-3 / 0.6)
    more, _ = SCRIPT["seconds_of_step"]({"flop": 989e9, "bytes": 6.7e9}, SCRIPT["GPUS"]["h200"])
    assert more == pytest.approx(best * 3.35 / 4.8)  # its memory is faster
