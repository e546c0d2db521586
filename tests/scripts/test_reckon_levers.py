"""The reckoned levers: the guide has the record's rows, and the record what is counted today."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "scripts" / "benchmarks"
RECORD = json.loads((BENCHMARKS / "results" / "levers-h200.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def script() -> Iterator[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))  # as Python does for a script that is run
        yield runpy.run_path(str(BENCHMARKS / "reckon_levers.py"))


def test_the_guide_has_the_rows_of_the_record(script: dict[str, Any]) -> None:
    guide = (ROOT / "scripts" / "README.md").read_text(encoding="utf-8")
    position = script["Position"]
    levers = [position(**row) for row in RECORD["st-adapter"]]
    adapters = {name: [position(**r) for r in rows] for name, rows in RECORD["adapters"].items()}
    assert len(adapters) == 9
    assert "\n".join(script["lever_lines"](levers)) + "\n" in guide
    assert "\n".join(script["adapter_lines"](adapters)) + "\n" in guide
    assert RECORD["aims"] == {"minutes": 35, "share": 0.6, "ratio": 20}


def test_every_lever_makes_it_faster() -> None:
    minutes = [row["minutes"] for row in RECORD["st-adapter"]]
    assert minutes == sorted(minutes, reverse=True)
    assert all(before["minutes"] > now["minutes"] for before, now in RECORD["adapters"].values())


def test_the_record_has_the_counts_of_today(script: dict[str, Any]) -> None:
    (today,) = [row for row in RECORD["st-adapter"] if "today" in row["lever"]]
    step, _ = script["work_of"]("st-adapter")
    assert len(step) == pytest.approx(today["kernels"], rel=0.03)
    size, flop = (sum(kernel[i] for kernel in step) / 4 for i in (1, 2))
    assert size / 1e9 == pytest.approx(today["gigabytes"], rel=0.03)
    assert flop / 1e12 == pytest.approx(today["tflop"], rel=0.03)


def test_a_kernel_takes_the_longest_of_its_times(script: dict[str, Any]) -> None:
    seconds = script["kernel_seconds"]
    many = 1000  # so that the host is the faster
    work = [("mm", 0, int(0.87 * 790e9)), ("add", int(0.85 * 4.3e9), 0)]
    assert seconds(work * many) == pytest.approx(2e-3 * many)
    attention = [("_scaled_dot_product_flash_attention", 0, int(190e9))]
    assert seconds(attention * many) == pytest.approx(1e-3 * many)
    # small kernels wait for the host that starts them
    assert seconds([("add", 1, 0)] * many) == pytest.approx(6e-6 * many)


@pytest.mark.slow
def test_the_record_is_that_of_the_script(script: dict[str, Any]) -> None:
    for row, expected in zip(script["st_adapter_positions"](), RECORD["st-adapter"], strict=True):
        assert row.lever == expected["lever"]
        assert row.minutes == pytest.approx(expected["minutes"], rel=0.03)
