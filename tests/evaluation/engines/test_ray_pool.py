"""Workers of a Ray cluster give the records of one process; needs the extra `ray`."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from fewshot_i2v.errors import FewshotError, UsageError
from fewshot_i2v.evaluation import evaluate
from fewshot_i2v.evaluation.engines import ray_pool
from fewshot_i2v.evaluation.engines.jobs import MAX_DEATHS, BatchJob, Outcome
from fewshot_i2v.evaluation.engines.pools import start_workers
from fewshot_i2v.evaluation.row_expansion import load_config
from fewshot_i2v.runs.episode_record import TIMING_KEYS
from fewshot_i2v.runs.run_folder import read_run
from fewshot_i2v.runs.shards import Shard
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


class PlayedRay:
    """What the pool uses of Ray: actors that do nothing; tests say what their jobs give."""

    class exceptions:  # noqa: N801 - Ray's name
        class RayError(Exception):
            """An actor that died."""

    def __init__(self) -> None:
        self.results: dict[object, Any] = {}
        self.references: list[object] = []
        self.killed: list[object] = []
        self.is_initialized = lambda: True
        self.cluster_resources = lambda: {"CPU": 2.0}

    def remote(self, **_needs: int) -> Any:  # noqa: ANN401
        def make(*_arguments: object) -> object:
            def run(*_: object) -> object:
                self.references.append(object())
                return self.references[-1]

            return SimpleNamespace(run=SimpleNamespace(remote=run))

        return lambda _cls: SimpleNamespace(remote=make)

    def wait(
        self, references: list[object], num_returns: int = 1, timeout: float | None = None
    ) -> tuple[list[object], list[object]]:
        assert timeout is not None or any(r in self.results for r in references)
        return [r for r in references if r in self.results][:num_returns], []

    def get(self, reference: object) -> Any:  # noqa: ANN401
        result = self.results[reference]
        if isinstance(result, Exception) and not isinstance(result, FewshotError):
            raise result
        return result

    def kill(self, actor: object) -> None:
        self.killed.append(actor)


def test_actors_are_replaced_left_out_and_withdrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    played = PlayedRay()
    monkeypatch.setattr(ray_pool, "_import_ray", lambda: played)
    pool = ray_pool.RayPool(load_config("quickstart", {}), 2)
    jobs = [BatchJob(0, batch, (batch,)) for batch in range(9)]

    def give(job: BatchJob, result: object) -> None:
        pool.submit(job)
        played.results[played.references[-1]] = result

    give(jobs[0], Outcome(jobs[0], (1.0,)))
    assert pool.wait() == [Outcome(jobs[0], (1.0,))]
    for number in range(1, MAX_DEATHS + 1):
        error = PlayedRay.exceptions.RayError("node died")
        result = error if number % 2 else Outcome(jobs[number], death="ran out of device memory")
        give(jobs[number], result)
        (outcome,) = pool.wait()
        assert (outcome.job, outcome.death is None) == (jobs[number], False)
        assert pool.size == (2 if number < MAX_DEATHS else 1)
    assert len(played.killed) == MAX_DEATHS
    give(jobs[5], UsageError("no such clip"))
    (outcome,) = pool.wait()
    assert (str(outcome.error), outcome.death) == ("no such clip", None)
    pool.submit(jobs[6])
    assert (pool.wait(0.01), pool.idle) == ([], 0)
    assert pool.withdraw(jobs[6]) is None
    assert (pool.size, len(played.killed)) == (0, MAX_DEATHS + 1)
    pool.close()
    pool.close()


@pytest.mark.parametrize(("allowed", "share", "expected"), [(1, 2, 1), (2, 1, 1)])
def test_a_worker_has_its_share_of_threads_and_no_more_than_the_environment_allows(
    allowed: int, share: int, expected: int
) -> None:
    """`OMP_NUM_THREADS=1` gives the records of one thread, whatever the number of workers."""
    before = torch.get_num_threads()
    torch.set_num_threads(allowed)
    try:
        ray_pool._Actor(load_config("quickstart", {}), Shard(1, 1), share)
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)


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
