"""Starting the same run twice."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fewshot_i2v.errors import RecordError, RecordWriteError
from fewshot_i2v.runs import lock
from fewshot_i2v.runs.lock import RunLock
from tests.runs.record_samples import filled, opened, record

CHILD = """
import sys
from pathlib import Path
from tests.runs.record_samples import opened, record
with opened(Path(sys.argv[1])) as run:
    run.append([record(0)])
    print("held", flush=True)
    sys.stdin.read()
"""


def write_marker(folder: Path, **owner: object) -> bytes:
    folder.mkdir(exist_ok=True)
    own = {"host": socket.gethostname(), "pid": os.getpid(), "started": None, "since": "then"}
    content = json.dumps({**own, **owner}).encode()
    (folder / "running").write_bytes(content)
    return content


def dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    return child.pid


def test_a_second_process_is_refused_and_a_killed_one_replaced(tmp_path: Path) -> None:
    paths = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        start = time.monotonic()
        with pytest.raises(RecordError) as caught:
            opened(tmp_path)
        assert time.monotonic() - start < 30
        message = str(caught.value)
        assert f"process {child.pid} on host {socket.gethostname()!r}" in message
        assert f"delete {tmp_path / 'running'}" in message
        assert caught.value.exit_code == 2
        child.kill()
    with opened(tmp_path) as run:
        assert run.records == {0: record(0)}
    assert {p.name for p in tmp_path.iterdir()} == {"run.json", "episodes.jsonl"}


def test_opening_twice_in_one_process_is_refused_until_the_first_is_closed(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(RecordError, match=f"process {os.getpid()}"):
        opened(tmp_path)
    opened(tmp_path).close()


def test_a_marker_of_another_host_is_never_taken_over(tmp_path: Path) -> None:
    content = write_marker(tmp_path, host="elsewhere", pid=dead_process())
    os.utime(tmp_path / "running", (0, 0))
    with pytest.raises(RecordError, match=r"on host 'elsewhere'.*delete .*running"):
        opened(tmp_path)
    assert (tmp_path / "running").read_bytes() == content


def test_a_requeued_slurm_job_replaces_its_earlier_marker_of_another_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setattr(socket, "gethostname", lambda: "node-1")
    first = RunLock(tmp_path)
    monkeypatch.setattr(socket, "gethostname", lambda: "node-2")
    # another process of the same run of the job may live
    with pytest.raises(RecordError, match="on host 'node-1'"):
        RunLock(tmp_path)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    monkeypatch.setenv("SLURM_JOB_ID", "78")
    with pytest.raises(RecordError, match="on host 'node-1'"):
        RunLock(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    second = RunLock(tmp_path)
    first.release()  # it is not its own any more
    assert [path.name for path in tmp_path.iterdir()] == ["running"]
    second.release()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("hours", [-1, 1])
def test_clocks_of_hosts_decide_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """An empty marker that is being written is not taken for one that a kill left."""
    (tmp_path / "running").touch()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600 * hours)
    monkeypatch.setattr(lock, "_PATIENCE_SECONDS", 0.05)
    with pytest.raises(RecordError, match="in use by another process"):
        RunLock(tmp_path)
    os.utime(tmp_path / "running", (real() - 100, real() - 100))
    RunLock(tmp_path).release()
    assert not list(tmp_path.iterdir())


def test_a_number_that_another_process_has_now_is_stale(tmp_path: Path) -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("this system does not say when a process started")
    write_marker(tmp_path, started="1")
    opened(tmp_path).close()
    write_marker(tmp_path, started=None)
    with pytest.raises(RecordError, match=f"process {os.getpid()}"):
        opened(tmp_path)


def test_a_number_that_a_process_of_another_user_has_now_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a process may hide when it began, as with hidepid."""

    def refuse(_pid: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    monkeypatch.setattr(lock, "_process_start", lambda _pid: None)
    for user in (os.getuid() + 1, None):
        content = write_marker(tmp_path, user=user)
        with pytest.raises(RecordError, match=f"process {os.getpid()}"):
            opened(tmp_path)
        assert (tmp_path / "running").read_bytes() == content
    write_marker(tmp_path, user=os.getuid())
    opened(tmp_path).close()


def test_a_marker_from_before_the_host_was_started_anew_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_boot_id", lambda: "now")
    write_marker(tmp_path, boot="now")
    with pytest.raises(RecordError, match=f"process {os.getpid()}"):
        opened(tmp_path)
    write_marker(tmp_path, boot="before")
    opened(tmp_path).close()


def test_a_process_that_ended_but_was_not_collected_is_dead(tmp_path: Path) -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("this system does not say whether a process has ended")
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.read()
        write_marker(tmp_path, pid=child.pid)
        end = time.monotonic() + 60
        while True:
            try:
                opened(tmp_path).close()
                break
            except RecordError:
                assert time.monotonic() < end
                time.sleep(0.01)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 50_000])
def test_a_marker_that_says_nothing_is_not_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr("fewshot_i2v.runs.lock._PATIENCE_SECONDS", 0.03)
    (tmp_path / "running").write_bytes(content)
    with pytest.raises(RecordError, match=r"in use by another process.*delete"):
        opened(tmp_path)
    assert (tmp_path / "running").read_bytes() == content


@pytest.mark.parametrize("pid", [0, -1, "x", None, 1 << 80])
def test_a_marker_with_an_impossible_process_is_not_taken_over(tmp_path: Path, pid: object) -> None:
    write_marker(tmp_path, pid=pid)
    with pytest.raises(RecordError, match="delete"):
        opened(tmp_path)


def test_a_marker_still_being_written_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "running").touch()
    late = threading.Timer(0.1, write_marker, [tmp_path], {"pid": dead_process()})
    late.start()
    opened(tmp_path).close()
    late.join()


@pytest.fixture(params=[True, False], ids=["with links", "without links"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the file system has hard links."""
    if not request.param:

        def refused(*_args: object, **_more: object) -> None:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")

        monkeypatch.setattr(os, "link", refused)
    return bool(request.param)


def leave_claims(folder: Path, marker: bytes, depth: int) -> None:
    """What take-overs leave that were killed while they held the claim to a marker."""
    name = "running"
    for level in range(depth):
        name = f"{name}.{hashlib.sha256(marker).hexdigest()[:16]}"
        marker = marker.replace(b"then", f"then {level}".encode())
        (folder / name).write_bytes(marker)


@pytest.mark.usefixtures("links")
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_of_many_that_find_a_stale_marker_exactly_one_gets_the_folder(
    tmp_path: Path, depth: int
) -> None:
    dead = dead_process()
    for round_number in range(20):
        folder = tmp_path / str(round_number)
        leave_claims(folder, write_marker(folder, pid=dead), depth)
        got: list[RunLock] = []
        refused: list[RecordError] = []
        together = threading.Barrier(8)

        def start(
            folder: Path = folder,
            got: list[RunLock] = got,
            refused: list[RecordError] = refused,
            together: threading.Barrier = together,
        ) -> None:
            together.wait()
            try:
                got.append(RunLock(folder))
            except RecordError as error:
                refused.append(error)

        threads = [threading.Thread(target=start) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(got), len(refused)) == (1, 7)
        assert [p.name for p in folder.iterdir()] == ["running"]
        got[0].release()
        assert not list(folder.iterdir())


@pytest.mark.usefixtures("links")
def test_what_killed_starts_left_is_swept_and_blocks_nobody(tmp_path: Path) -> None:
    dead = write_marker(tmp_path, pid=dead_process())
    left = ("running.stale", "running.123.0123abcd", "running" + 2 * ".0123456789abcdef")
    for name in left:
        (tmp_path / name).write_bytes(dead)
    empty = tmp_path / "running.124.0123abcd"
    empty.touch()
    os.utime(empty, (0, 0))
    kept = ("running.5.0123abcd", "running.txt", "running.7.0123abcd")
    (tmp_path / kept[0]).write_bytes(dead.replace(b'"pid": ', b'"pid": 0, "was": '))
    for name in kept[1:]:
        (tmp_path / name).touch()
    with opened(tmp_path):
        assert {p.name for p in tmp_path.glob("running*")} == {"running", *kept}


def test_an_empty_marker_is_taken_over_once_it_is_old(tmp_path: Path) -> None:
    (tmp_path / "running").touch()
    os.utime(tmp_path / "running", (0, 0))
    opened(tmp_path).close()
    assert not list(tmp_path.glob("running*"))


def test_without_links_a_marker_that_is_written_half_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_args: object, **_more: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    written = 0

    def write(descriptor: int, data: bytes) -> int:
        nonlocal written
        written += 1
        if written == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data)

    real = os.write
    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr(os, "write", write)
    with pytest.raises(RecordWriteError, match="No space left"):
        RunLock(tmp_path)
    assert not list(tmp_path.iterdir())
    opened(tmp_path).close()


def test_only_the_own_marker_is_removed(tmp_path: Path) -> None:
    run = opened(tmp_path)
    content = write_marker(tmp_path, host="elsewhere")
    run.close()
    assert (tmp_path / "running").read_bytes() == content


def test_the_marker_goes_when_opening_fails(tmp_path: Path) -> None:
    journal = filled(tmp_path, 1)
    journal.write_bytes(b"damage\n")
    with pytest.raises(RecordError, match="damaged"):
        opened(tmp_path)
    assert not (tmp_path / "running").exists()


def test_a_lock_that_was_released_while_its_disk_was_away_is_no_obstacle(tmp_path: Path) -> None:
    folder, away, link = tmp_path / "run", tmp_path / "away", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder, target_is_directory=True)
    lock = RunLock(folder)
    folder.rename(away)
    lock.release()
    away.rename(folder)
    assert (folder / "running").exists()
    lock = RunLock(folder)
    for path in (folder, link):
        with pytest.raises(RecordError, match="in use by process"):
            RunLock(path)
    lock.release()
    assert not list(folder.iterdir())
