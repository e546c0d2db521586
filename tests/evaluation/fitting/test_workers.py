"""A fit in several processes gives the file of one."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fewshot_i2v.data.splits.builder.labelled_clips import LabelledClips
from fewshot_i2v.errors import ClipDiskError, EngineError, UsageError
from fewshot_i2v.evaluation.engines.jobs import BatchJob, JobWorker, Outcome
from fewshot_i2v.evaluation.fitting import model_fit, workers
from fewshot_i2v.evaluation.fitting.fit import FitResult, run_fit
from fewshot_i2v.evaluation.fitting.workers import FitWorkers, FoldWorker
from fewshot_i2v.runs.shards import Shard
from fewshot_i2v.utils import input_files
from tests.evaluation.fitting.conftest import Material
from tests.runs.test_patience import Clock

HEAD = "prototype:pooling=ordered,center=true"
TUNED: dict[str, Any] = {
    "adapter": ["frozen", "st-adapter", "lora"],
    "head": HEAD,
    "tuning": {"steps": 2, "lr": 0.01, "recipe": "none"},
    "precision": "fp32",
}


class WorkersHere:
    """A pool whose workers are in this process; a batch ends them as often as `deaths` says."""

    made: WorkersHere
    deaths: dict[BatchJob, int]

    def __init__(self, spec: FitWorkers, count: int, *, gpus: Sequence[int] = ()) -> None:
        WorkersHere.made = self
        self.spec: FitWorkers = pickle.loads(pickle.dumps(spec))  # noqa: S301 - as for a process
        self.workers: list[JobWorker] = [self.spec.start(Shard(1, 1), None) for _ in range(count)]
        self.gpus, self.closed, self.done = gpus, False, list[BatchJob]()
        self.waiting: list[BatchJob] = []
        self.dying = False

    @property
    def size(self) -> int:
        return len(self.workers)

    @property
    def idle(self) -> int:
        return self.size - len(self.waiting)

    def submit(self, job: BatchJob) -> None:
        self.waiting.append(job)

    def wait(self, seconds: float | None = None) -> list[Outcome]:
        del seconds
        job = self.waiting.pop()  # the last one is done first
        if self.dying:
            return [Outcome(job, death="ended by SIGKILL")]
        self.done.append(job)
        return [self.workers[len(self.done) % self.size].run(job)]

    def withdraw(self, job: BatchJob) -> Outcome | None:
        raise AssertionError(job)

    def draw(self, episodes: int) -> None:
        raise AssertionError(episodes)

    def close(self) -> None:
        self.closed = True


def saved(result: FitResult, path: Path) -> bytes:
    result.classifier.save(path)
    return path.read_bytes()


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_fit, "ProcessPool", WorkersHere)


@pytest.mark.usefixtures("here")
def test_workers_give_the_file_of_one_process(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = material.keys(folds=3, **TUNED)
    alone = run_fit(material.train, keys)
    predicted_here: list[bool] = []
    predict = workers.predict_batch

    def noted(runner: Any, batch: Any) -> Any:  # noqa: ANN401
        predicted_here.append(runner.is_static)
        return predict(runner, batch)

    monkeypatch.setattr(workers, "predict_batch", noted)
    result = run_fit(material.train, {**keys, "processes": 2})
    assert saved(result, tmp_path / "a.safetensors") == saved(alone, tmp_path / "b.safetensors")
    for one, other in zip(result.tried.candidates, alone.tried.candidates, strict=True):
        assert one.held_out is not None
        assert other.held_out is not None
        assert one.held_out.names == other.held_out.names
        assert (one.held_out.logits == other.held_out.logits).all()
    pool = WorkersHere.made
    # the tuned methods in the workers, and the frozen one here
    assert {job.row for job in pool.done} >= {1, 2}
    assert 0 not in {job.row for job in pool.done}
    assert sum(predicted_here) == len(predicted_here) - len(pool.done) > 0
    assert pool.closed


@pytest.mark.usefixtures("here")
def test_models_without_a_class_are_tuned_by_the_workers(
    material: Material, tmp_path: Path
) -> None:
    tuned = {**TUNED, "adapter": "st-adapter"}
    keys = material.keys(folds=2, **tuned)
    result = run_fit(material.train, {**keys, "processes": 2})
    assert result.description.rejection is not None
    left_out = [job for job in WorkersHere.made.done if job.pending[0] > 2]
    assert len(left_out) == len(material.classes)
    alone = run_fit(material.train, keys)
    assert saved(result, tmp_path / "a.safetensors") == saved(alone, tmp_path / "b.safetensors")


@pytest.mark.usefixtures("here")
def test_workers_that_end_again_and_again_end_the_fit(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    init = WorkersHere.__init__

    def dying(self: WorkersHere, *arguments: Any, **more: Any) -> None:
        init(self, *arguments, **more)
        self.dying = True

    monkeypatch.setattr(WorkersHere, "__init__", dying)
    keys = material.keys(folds=2, **{**TUNED, "adapter": "lora"}, processes=1)
    with pytest.raises(EngineError, match=r"a worker ended by SIGKILL.* without --processes"):
        run_fit(material.train, keys)
    assert WorkersHere.made.closed


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("value", [0, "two"])
def test_other_numbers_of_processes_are_refused(material: Material, value: object) -> None:
    with pytest.raises(UsageError, match=f"processes: got {value!r}; expected a number of 1"):
        run_fit(material.train, material.keys(processes=value))


def test_workers_get_a_gpu_of_their_own() -> None:
    spec = FitWorkers(LabelledClips.__new__(LabelledClips), {"folds": 2})
    assert spec.on_device("cuda:1").settings == {"folds": 2, "device": "cuda:1"}


@pytest.mark.slow
def test_processes_give_the_file_of_one_process(material: Material, tmp_path: Path) -> None:
    keys = material.keys(folds=3, **TUNED)
    alone = run_fit(material.train, keys)
    result = run_fit(material.train, {**keys, "processes": 2})
    assert saved(result, tmp_path / "a.safetensors") == saved(alone, tmp_path / "b.safetensors")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("processes", [None, 2])
def test_a_fit_in_several_processes_waits_for_the_disk_of_its_clips(
    material: Material,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    processes: int | None,
) -> None:
    """Its main process and its workers; a fit in one process stops at once."""
    keys = material.keys(folds=3, **TUNED, processes=processes)
    alone = saved(run_fit(material.train, keys), tmp_path / "a.safetensors")
    clock, real, away = Clock(monkeypatch), input_files.check_regular_file, [0.0, 60.0]

    def check(path: str | Path) -> os.stat_result:
        # once for the main process, and once for a worker
        if Path(path).suffix == ".mp4" and any(time <= clock.now < time + 3 for time in away):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return real(path)

    run = FoldWorker.run

    def run_later(self: FoldWorker, job: BatchJob) -> Outcome:
        clock.now = max(clock.now, 60.0)
        return run(self, job)

    monkeypatch.setattr(input_files, "check_regular_file", check)
    monkeypatch.setattr(FoldWorker, "run", run_later)
    if processes is None:
        with pytest.raises(ClipDiskError):
            run_fit(material.train, keys)
        assert not clock.sleeps
        return
    assert saved(run_fit(material.train, keys), tmp_path / "b.safetensors") == alone
    assert clock.sleeps == [1, 2, 1, 2]
