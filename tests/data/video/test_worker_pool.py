"""Decoding processes: whatever a call does to its process, the others and the caller go on."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fewshot_i2v.data.video.clip_disk import check_disk_of, was_missing
from fewshot_i2v.data.video.worker_pool import Job, native_log_reader, run_jobs
from fewshot_i2v.errors import ClipDiskError, ConfigError, FewshotError, VideoUnreadable
from fewshot_i2v.utils.limits import ClipLimits

CLIP = Path("clip.mp4")
ROOT = Path(__file__).resolve().parents[3]


def alive(process: int) -> bool:
    """Whether a process runs; one that has ended but was not collected does not."""
    status = Path(f"/proc/{process}/stat")
    if status.parent.parent.joinpath("self").exists():
        return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until_gone(process: int, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while alive(process) and time.monotonic() < end:
        time.sleep(0.05)
    return not alive(process)


def job(function: str, *arguments: Any) -> Job:
    return Job(CLIP, function, arguments)


def results(jobs: list[Job], workers: int = 1, **limits: Any) -> list[Any]:
    found = dict(run_jobs(jobs, workers, ClipLimits(**limits)))
    return [found[each] for each in jobs]


def test_a_call_that_hangs_costs_itself_only() -> None:
    begin = time.monotonic()
    before, hung, after = results(
        [job("os:getpid"), job("time:sleep", 1000), job("math:hypot", 3, 4)], seconds=0.5
    )
    assert time.monotonic() - begin < 120
    assert isinstance(hung, VideoUnreadable)
    assert hung.path == str(CLIP)
    assert hung.reason.startswith("did not finish within 2 s: the decoder was stopped; --max-seco")
    assert after == 5
    assert wait_until_gone(before)


def test_calls_that_crash_cost_themselves_only() -> None:
    aborted, faulty, left, after = results(
        [
            job("os:abort"),
            job("ctypes:string_at", 0),
            job("os:_exit", 7),
            job("math:hypot", 3, 4),
        ],
        workers=2,
    )
    assert aborted.reason == f"the decoder crashed (signal {int(signal.SIGABRT)})"
    assert faulty.reason == f"the decoder crashed (signal {int(signal.SIGSEGV)})"
    assert left.reason == "the decoder crashed (exit status 7)"
    assert after == 5


def test_what_a_call_raises_is_told_apart() -> None:
    missing, large = results([job("math:sqrt", -1), job("builtins:bytearray", 2**33)])
    assert missing.reason.startswith("the decoder failed: ValueError: ")
    if sys.platform == "linux":
        limit = "the limit of 4 GiB; --max-memory raises the limit"
        assert large.reason.startswith(f"needs more memory to decode than {limit}")
    with pytest.raises(FewshotError, match="size is 0"):
        results([job("fewshot_i2v.data.video.frame_sampling:check_count", "size", 0)])


def meet(name: str, path: str) -> None:
    """Meets an error of the system, in a decoding process."""
    code = getattr(errno, name)
    raise OSError(code, os.strerror(code), path)


def meet_in_a_clip(name: str, path: str) -> None:
    try:
        meet(name, path)
    except OSError as error:
        check_disk_of(Path(path), error)
        raise VideoUnreadable(path, "cannot be opened") from error


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("function", [meet, meet_in_a_clip])
def test_a_disk_that_is_away_is_told_apart_from_a_clip_that_is_missing(
    workers: int, function: Callable[[str, str], None], tmp_path: Path
) -> None:
    name = f"{__name__}:{function.__name__}"
    with pytest.raises(ClipDiskError, match=r"b\.mp4: .*\(errno \d+\): the disk of .* is away"):
        results([job(name, "ESTALE", str(tmp_path / "b.mp4"))], workers)
    if workers or function is meet_in_a_clip:
        calls = [job(name, code, str(tmp_path / "b.mp4")) for code in ("ENOENT", "EACCES")]
        missing, forbidden = results(calls, workers)
        assert was_missing(missing) is (function is meet_in_a_clip)
        assert not was_missing(forbidden)


def test_ctrl_c_reaches_the_caller_only() -> None:
    first, _, third = results(
        [job("os:getpid"), job("signal:raise_signal", int(signal.SIGINT)), job("os:getpid")]
    )
    assert first == third


def test_nothing_is_left_when_the_caller_stops_early() -> None:
    running = run_jobs([job("os:getpid"), job("time:sleep", 1000)], 1)
    _, process = next(running)
    assert alive(process)
    running.close()  # type: ignore[attr-defined]
    assert not alive(process)


def test_nothing_is_left_when_the_caller_is_killed(tmp_path: Path) -> None:
    # no `if __name__ == "__main__"` on purpose: the script must not be run again by the workers
    script = tmp_path / "caller.py"
    script.write_text(
        "from pathlib import Path\n"
        "from fewshot_i2v.data.video.worker_pool import Job, native_log_reader, run_jobs\n"
        "jobs = [Job(Path('a'), 'os:getpid', ()), Job(Path('b'), 'time:sleep', (1000,))]\n"
        "for _, result in run_jobs(jobs, 1):\n"
        "    print(result, flush=True)\n"
    )
    caller = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with caller:
        assert caller.stdout is not None
        process = int(caller.stdout.readline())
        assert alive(process)
        caller.kill()
    assert wait_until_gone(process)


def test_a_hanging_worker_that_nobody_kills_is_ended_by_the_kernel() -> None:
    # Python code in the worker cannot be relied upon: a hanging decoder may hold Python's lock
    code = (
        "from fewshot_i2v.data.video import worker_pool; worker_pool._GRACE_SECONDS = 0; "
        "worker_pool.serve_calls()"
    )
    setup = {"seconds": 0.5, "clock": 0.5, "memory": 0}
    lines = [setup, {"function": "time:sleep", "arguments": [1000]}]
    worker = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with worker:
        assert worker.stdin is not None
        worker.stdin.write(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        worker.stdin.flush()
        assert worker.wait(timeout=60) == -signal.SIGALRM


def test_output_of_native_code_is_no_answer() -> None:
    calls = [job("os:write", 1, "x"), job("os:system", "echo rubbish; echo more >&2")]
    wrong, status = results(calls)
    assert isinstance(wrong, VideoUnreadable)  # text instead of bytes: an exception, not a crash
    assert status == 0


def test_complaints_of_native_code_are_noticed() -> None:
    assert native_log_reader() is None
    counted = results(
        [
            job("tests.data.video.watched:complaint", ""),
            job("tests.data.video.watched:complaint", "hello"),
            job("tests.data.video.watched:complaint", "hello" * 300_000),
            job("tests.data.video.watched:complaint", "hello"),
        ]
    )
    assert counted == [0, 5, 1_500_000, 5]


def test_in_this_process() -> None:
    found = [result for _, result in run_jobs([job("os:getpid")], 0)]
    assert found == [os.getpid()]


def test_workers_that_cannot_start_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewshot_i2v.data.video.worker_pool._BOOT", "raise SystemExit(3)")
    with pytest.raises(FewshotError, match=r"could not be started \(exit status 3\)"):
        results([job("os:getpid")])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"seconds": 0}, "seconds is 0"),
        ({"seconds": float("inf")}, "seconds is inf"),
        ({"memory": -1}, "memory is -1"),
    ],
)
def test_wrong_limits_are_named(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ClipLimits(**wrong)
    with pytest.raises(ConfigError, match="workers is -1"):
        list(run_jobs([job("os:getpid")], -1))


def test_arguments_that_are_no_json_are_an_error() -> None:
    with pytest.raises(TypeError, match="JSON"):
        results([job("os:getpid", object())])
    assert json.loads(json.dumps("\udcff")) == "\udcff"  # names of files may hold such characters


def refused(*_: object, **__: object) -> None:
    raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")


def no_thread(*_: object) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize(
    ("place", "stand_in"),
    [("subprocess.Popen", refused), ("threading.Thread.start", no_thread)],
)
def test_no_more_processes_or_threads_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, place: str, stand_in: Callable[..., None]
) -> None:
    monkeypatch.setattr(place, stand_in)
    with pytest.raises(
        FewshotError, match=r"could not be started: .*; end other programs"
    ) as found:
        results([job("os:getpid")] * 2, workers=2)
    assert "\n" not in str(found.value)
