"""One decoding process, seen from the caller's side."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fewshot_i2v._limits import MEMORY, SECONDS, raising
from fewshot_i2v._search_path import without_current_folder
from fewshot_i2v.errors import ConfigError, FewshotError, VideoUnreadable
from fewshot_i2v.video.frames import check_count

if TYPE_CHECKING:
    from fewshot_i2v._config_models import LimitsConfig

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); "
    "from fewshot_i2v.video._worker import main; main()"
)
_STARTUP_SECONDS = 120.0
_PATIENCE = 4.0


@dataclass(frozen=True)
class Limits:
    """What one clip may take.

    Args:
        seconds: processor time of the decoding process, above 0: what else the machine does, does
            not count. A process that hangs without computing is ended after four times as long by
            the clock, which is also what counts on Windows.
        memory: address space of the decoding process in bytes, 0 for no limit. Enforced where the
            system can (not on Windows and macOS).

    Raises:
        ConfigError: if a limit is no such number.
    """

    seconds: float = SECONDS
    memory: int = round(MEMORY * 2**30)

    def __post_init__(self) -> None:
        if not math.isfinite(self.seconds) or self.seconds <= 0:
            raise ConfigError(f"seconds is {self.seconds!r}: a number above 0 is needed")
        check_count("memory", self.memory, least=0)

    @classmethod
    def of(cls, limits: LimitsConfig) -> Limits:
        """Those of a configuration, which counts memory in GiB."""
        return cls(seconds=limits.seconds, memory=round(limits.memory * 2**30))

    @property
    def clock(self) -> float:
        """Seconds by the clock after which a process is taken for hanging."""
        return _PATIENCE * self.seconds


class Job(NamedTuple):
    """One call for one clip.

    Attributes:
        path: the clip, for messages.
        function: "module:name" of what is called.
        arguments: what it is called with; must be possible in JSON.
    """

    path: Path
    function: str
    arguments: tuple[Any, ...]


class WorkerProcess:
    """A process that answers one call after another; to be used by one thread.

    Args:
        limits: what each call may take.

    Attributes:
        served: how many calls have been made.
        crashed: whether the process ended by itself during a call.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._expired = False
        self.served = 0
        self.crashed = False
        changed = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        # an empty entry is the current folder
        asked = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        changed["PYTHONPATH"] = os.pathsep.join(asked)
        path = json.dumps(without_current_folder())
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and text
            # -P: the text's own imports are not from the current folder either
            [sys.executable, "-P", "-c", _BOOT, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **changed},
        )

    @property
    def alive(self) -> bool:
        """Whether another call can be made."""
        return not self._expired and self._process.poll() is None

    def wait_until_ready(self) -> None:
        """Wait until everything slow has been imported.

        Raises:
            FewshotError: if the process ends instead.
        """
        limits = self._limits
        setup = {"seconds": limits.seconds, "clock": limits.clock, "memory": limits.memory}
        if self._ask(setup, _STARTUP_SECONDS) is None:
            code = self._end()
            raise FewshotError(
                f"a decoding process could not be started (exit status {code}): "
                f"check that {sys.executable} -P -c 'import av, numpy, PIL' works"
            )

    def run(self, job: Job) -> Any:  # noqa: ANN401 - whatever the function returns
        """Make one call.

        Args:
            job: the call.

        Returns:
            What the function returned, or, not raised: `VideoUnreadable` if there is nothing for a
            reason that lies in the clip, `FewshotError` if for another.
        """
        self.served += 1
        call = {"function": job.function, "arguments": job.arguments}
        answer = self._ask(call, self._limits.clock)
        if answer is None:
            return VideoUnreadable(job.path, self._epitaph(self._end()))
        if "unreadable" in answer:
            return VideoUnreadable(job.path, answer["unreadable"])
        return FewshotError(answer["failed"]) if "failed" in answer else answer["value"]

    def kill(self) -> None:
        """End the process at once, from whatever thread."""
        with contextlib.suppress(OSError):
            self._process.kill()

    def close(self) -> None:
        """Let the process leave, and make it leave if it does not."""
        stdin, stdout = self._process.stdin, self._process.stdout
        with contextlib.suppress(OSError):
            if stdin:
                stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2.0)
        self._end()
        if stdout:
            stdout.close()

    def _ask(self, message: dict[str, Any], seconds: float) -> dict[str, Any] | None:
        """Send a line and wait for a line; None if the process ended instead."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            return None
        timer = threading.Timer(seconds, self._expire)
        timer.daemon = True
        timer.start()
        try:
            stdin.write(json.dumps(message).encode() + b"\n")
            stdin.flush()
            line = stdout.readline()
        except OSError:
            line = b""
        finally:
            timer.cancel()
        answer: dict[str, Any] | None = json.loads(line) if line.endswith(b"\n") else None
        return answer

    def _expire(self) -> None:
        self._expired = True
        self.kill()

    def _end(self) -> int:
        self.kill()
        return self._process.wait()

    def _epitaph(self, code: int) -> str:
        limits, how = self._limits, f"the decoder was stopped; {raising('seconds')}"
        if hasattr(signal, "SIGPROF") and code == -signal.SIGPROF:
            return f"took more than {limits.seconds:g} s of processor time: {how}"
        if self._expired or (hasattr(signal, "SIGALRM") and code == -signal.SIGALRM):
            return f"did not finish within {limits.clock:g} s: {how}"
        self.crashed = True
        return f"the decoder crashed ({f'signal {-code}' if code < 0 else f'exit status {code}'})"
