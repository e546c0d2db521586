"""The peak memory of a row, which is not that of the rows before it in the same process."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.evaluation import evaluate
from fewshot_i2v.evaluation.adapters_ahead import AdapterBuilder
from fewshot_i2v.evaluation.engines.jobs import BatchJob
from fewshot_i2v.evaluation.engines.worker import Worker
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.runs.run_folder import RunFolder, read_run
from fewshot_i2v.runs.shards import Shard
from tests.tiny import tiny_folder, tiny_run

BALLAST_MIB = 256
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the system cannot reset it")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("memory"))


@pytest.fixture(autouse=True)
def _tuned_rows_use_much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tuned rows use memory that goes back to the system at once."""
    run = RowRunner.run

    def run_with_ballast(
        self: RowRunner, episodes: Sequence[Episode], build: AdapterBuilder | None = None
    ) -> list[EpisodeRecord]:
        if self.is_tuned:
            np.ones(BALLAST_MIB << 17)  # of 8 bytes each
        return run(self, episodes, build)

    monkeypatch.setattr(RowRunner, "run", run_with_ballast)


def test_a_row_has_not_the_peak_of_those_before(folder: Path) -> None:
    config = tiny_run(
        folder, folder / "rows", adapter=["bitfit", "frozen"], head="prototype", episodes=2
    )
    tuned, frozen = evaluate.run(config).rows
    assert tuned.peak_memory_mb is not None
    assert frozen.peak_memory_mb is not None
    assert tuned.peak_memory_mb > frozen.peak_memory_mb + BALLAST_MIB / 2


def test_a_row_of_a_worker_has_not_the_peak_of_those_before(folder: Path) -> None:
    config = tiny_run(
        folder, folder / "worker", adapter=["bitfit", "frozen"], head="prototype", episodes=2
    )
    worker = Worker(config, Shard(1, 1), None)
    paths = [config.output_folder / runner.row.slug for runner in worker._runners]
    for path, runner in zip(paths, worker._runners, strict=True):
        facts, identity = runner.header()
        RunFolder.open(path, facts, identity=identity).close()
    try:
        for row in (0, 1):
            worker.run(BatchJob(row, 0, (0, 1)))
    finally:
        worker.close()
    tuned, frozen = (read_run(path).records[0].peak_memory_mb for path in paths)
    assert tuned > frozen + BALLAST_MIB / 2
