"""The script that compares tuned rows with the frozen encoder and with themselves untuned."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from tests.cli.test_show import write

FILE = Path(__file__).resolve().parents[2] / "scripts" / "tuning_gains.py"
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(FILE.parent))  # as Python does for a script that is run
    SCRIPT = runpy.run_path(str(FILE))


def _gains(
    tmp_path: Path, adapter: str, steps: int, start: str = "fresh", over: str = ""
) -> dict[str, float]:
    arguments = [str(tmp_path / "run"), "--json", str(tmp_path / "gains.json")]
    done = CliRunner().invoke(SCRIPT["main"], arguments + (["--over", over] if over else []))
    assert done.exit_code == 0, done.output
    lines = json.loads((tmp_path / "gains.json").read_text(encoding="utf-8"))["rows"]
    (line,) = [
        x for x in lines if (x["adapter"], x["steps"], x["start"]) == (adapter, steps, start)
    ]
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


def test_rows_are_compared_with_the_untuned_rows_of_another_start(tmp_path: Path) -> None:
    write(tmp_path / "run", "frozen", [0.25, 0.5] * 7)
    write(tmp_path / "run", "aim", [0.75, 1.0] * 7)
    begun = {"kind": "base-trained", "name": "demo-motions"}
    write(tmp_path / "run", "aim", [0.5, 0.75] * 7, begin="demo-motions", steps=0, start=begun)
    write(tmp_path / "run", "st-adapter", [0.5, 0.5] * 7)
    gains = _gains(tmp_path, "aim", 20, over="demo-motions")
    assert gains["demo-motions"] == pytest.approx(25.0)
    start = _gains(tmp_path, "aim", 0, "demo-motions", over="demo-motions")
    assert start == {"frozen": pytest.approx(25.0)}, "not with itself"
    assert "demo-motions" not in _gains(tmp_path, "st-adapter", 20, over="demo-motions")


def test_without_a_row_of_the_head_each_head_of_the_start_is_compared() -> None:
    def _row(start: str, head: str, steps: int = 0, shot: int = 1) -> SimpleNamespace:
        summary = SimpleNamespace(
            is_frozen=False, adapter="aim", start="base-trained", start_name=start, head=head,
            shot=shot, config={"tuning": {"steps": steps}},
        )  # fmt: skip
        return SimpleNamespace(summary=summary)

    plain, grid, tuned = _row("a/plain", "p"), _row("a/plain", "p:grid"), _row("a/plain", "p", 5)
    rows = [plain, grid, tuned, _row("a/plain", "p", shot=5)]
    same, other = _row("b/context", "p"), _row("b/context", "c")
    pairs = SCRIPT["rows_of_start"]
    assert list(pairs(same, rows, "plain")) == [("plain", same, plain)]
    assert list(pairs(other, rows, "plain")) == [
        ("plain, p", other, plain),
        ("plain, p:grid", other, grid),
    ]
    assert list(pairs(tuned, rows, "plain")) == []
    # the frozen encoder has no row of the head `c`
    assert list(SCRIPT["baselines_of"](other, [*rows, other])) == []


def test_a_start_without_rows_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "run", "frozen", [0.25, 0.5] * 7)
    arguments = [str(tmp_path / "run"), "--json", str(tmp_path / "g.json"), "--over", "mine"]
    done = CliRunner().invoke(SCRIPT["main"], arguments)
    assert done.exit_code == 2
    assert "mine: no row has this start" in done.output
    assert not (tmp_path / "g.json").exists()
