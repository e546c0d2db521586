"""Records are written by a thread: in order, completely, whatever ends the run."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.errors import RecordWriteError
from fewshot_i2v.evaluation import evaluate
from fewshot_i2v.evaluation.record_writer import RecordWriter
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.runs.run_folder import RunFolder, read_run
from tests.tiny import tiny_folder, tiny_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("writer"))


def _config(folder: Path, output: Path, **changes: Any) -> EvaluationConfig:
    return tiny_run(folder, output, **{"episodes": 6, "at_once": 2, "head": "prototype"} | changes)


def _indices(output: Path) -> list[int]:
    (row,) = (path.parent for path in output.glob("*/run.json"))
    return list(read_run(row).records)


def _record_named(index: int) -> EpisodeRecord:
    record: Any = index
    return record


def test_records_are_written_in_order_while_the_next_are_made() -> None:
    written: list[int] = []
    may_write = threading.Event()

    def append(records: Sequence[Any]) -> None:
        assert may_write.wait(10)
        written.extend(records)

    with RecordWriter(append) as writer:
        writer.add([_record_named(0), _record_named(1)])
        assert written == []  # the call did not wait
        may_write.set()
        for index in range(2, 50):
            writer.add([_record_named(index)])
            assert len(written) >= index  # and there are never more than two to write
        writer.wait()
        assert written == list(range(50))


def test_after_an_error_nothing_more_is_written() -> None:
    written: list[int] = []

    def append(records: Sequence[Any]) -> None:
        if 1 in records:
            raise RecordWriteError(Path("journal"), OSError(errno.ENOSPC, "No space left"))
        written.extend(records)

    def add_all() -> None:
        with RecordWriter(append) as writer:
            for index in range(4):
                writer.add([_record_named(index)])

    with pytest.raises(RecordWriteError, match="No space left"):
        add_all()
    assert written == [0]


def test_the_last_error_is_raised_at_the_end() -> None:
    def append(_: Sequence[Any]) -> None:
        raise RecordWriteError(Path("journal"), OSError(errno.EIO, "Input/output error"))

    with pytest.raises(RecordWriteError, match="Input/output"), RecordWriter(append) as writer:
        writer.add([_record_named(0)])


def test_a_run_ends_with_the_error_of_its_disk(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter(range(2))
    batches: list[int] = []
    run, sync = RowRunner.run, os.fsync

    def _run(runner: RowRunner, episodes: Sequence[Any], *build: Any) -> list[EpisodeRecord]:
        batches.append(episodes[0].index)
        return run(runner, episodes, *build)

    def _sync(descriptor: int) -> None:
        if threading.current_thread().name.startswith("records") and next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(RowRunner, "run", _run)
    monkeypatch.setattr(os, "fsync", _sync)
    with pytest.raises(RecordWriteError, match="No space left on device"):
        evaluate.run(_config(folder, tmp_path / "out", episodes=12))
    assert _indices(tmp_path / "out") == [0, 1, 2, 3]
    assert len(batches) <= 4  # it ends at the next batch
    monkeypatch.undo()
    assert evaluate.run(_config(folder, tmp_path / "out", episodes=12)).rows[0].complete
    assert _indices(tmp_path / "out") == list(range(12))


def test_what_was_finished_before_an_interruption_is_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, append = RowRunner.run, RunFolder.append
    began_after: list[int] = []

    def _slow_append(run_folder: RunFolder, records: Sequence[EpisodeRecord]) -> None:
        time.sleep(0.2 if records else 0)
        append(run_folder, records)
        began_after.append(-1)

    def _interrupted(runner: RowRunner, episodes: Sequence[Any], *build: Any) -> object:
        began_after.append(episodes[0].index)
        if episodes[0].index == 4:
            raise KeyboardInterrupt
        return run(runner, episodes, *build)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append", _slow_append)
        patch.setattr(RowRunner, "run", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluate.run(_config(folder, tmp_path / "out"))
    assert _indices(tmp_path / "out") == [0, 1, 2, 3]
    # the second batch began before the first was written
    batches = began_after[began_after.index(0) :]
    assert batches.index(2) < batches.index(-1)
    whole = evaluate.run(_config(folder, tmp_path / "whole"))
    again = evaluate.run(_config(folder, tmp_path / "out"))
    assert again.rows[0].accuracies == whole.rows[0].accuracies
