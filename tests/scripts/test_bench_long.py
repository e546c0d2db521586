"""The benchmark of long runs: its figures are those of the samples, and it runs."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fewshot_i2v.data.splits.split_file import load_split

FOLDER = Path(__file__).resolve().parents[2] / "scripts" / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(FOLDER))  # as Python does for a script that is run
    return runpy.run_path(str(FOLDER / "bench_long.py"))


def test_growth_is_that_of_the_second_half(script: dict[str, Any]) -> None:
    sample = script["Sample"]
    rises = [sample(n, 100 + n / 10) for n in range(0, 500, 10)]
    flat = [sample(n, 150 + n / 1024) for n in range(500, 1001, 10)]
    summary = script["summary_of_memory"]([*rises, *flat], 1000)
    assert summary["growth_kib_per_episode"] == 1.0
    assert summary["peak_mib"] == 151.0
    assert summary["mib_at_tenths"][0] == 110.0
    assert summary["mib_at_tenths"][-1] == 151.0


@pytest.mark.usefixtures("script")
def test_quick_benchmarks_have_few_clips_and_others_none_of_them(tmp_path: Path) -> None:
    from _clips import QUICK_CLIPS, choose_split, split_of, work_folder

    with work_folder(quick=True, cache=tmp_path / "shared") as work:
        split = load_split(split_of(work))
        assert {len(split.clips("novel", name)) for name in split.classes("novel")} == {QUICK_CLIPS}
        assert split.subsets.keys() == load_split("motions").subsets.keys()
        assert (work / "cache").resolve() == (tmp_path / "shared").resolve()
        choose_split(work, quick=False)
        assert split_of(work) == "motions"


@pytest.mark.usefixtures("script")
def test_a_process_is_measured(tmp_path: Path) -> None:
    import click
    from _about import measured

    busy = (
        "from time import process_time as t\n"
        "x = bytearray(60 << 20)\n"
        "while t() < 0.3: sum(range(9999))"
    )
    figures = measured([sys.executable, "-S", "-c", busy], repeats=2)
    assert 0.3 <= figures["cpu_seconds"] < 3
    assert figures["seconds"] >= 0.25
    assert 60 < figures["peak_mib"] < 200
    with pytest.raises(click.ClickException, match="failed"):
        measured([sys.executable, "-S", "-c", "raise SystemExit(3)", str(tmp_path)])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="it reads /proc")
def test_a_short_run_is_measured(script: dict[str, Any], tmp_path: Path) -> None:
    record = tmp_path / "long.json"
    done = CliRunner().invoke(
        script["main"], ["--quick", "--json", str(record)], catch_exceptions=False
    )
    result = json.loads(record.read_text(encoding="utf-8"))
    assert json.loads(done.stdout) == result
    assert result["memory"]["peak_mib"] > 100
    assert set(result["seconds_of_an_episode"]) == {"early", "late"}
