"""Workers of a Ray cluster give the records of one process; needs the extra `ray`."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fewshot_i2v.errors import UsageError
from fewshot_i2v.evaluation import evaluate
from fewshot_i2v.evaluation.engines import ray_pool
from fewshot_i2v.evaluation.engines.pools import start_workers
from fewshot_i2v.runs.episode_record import TIMING_KEYS
from fewshot_i2v.runs.run_folder import read_run
from tests.tiny import tiny_folder, tiny_run


@pytest.fixture(scope="module")
def ray() -> ModuleType:
    module: ModuleType = pytest.importorskip("ray", reason="needs the extra ray")
    return module


def records(folder: Path) -> dict[int, Any]:
    return {
        index: {k: v for k, v in record.to_dict().items() if k not in TIMING_KEYS}
        for index, record in read_run(folder).records.items()
    }


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'fewshot-i2v\[ray\]'"):
        ray_pool._import_ray()


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_killed_actors_lose_and_double_nothing(tmp_path: Path) -> None:
    tiny_folder(tmp_path)
    settings: dict[str, Any] = {
        "adapter": "st-adapter",
        "head": "prototype",
        "episodes": 40,
        "at_once": 2,
        "tuning": {"steps": 20, "recipe": "none"},
    }
    (row,) = evaluate.run(tiny_run(tmp_path, tmp_path / "plain", **settings)).rows
    config = tiny_run(tmp_path, tmp_path / "ray", **settings)
    folder = config.output_folder / row.folder.name
    killed: list[int] = []

    def kill_some() -> None:
        while len(killed) < 2:
            time.sleep(0.2)
            for lock in folder.glob("running-*-of-2"):
                pid = int(lock.read_text().split('"pid": ')[1].split(",")[0])
                if pid not in killed and len(list(folder.glob("episodes-*.jsonl"))) == 2:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    killer = threading.Thread(target=kill_some, daemon=True)
    killer.start()
    result = evaluate.run(config, pool=start_workers("ray", config, processes=2, address="local"))
    assert killed
    assert result.failed == 0
    assert records(folder) == records(row.folder)
