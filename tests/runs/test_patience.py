"""A shared disk that is full, read-only or away for a while: shards wait, and lose nothing."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fewshot_i2v.errors import RecordError, RecordWriteError
from fewshot_i2v.runs.run_folder import read_run
from fewshot_i2v.utils import patience
from fewshot_i2v.utils.patience import WAIT_SECONDS, Patience
from tests.runs.record_samples import record
from tests.runs.test_shards import opened


class Clock:
    """Time that passes while the process sleeps; `at` runs when it has come."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.sleeps, self.at = 0.0, list[float](), dict[float, Callable[[], object]]()
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds
        for moment in [moment for moment in self.at if moment <= self.now]:
            self.at.pop(moment)()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def refusing(
    monkeypatch: pytest.MonkeyPatch, code: int, *, bytes_first: int = 0
) -> Callable[[], None]:
    """Lets the disk refuse to write, after some bytes; returns what ends that."""
    real = {name: getattr(os, name) for name in ("write", "ftruncate")}
    room = bytes_first

    def write(descriptor: int, data: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(code, os.strerror(code))
        written: int = real["write"](descriptor, bytes(data)[:room])
        room -= written
        return written

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(os, "ftruncate", refuse)  # a torn line stays there

    def end() -> None:
        for name, function in real.items():
            monkeypatch.setattr(os, name, function)

    return end


@pytest.mark.parametrize("code", ["ENOSPC", "EDQUOT", "EROFS", "ESTALE", "EIO"])
@pytest.mark.parametrize("bytes_first", [0, 100])
def test_a_shard_waits_for_its_disk(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    code: str,
    bytes_first: int,
) -> None:
    with opened(tmp_path, "1/2") as run:
        run.append([record(0)])
        clock.at[60.0] = refusing(monkeypatch, getattr(errno, code), bytes_first=bytes_first)
        run.append([record(2), record(4)])
    assert 60 <= clock.now < 95
    assert clock.sleeps[:5] == [1, 2, 4, 8, 16]
    first, last = caplog.messages  # once, whatever the number of attempts
    assert "episodes-1-of-2.jsonl" in first
    assert "trying again for 300 s" in first
    assert f"episodes-1-of-2.jsonl: goes on after {clock.now:.0f} s" in last
    data = read_run(tmp_path)
    assert data.records == {i: record(i) for i in (0, 2, 4)}
    assert len((tmp_path / "episodes-1-of-2.jsonl").read_bytes().splitlines()) == 3


def test_readers_see_complete_lines_alone_while_a_shard_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    with opened(tmp_path, "1/2") as run, opened(tmp_path, "2/2") as other:
        run.append([record(0)])
        end = refusing(monkeypatch, errno.ENOSPC, bytes_first=100)

        def look() -> None:
            end()
            assert list(read_run(tmp_path).records) == [0]
            other.append([record(1)])  # another machine has room

        clock.at[1.0] = look
        run.append([record(2)])
    assert list(read_run(tmp_path).records) == [0, 1, 2]


def test_after_five_minutes_the_shard_ends_and_can_be_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    with opened(tmp_path, "1/2") as run:
        run.append([record(0)])
        end = refusing(monkeypatch, errno.ENOSPC, bytes_first=50)
        with pytest.raises(RecordWriteError, match="No space left") as raised:
            run.append([record(2)])
        end()
    assert raised.value.exit_code == 1
    assert clock.now == WAIT_SECONDS
    assert list(read_run(tmp_path).records) == [0]
    with opened(tmp_path, "1/2") as run:
        run.append([record(2)])
    assert read_run(tmp_path).records == {0: record(0), 2: record(2)}


def test_a_folder_that_disappears_and_comes_back_is_written_to_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    folder, away = tmp_path / "run", tmp_path / "away"
    with opened(folder, "1/2") as run:
        run.append([record(0)])
        end = refusing(monkeypatch, errno.ESTALE)
        folder.rename(away)
        folder.mkdir()  # where nothing is mounted

        def come_back() -> None:
            end()
            assert not list(folder.iterdir())  # no second file was begun there
            folder.rmdir()
            away.rename(folder)

        clock.at[60.0] = come_back
        run.append([record(2)])
    assert read_run(folder).records == {0: record(0), 2: record(2)}


def test_a_file_that_another_process_wrote_to_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    path = tmp_path / "episodes-1-of-2.jsonl"
    with opened(tmp_path, "1/2") as run:
        run.append([record(0)])
        end = refusing(monkeypatch, errno.EIO)

        def meddle() -> None:
            end()
            with path.open("ab") as file:
                file.write(b"another line\n")

        clock.at[1.0] = meddle
        with pytest.raises(RecordError, match="another process writes to it too"):
            run.append([record(2)])
    assert path.read_bytes().endswith(b"another line\n")


def test_the_files_beside_the_records_wait_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    with opened(tmp_path, "1/2") as run:
        clock.at[3.0] = refusing(monkeypatch, errno.EROFS)
        run.record_clips({"a.mp4": "0" * 16})
        clock.at[6.0] = refusing(monkeypatch, errno.EROFS)
        run.write_summary({"mean": 0.5})
    assert {p.name for p in tmp_path.iterdir()} >= {"shard-1-of-2.json", "summary.json"}
    assert clock.now >= 6


def test_a_process_alone_and_other_errors_do_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    with opened(tmp_path, None) as run:
        end = refusing(monkeypatch, errno.ENOSPC)
        with pytest.raises(RecordWriteError):
            run.append([record(0)])
        end()

    def refuse() -> Any:  # noqa: ANN401
        raise PermissionError(errno.EACCES, "no")

    with pytest.raises(PermissionError):
        Patience(300).run(tmp_path, refuse)
    assert not clock.sleeps
    assert patience._MAX_PAUSE < WAIT_SECONDS
