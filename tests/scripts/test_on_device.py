"""The script for a GPU that is lent for minutes: its stages, its budget, and its smoke run."""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from fewshot_i2v import registry
from tests.pretended_cuda import pretended_cuda

BENCHMARKS = Path(__file__).resolve().parents[2] / "scripts" / "benchmarks"


@pytest.fixture(autouse=True)
def _beside_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python does for a script that is run."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def script(name: str) -> dict[str, Any]:
    return runpy.run_path(str(BENCHMARKS / f"{name}.py"))


@pytest.fixture
def on_device() -> dict[str, Any]:
    return script("on_device")


def test_the_smoke_run_runs_on_a_pretended_device(tmp_path: Path) -> None:
    smoke = script("smoke")
    names = ["adapter st-adapter", "head logistic", "training step", "fit and predict"]
    with pretended_cuda() as log:
        rows = list(smoke["run_checks"](tmp_path, "cuda", names))
    assert [(row["check"], row["status"]) for row in rows] == [(name, "ok") for name in names]
    assert not log.faults
    assert log.waits, "it ran on the device"
    # attention has another kernel there, so a result of the CPU would be no different at all
    assert 0 < max(row["largest_difference"] for row in rows) < smoke["LARGEST_DIFFERENCE"]


@pytest.mark.slow
def test_every_check_runs_on_a_pretended_device(tmp_path: Path) -> None:
    smoke = script("smoke")
    with pretended_cuda() as log:
        rows = list(smoke["run_checks"](tmp_path, "cuda", list(smoke["checks"]())))
    assert {row["status"] for row in rows} == {"ok"}
    assert not log.faults


def test_the_smoke_run_has_every_adapter_and_head() -> None:
    names = script("smoke")["checks"]()
    for kind in ("adapters", "heads"):
        expected = {f"{kind.removesuffix('s')} {name}" for name in registry.method_names(kind)}
        assert expected <= names.keys()


def test_a_check_that_fails_or_differs_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smoke = script("smoke")

    def _fails(*_: object) -> np.ndarray:
        raise ValueError("out of luck")

    def _differs(_work: Path, device: str, _precision: str) -> np.ndarray:
        return np.full((1, 2), 0.5 if device == "cpu" else 0.6)

    def _is_nan(*_: object) -> np.ndarray:
        return np.full((1, 2), np.nan)

    def _agrees(*_: object) -> np.ndarray:
        return np.full((1, 2), 0.5)

    found = {"fails": _fails, "differs": _differs, "nan": _is_nan, "agrees": _agrees}
    monkeypatch.setitem(smoke["run_checks"].__globals__, "checks", lambda: found)
    with pretended_cuda():
        rows = list(smoke["run_checks"](tmp_path, "cuda", list(found)))
    assert [row["status"] for row in rows] == ["failed", "differs", "not finite", "ok"]
    assert "out of luck" in rows[0]["error"][-1]
    assert rows[0]["stage"] == "cuda, default precision"

    def _dead(_device: object) -> None:
        raise RuntimeError("device-side assert triggered")

    monkeypatch.setitem(smoke["run_checks"].__globals__, "synchronize", _dead)
    rows = list(smoke["run_checks"](tmp_path, "cuda", ["fails", "agrees"]))
    assert [row["status"] for row in rows] == ["failed", "not run"]


def is_running(pid: int) -> bool:
    """Whether a process computes; one that has ended stays until its parent has asked for it."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (ProcessLookupError, FileNotFoundError):
            return False
        if state == "Z":
            return False
        sleep(0.05)
    return True


def run_stages(on_device: dict[str, Any], out: Path, names: list[str], minutes: float) -> Any:  # noqa: ANN401
    out.mkdir()
    return on_device["run_stages"](
        names, "cpu", minutes, quick=True, out=out, facts={"device": "x"}
    )


def test_a_stage_that_fails_or_hangs_does_not_stop_the_others(
    on_device: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = tmp_path / "child"
    programs = {
        "smoke": "raise SystemExit('no such kernel')",
        "tuning": (
            "import subprocess, sys, time\n"
            "pause = 'import time; time.sleep(60)'\n"
            "child = subprocess.Popen([sys.executable, '-S', '-c', pause])\n"
            f"open({str(child)!r}, 'w').write(str(child.pid))\n"
            "print('begun', flush=True)\ntime.sleep(60)"
        ),
        "profile": f"open({str(tmp_path / 'out' / 'profile.json')!r}, 'w').write('1')",
    }
    names = on_device["run_stages"].__globals__
    monkeypatch.setitem(
        names,
        "command_of",
        lambda stage, *_: [sys.executable, "-S", "-c", programs[stage.name]],
    )
    stages = [names["Stage"](name, 2.0, "x.py") for name in programs]
    monkeypatch.setitem(names, "STAGES", stages)
    monkeypatch.setitem(names, "LEAST_SECONDS", 0.1)
    start = perf_counter()
    rows = run_stages(on_device, tmp_path / "out", list(programs), 1.0)
    assert perf_counter() - start < 30
    assert [row["status"] for row in rows] == ["failed", "out of time", "ok"]
    assert rows[0]["error"] == ["no such kernel"]
    assert rows[1]["error"] == ["begun"]
    assert not is_running(int(child.read_text()))
    assert (tmp_path / "out" / "profile.json").exists()
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary == {"about": {"device": "x"}, "stages": rows}


def test_no_stage_begins_without_time(on_device: dict[str, Any], tmp_path: Path) -> None:
    rows = run_stages(on_device, tmp_path / "out", ["smoke", "tuning"], 0.0)
    assert [row["status"] for row in rows] == ["not run", "not run"]


def test_the_tests_are_counted(on_device: dict[str, Any], tmp_path: Path) -> None:
    report = tmp_path / "tests.xml"
    assert "error" in on_device["test_results"](report)
    report.write_text(
        '<testsuites><testsuite><testcase classname="tests.a" name="one"/>'
        '<testcase classname="tests.a" name="two"><failure message="no"/></testcase>'
        '<testcase classname="tests.a" name="three"><skipped/></testcase></testsuite></testsuites>',
        encoding="utf-8",
    )
    expected = {"passed": 1, "failed": 1, "skipped": 1, "failures": ["tests.a::two"]}
    assert on_device["test_results"](report) == expected


def test_its_commands_are_those_that_the_programs_know(on_device: dict[str, Any]) -> None:
    """Each stage begins with one of its options wrong at the end, so that all others are parsed."""
    for stage in on_device["STAGES"]:
        for quick in (False, True):
            command = on_device["command_of"](stage, "cpu", quick, Path("out"), Path("work"))
            if stage.program is None:
                assert "tests/tuning/test_finetune.py" in command
                continue
            main = script(stage.program.removesuffix(".py"))["main"]
            result = CliRunner().invoke(main, [*command[2:], "--no-such-option"])
            assert "No such option" in result.output
            assert "--no-such-option" in result.output


def test_without_a_gpu_it_says_so(on_device: dict[str, Any], tmp_path: Path) -> None:
    result = CliRunner().invoke(on_device["main"], ["--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "--device cpu --quick" in result.output
    assert not (tmp_path / "out").exists()


def test_trimmed_benchmarks_fit_into_ten_minutes_and_the_defaults_do_not() -> None:
    plan, tuning, every = script("_device_plan"), script("bench_tuning"), script("bench_all")
    seconds = plan["reckoned_seconds"]()
    assert set(every["NAMES"]) < seconds.keys() == plan["TRIMMED"].keys()
    assert sum(seconds[name] for name in every["NAMES"]) < 600
    # the reckoned episode is the one that count_step.py counts, and what is left out of it
    assert plan["episode_tflop"]() == pytest.approx(101.9, rel=0.05)
    options = {option.name: option.default for option in tuning["main"].params}
    default = plan["tuning_seconds"](
        len(options["adapter"]), options["precision"], options["at_once"], options["rounds"]
    )
    assert default > 1200


def test_the_stages_fit_into_their_limits_and_into_the_budget(on_device: dict[str, Any]) -> None:
    seconds = {"smoke": 60.0, "tests": 45.0, **script("_device_plan")["reckoned_seconds"]()}
    for stage in on_device["STAGES"]:
        assert seconds[stage.name] < stage.limit
    options = {option.name: option.default for option in on_device["main"].params}
    assert sum(seconds[stage.name] for stage in on_device["STAGES"]) < 60 * options["minutes"]
    assert [stage.name for stage in on_device["STAGES"]][:2] == ["smoke", "tests"]
