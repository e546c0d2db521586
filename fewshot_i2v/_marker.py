"""A marker file against starting the same run twice; it warns, correctness does not rest on it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import time
from pathlib import Path
from typing import Any

from fewshot_i2v._journal import RecordWriteError, write_all
from fewshot_i2v.errors import RecordError

# a process that has created the marker needs this long at most to write its few bytes
_PATIENCE_SECONDS = 1.0


class RunMarker:
    """The file `running` in a run folder: created exclusively, names host and process.

    A marker whose process is dead on this host is taken over at once. One of another host never is,
    since nothing here can tell whether that process lives.

    Args:
        folder: the run folder, which must exist.

    Raises:
        RecordError: when another process holds the folder, naming it and the file to delete.
        RecordWriteError: when the file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "running"
        self._process = os.getpid()
        own = {
            "host": socket.gethostname(),
            "pid": self._process,
            "started": _started(self._process),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        self._content = json.dumps(own).encode()
        if not self._create():
            self._take_over()
            if not self._create():
                raise self._held(self._read())

    def release(self) -> None:
        """Remove the marker, if it is still this process's."""
        if os.getpid() == self._process and self._read() == self._content:
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _create(self) -> bool:
        """Make the marker appear complete or not at all, so that a kill leaves no empty one."""
        draft = self.path.with_name(f"running.{self._process}.{secrets.token_hex(4)}")
        try:
            descriptor = os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644)
            try:
                write_all(descriptor, self._content)
            finally:
                os.close(descriptor)
            self.path.hardlink_to(draft)
        except FileExistsError:
            return False
        except OSError as error:
            raise RecordWriteError(self.path, error) from error
        finally:
            with contextlib.suppress(OSError):
                draft.unlink()
        return True

    def _read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError:
            return b""

    def _take_over(self) -> None:
        """Remove a stale marker, or raise.

        Two processes may find the same stale marker. The one that makes a second name for it owns
        the removal; the name is given back only after the marker is gone, so that the other one
        can never remove a marker made in the meantime.
        """
        stale = self._settled()
        if stale is None:
            return
        if not _is_dead(_parsed(stale)):
            raise self._held(stale)
        claim = self.path.with_name("running.stale")
        try:
            claim.hardlink_to(self.path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._held(stale) from error
        try:
            if claim.read_bytes() == stale:
                self.path.unlink()
        except OSError as error:
            raise RecordWriteError(self.path, error) from error
        finally:
            with contextlib.suppress(OSError):
                claim.unlink()

    def _settled(self) -> bytes | None:
        """The marker's content once it is complete, or None when it has gone meanwhile."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while self.path.exists():
            content = self._read()
            if _parsed(content):
                return content
            if time.monotonic() > end:
                raise self._held(content)
            time.sleep(0.01)
        return None

    def _held(self, content: bytes) -> RecordError:
        owner = _parsed(content)
        who = "another process"
        if owner:
            who = f"process {owner.get('pid')} on host {owner.get('host')!r}"
            who += f" (since {owner.get('since')})"
        leftover = self.path.with_name("running.stale")
        files = f"{self.path} and {leftover}" if leftover.exists() else str(self.path)
        return RecordError(
            f"{self.path.parent}: in use by {who}. Choose another --output; if that process has "
            f"ended, delete {files} and run the command again"
        )


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        owner = json.loads(content)
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _is_dead(owner: dict[str, Any]) -> bool:
    """Whether the marker's process is known to have ended: same host, and no such process."""
    pid = owner.get("pid")
    if owner.get("host") != socket.gethostname() or not isinstance(pid, int) or pid <= 0:
        return False
    if os.name == "nt":
        # there `os.kill` with signal 0 is not a question but a Ctrl-C
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    started = _started(pid)
    return started == "" or (
        None not in (started, owner.get("started")) and started != owner["started"]
    )


def _started(pid: int) -> str | None:
    """When a process started, in kernel ticks, so that a number used again is not taken for it.

    Returns:
        None where the system does not say; an empty string for a process that has ended and only
        waits to be collected.
    """
    try:
        # the process name stands in parentheses and may hold anything
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        state, *rest = fields.rpartition(")")[2].split()
        return "" if state in "ZX" else rest[18]
    except (OSError, ValueError, IndexError):
        return None
