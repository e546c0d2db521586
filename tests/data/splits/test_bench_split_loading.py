"""The benchmark of split loading runs and says what it did."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

from click.testing import CliRunner

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "benchmarks" / "bench_split_loading.py"


def test_benchmark_prints_json() -> None:
    main = runpy.run_path(str(SCRIPT))["main"]
    given = ["--clips", "2000", "--classes", "20", "--new"]
    result = CliRunner().invoke(main, given, catch_exceptions=False)
    facts = json.loads(result.output)
    assert facts["setting"] == {"clips": 2000, "classes": 20}
    assert facts["peak_mib"] >= facts["peak_mib_before"] > 1
    assert facts["new_files"] == ["new.yaml"]
    refused = CliRunner().invoke(main, ["--clips", "100", "--classes", "20"])
    assert "expected 10 for each of 20 classes" in refused.output
