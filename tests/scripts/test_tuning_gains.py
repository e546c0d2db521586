"""The script that compares tuned rows with the frozen encoder and with themselves untuned."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.cli.test_show import write

FILE = Path(__file__).resolve().parents[2] / "scripts" / "tuning_gains.py"
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(FILE.parent))  # as Python does for a script that is run
    SCRIPT = runpy.run_path(str(FILE))


def _gains(tmp_path: Path, adapter: str, steps: int) -> dict[str, float]:
    done = CliRunner().invoke(
        SCRIPT["main"], [str(tmp_path / "run"), "--json", str(tmp_path / "gains.json")]
    )
    assert done.exit_code == 0, done.output
    lines = json.loads((tmp_path / "gains.json").read_text(encoding="utf-8"))["rows"]
    (line,) = [x for x in lines if (x["adapter"], x["steps"]) == (adapter, steps)]
    return {name: gain["these clips"]["mean"] for name, gain in line["over"].items()}


def test_a_tuned_row_is_compared_with_frozen_and_with_itself_untuned(tmp_path: Path) -> None:
    write(tmp_path / "run", "frozen", [0.25, 0.5] * 7)
    write(tmp_path / "run", "aim", [0.75, 1.0] * 7)
    write(tmp_path / "run" / "untuned", "aim", [0.5, 0.5] * 7, steps=0)
    gains = _gains(tmp_path, "aim", 20)
    assert gains == {"frozen": pytest.approx(50.0), "the same untuned": pytest.approx(37.5)}
    assert _gains(tmp_path, "aim", 0) == {"frozen": pytest.approx(12.5)}


def test_a_fresh_row_without_its_untuned_row_is_compared_with_frozen_twice(tmp_path: Path) -> None:
    write(tmp_path / "run", "frozen", [0.25, 0.5] * 7)
    write(tmp_path / "run", "aim", [0.75, 1.0] * 7)
    assert _gains(tmp_path, "aim", 20) == {"frozen": 50.0, "the same untuned": 50.0}
