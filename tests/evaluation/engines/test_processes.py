"""Worker processes give the records of one process, also when they are killed."""

from __future__ import annotations

import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.errors import RecordError, TooManyFailuresError
from fewshot_i2v.evaluation import evaluate, identity
from fewshot_i2v.evaluation.engines.jobs import BatchJob, Outcome
from fewshot_i2v.evaluation.engines.pools import start_workers
from fewshot_i2v.evaluation.engines.worker import Worker
from fewshot_i2v.evaluation.results import EvaluationResult
from fewshot_i2v.evaluation.row_execution import EpisodeSelection
from fewshot_i2v.runs.episode_record import TIMING_KEYS
from fewshot_i2v.runs.run_folder import RunFolder, read_run
from fewshot_i2v.runs.shards import Shard
from fewshot_i2v.statistics.sequential_stopping import PILOT_EPISODES
from tests.tiny import tiny_architecture, tiny_run, tiny_split

# in each worker, before the product is imported there: an episode kills its process as often as
# the number in a file of its name says
_KILLER = """
    import os, signal, sys
    from pathlib import Path

    folder = os.environ.get("KILL_FOLDER")
    if folder and "--multiprocessing-fork" in sys.orig_argv:
        from fewshot_i2v.errors import DeviceMemoryError
        from fewshot_i2v.evaluation import context
        from fewshot_i2v.evaluation.row_runner import RowRunner

        context.macs_per_clip = lambda *_, **__: None  # what counts is slow to import
        run = RowRunner.run

        def run_or_die(self, episodes, *build):
            for episode in episodes:
                path = Path(folder) / str(episode.index)
                left, kind = (path.read_text() + " kill").split()[:2] if path.exists() else "0-"
                if int(left):
                    path.write_text(f"{int(left) - 1} {kind}")
                    if kind == "kill":
                        os.kill(os.getpid(), signal.SIGKILL)
                    path.with_suffix(".pid").write_text(str(os.getpid()))
                    error = {"RuntimeError": RuntimeError, "DeviceMemoryError": DeviceMemoryError}
                    raise error[kind](kind)
            return run(self, episodes, *build)

        RowRunner.run = run_or_die
"""


class Runs:
    """Runs of one evaluation of two rows, of two episodes side by side."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tiny_split(folder)
        tiny_architecture(folder)
        self.reference = self.records(evaluate.run(self.config("reference")))

    def config(self, name: str, **changes: Any) -> EvaluationConfig:
        settings = {
            "adapter": ["frozen", "st-adapter"],
            "head": "prototype",
            "query": 2,
            **({} if "until" in changes else {"episodes": 6}),
            "at_once": 2,
            "tuning": {"steps": 2, "recipe": "none"},
            **changes,
        }
        return tiny_run(self.folder, self.folder / "runs" / name, **settings)

    @staticmethod
    def records(result: EvaluationResult) -> list[dict[int, Any]]:
        return [
            {
                index: {k: v for k, v in record.to_dict().items() if k not in TIMING_KEYS}
                for index, record in read_run(row.folder).records.items()
            }
            for row in result.rows
        ]


class PoolOfThisProcess:
    """A worker in this process; an episode may end it."""

    def __init__(self, config: EvaluationConfig, *, poison: int | None = None) -> None:
        self._worker = Worker(config, Shard(1, 1), None)
        self._poison, self._job, self.deaths = poison, None, 0
        self.size = 1

    @property
    def idle(self) -> int:
        return self._job is None

    def submit(self, job: BatchJob) -> None:
        self._job = job

    def wait(self, seconds: float | None = None) -> list[Outcome]:
        del seconds
        job, self._job = self._job, None
        assert job is not None
        size = self._worker.context.config.at_once
        episodes = job.pending if job.alone else range(job.batch * size, (job.batch + 1) * size)
        if self._poison in episodes:
            self.deaths += 1
            return [Outcome(job, death="ended by SIGKILL")]
        return [self._worker.run(job)]

    def withdraw(self, job: BatchJob) -> Outcome | None:
        raise AssertionError(job)

    def draw(self, episodes: int) -> None:
        self._worker.draw(episodes)

    def close(self) -> None:
        self._worker.close()


def begin_run(worker: Worker) -> None:
    """Makes the folder of the first row, as the main process does before workers get jobs."""
    runner = worker._runners[0]
    facts, identity = runner.header()
    path = worker.config.output_folder / runner.row.slug
    RunFolder.open(path, facts, identity=identity).close()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("engines"))


@pytest.fixture
def kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for files that say how often an episode kills its worker."""
    (tmp_path / "sitecustomize.py").write_text(dedent(_KILLER), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("KILL_FOLDER", str(tmp_path / "kills"))
    (tmp_path / "kills").mkdir()
    return tmp_path / "kills"


def test_workers_that_are_killed_lose_and_double_nothing(runs: Runs, kills: Path) -> None:
    (kills / "3").write_text("1")
    # rows without an optimiser, which takes each worker long to import
    rows = {"adapter": "frozen", "head": ["prototype", "nearest"]}
    config = runs.config("killed", **rows)
    result = evaluate.run(config, pool=start_workers("processes", config, processes=2))
    assert runs.records(result) == runs.records(evaluate.run(runs.config("alone", **rows)))
    assert result.failed == 0
    assert all(row.complete for row in result.rows)
    journals = list((result.rows[1].folder).glob("episodes-*-of-2.jsonl"))
    lines = [line for journal in journals for line in journal.read_bytes().splitlines()]
    assert len(lines) == 6  # in the files of the workers, each once
    assert {path.read_text() for path in kills.iterdir()} == {"0 kill"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["RuntimeError", "DeviceMemoryError"])
def test_a_worker_whose_device_fails_is_replaced(runs: Runs, kills: Path, kind: str) -> None:
    for index in (1, 3):
        (kills / str(index)).write_text(f"1 {kind}")
    config = runs.config(f"device-{kind}", adapter="st-adapter")
    result = evaluate.run(config, pool=start_workers("processes", config, processes=2))
    assert runs.records(result) == runs.reference[1:]
    assert result.failed == 0
    pids = [int(path.read_text()) for path in kills.glob("*.pid")]
    assert len(set(pids)) == 2  # a process of its own for each: none was used again


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_a_kill_in_every_episode_loses_and_doubles_nothing(
    runs: Runs, kills: Path, count: int
) -> None:
    for index in range(6):
        (kills / str(index)).write_text("1")
    config = runs.config(f"kills{count}")
    for _ in range(2):  # the second one continues with another number of workers
        result = evaluate.run(config, pool=start_workers("processes", config, processes=count))
        count = 4 - count
    assert runs.records(result) == runs.reference


def test_an_episode_that_ends_every_worker_is_recorded_once(runs: Runs) -> None:
    config = runs.config("poison", adapter="st-adapter", max_failed=1)
    pool = PoolOfThisProcess(config, poison=3)
    result = evaluate.run(config, pool=pool)
    (records,) = runs.records(result)
    assert result.failed == 1
    assert records[3]["error"]["reason"] == (
        "its worker ended by SIGKILL, and so did those of two other attempts"
    )
    del records[3]
    assert records.keys() == {0, 1, 2, 4, 5}
    for index, record in records.items():
        assert record["predictions"] == runs.reference[1][index]["predictions"]
    assert pool.deaths == 6  # three times with its neighbour, and three times alone
    with pytest.raises(TooManyFailuresError, match="1 episode of"):
        evaluate.run(config.model_copy(update={"max_failed": 0}))


def test_workers_draw_further_episodes_for_a_width(runs: Runs) -> None:
    settings = {"adapter": "frozen", "until": 5, "max_episodes": 60, "at_once": 10}
    config = runs.config("until", **settings)
    result = evaluate.run(config, pool=PoolOfThisProcess(config))
    plain = evaluate.run(runs.config("until-plain", **settings))
    assert runs.records(result) == runs.records(plain)
    assert result.stopped == plain.stopped
    assert len(runs.records(plain)[0]) > PILOT_EPISODES


def test_training_seeds_are_rows_of_the_same_workers(runs: Runs) -> None:
    settings = {"adapter": "st-adapter", "training_seeds": [0, 1], "episodes": 2}
    config = runs.config("seeds", **settings)
    result = evaluate.run(config, pool=PoolOfThisProcess(config))
    assert len(result.rows) == 2
    plain = evaluate.run(runs.config("seeds-plain", **settings))
    assert runs.records(result) == runs.records(plain)
    assert runs.records(result)[0] != runs.records(result)[1]
    assert all(list(row.folder.glob("episodes-*-of-1.jsonl")) for row in result.rows)


def test_shards_of_any_number_give_the_records_of_one_process(runs: Runs) -> None:
    config = runs.config("shards")
    first = evaluate.run(config, selection=EpisodeSelection(Shard(1, 3)))
    assert [row.missing for row in first.rows] == [4, 4]
    second = evaluate.run(config, selection=EpisodeSelection(Shard(2, 2)))  # another number now
    assert sum(row.missing for row in second.rows) < 8
    assert "INCOMPLETE" in second.table()
    for number in (1, 2):
        last = evaluate.run(config, selection=EpisodeSelection(Shard(number, 2)))
    assert runs.records(last) == runs.reference
    assert "INCOMPLETE" not in last.table()


@pytest.mark.parametrize("hours", [-1, 1])
def test_hosts_whose_clocks_differ_give_the_same_run(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    config = runs.config(f"clocks{hours}")
    evaluate.run(config, selection=EpisodeSelection(Shard(1, 2)))
    real = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: real[0]() + 3600 * hours)
    monkeypatch.setattr(time, "time_ns", lambda: real[1]() + 3600 * hours * 10**9)
    result = evaluate.run(config, selection=EpisodeSelection(Shard(2, 2)))
    assert runs.records(result) == runs.reference
    assert all(row.complete for row in result.rows)
    assert runs.records(evaluate.run(config)) == runs.reference


@pytest.mark.parametrize("name", ["fewshot_i2v", "torch"])
def test_a_worker_with_another_version_is_refused(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    config = runs.config(f"version-{name}")
    evaluate.run(config, selection=EpisodeSelection(Shard(1, 2)))
    versions = identity.package_versions()
    monkeypatch.setattr(identity, "package_versions", lambda: {**versions, name: "9.9"})
    worker = Worker(config, Shard(2, 2), None)
    with pytest.raises(RecordError, match=f'versions.{name}: .* in the folder, "9.9" requested'):
        worker.run(BatchJob(0, 1, (2, 3)))
    worker.close()
    assert not list(config.output_folder.rglob("episodes-2-of-2.jsonl"))


def test_a_range_of_episodes_is_a_part_of_the_run(runs: Runs) -> None:
    config = runs.config("range")
    part = evaluate.run(config, selection=EpisodeSelection(first=3))
    assert [row.missing for row in part.rows] == [3, 3]
    assert runs.records(evaluate.run(config)) == runs.reference


def test_a_retried_job_runs_only_what_another_worker_has_not_recorded(runs: Runs) -> None:
    config = runs.config("retried", adapter="st-adapter")
    first, second = Worker(config, Shard(1, 2), None), Worker(config, Shard(2, 2), None)
    begin_run(first)
    try:
        second.run(BatchJob(0, 1, (2, 3)))  # both have looked at the folder
        first.run(BatchJob(0, 0, (0,)))
        outcome = second.run(BatchJob(0, 0, (0, 1), is_retried=True))
        assert len(outcome.accuracies) == 1
        assert second.run(BatchJob(0, 0, (0, 1), is_retried=True)).accuracies == ()
    finally:
        first.close()
        second.close()
    (folder,) = (path.parent for path in config.output_folder.rglob("run.json"))
    lines = {path.name: path.read_bytes().count(b"\n") for path in folder.glob("episodes-*")}
    assert lines == {"episodes-1-of-2.jsonl": 1, "episodes-2-of-2.jsonl": 3}
    data = read_run(folder)
    assert (sorted(data.records), data.records.repeated) == ([0, 1, 2, 3], 0)
    for index, record in data.records.items():
        assert record.predictions == runs.reference[1][index]["predictions"]


def test_a_clip_that_changes_before_its_worker_reads_it_is_refused(runs: Runs) -> None:
    config = runs.config("changed")
    worker = Worker(config, Shard(1, 1), None)
    runner = worker._runners[0]
    path = config.output_folder / runner.row.slug
    facts, identity = runner.header()
    episode = runner.episodes[0]
    with RunFolder.open(path, facts, identity=identity) as folder:
        folder.record_clips({episode.query_clips[0]: "0" * 16})
    try:
        with pytest.raises(RecordError, match="not what they were when the run began"):
            worker.run(BatchJob(0, 0, (0,)))
    finally:
        worker.close()
    assert not read_run(path).records
