"""The sampler's benchmark runs and says what it did."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

from click.testing import CliRunner

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "benchmarks" / "bench_sampler.py"


def test_benchmark_prints_json() -> None:
    main = runpy.run_path(str(SCRIPT))["main"]
    runs = [
        json.loads(
            CliRunner().invoke(main, ["--episodes", "20", *extra], catch_exceptions=False).output
        )
        for extra in ([], [], ["--disjoint-groups"])
    ]
    assert runs[0]["setting"]["episodes"] == 20
    assert runs[0]["episodes_digest"] == runs[1]["episodes_digest"] != runs[2]["episodes_digest"]
    assert 0 < runs[0]["microseconds_per_episode"] < 20_000


def test_help_lists_every_option() -> None:
    main = runpy.run_path(str(SCRIPT))["main"]
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert all(option.opts[0] in result.output for option in main.params)
