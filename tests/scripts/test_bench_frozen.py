"""The benchmark of frozen episodes: its parts add up, and seen clips give the same records."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from time import process_time

import click
import pytest
from click.testing import CliRunner

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "benchmarks" / "bench_frozen.py"


@pytest.fixture(autouse=True)
def _beside_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python does for a script that is run."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))


class _Work:
    def compute(self, seconds: float) -> float:
        end = process_time() + seconds
        while process_time() < end:
            pass
        return seconds


def test_seconds_are_those_of_the_functions() -> None:
    timed = runpy.run_path(str(SCRIPT))["timed"]
    original = _Work.compute
    with timed({"work": [(_Work, "compute")], "nothing": []}) as seconds:
        assert [_Work().compute(0.02) for _ in range(2)] == [0.02, 0.02]
    assert 0.04 <= seconds["work"] < 0.4
    assert _Work.compute is original


def test_the_functions_that_are_timed_exist() -> None:
    parts = runpy.run_path(str(SCRIPT))["timed_functions"]()
    for functions in parts.values():
        assert all(callable(getattr(owner, name)) for owner, name in functions)


def test_a_part_whose_functions_were_not_called_is_refused() -> None:
    script = runpy.run_path(str(SCRIPT))
    with script["timed"]({"work": [(_Work, "compute")], "nothing": []}) as seconds:
        _Work().compute(0.01)
    script["refuse_idle_parts"]({"work": seconds["work"]})
    with pytest.raises(click.ClickException, match="no time was measured for nothing:"):
        script["refuse_idle_parts"]({part: seconds[part] for part in ("work", "nothing")})


@pytest.mark.slow
def test_seen_clips_give_the_same_records(tmp_path: Path) -> None:
    main = runpy.run_path(str(SCRIPT))["main"]
    record = tmp_path / "results" / "frozen.json"
    flags = ["--work", str(tmp_path), "--quick", "--json", str(record)]
    done = CliRunner().invoke(main, flags, catch_exceptions=False)
    result = json.loads(done.output)
    assert result == json.loads(record.read_text(encoding="utf-8"))
    assert result["equal_records"] is True
    assert result["cached_clips"] > 0
    assert result["seen_clips"]["cpu_seconds"] < result["new_clips"]["cpu_seconds"]
