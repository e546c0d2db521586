"""A marker file against starting the same run twice; it warns, correctness does not rest on it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import socket
import time
from pathlib import Path
from typing import Any

from fewshot_i2v.errors import RecordError
from fewshot_i2v.utils.files import RecordWriteError, write_all

# a process that has created the marker needs this long at most to write its few bytes
_PATIENCE_SECONDS = 1.0
# and this long is more than it needs by far: what is empty then was left by a kill
_FORGOTTEN_SECONDS = 60.0
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK}
_LEFT = re.compile(r"running\.(stale|\d+\.[0-9a-f]{8}|[0-9a-f]{16}(\.[0-9a-f]{16})*)")
_MOST_BYTES = 1 << 16


class RunMarker:
    """The file `running` in a run folder: created exclusively, names host and process.

    A marker whose process is dead on this host is taken over at once. One of another host never is,
    since nothing here can tell whether that process lives.

    Where the file system has no hard links, a marker is created first and written then. A kill in
    between leaves an empty one, which says nothing for a minute and is taken over after that.

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
        self._take(self.path)
        self._sweep()

    def release(self) -> None:
        """Remove the marker, if it is still this process's."""
        if os.getpid() == self._process and _read(self.path) == self._content:
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _take(self, path: Path) -> None:
        """Create a file that one process has at a time, in place of one whose process is dead."""
        if not self._create(path):
            self._remove_dead(path)
            if not self._create(path):
                raise self._held(_read(path))

    def _create(self, path: Path) -> bool:
        """Make a file appear complete or not at all, so that a kill leaves no empty one."""
        draft = self.path.with_name(f"running.{self._process}.{secrets.token_hex(4)}")
        try:
            self._write(draft, os.O_TRUNC)
            path.hardlink_to(draft)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno in _NO_LINKS:
                return self._create_and_write(path)
            raise RecordWriteError(self.path, error) from error
        finally:
            with contextlib.suppress(OSError):
                draft.unlink()
        return True

    def _create_and_write(self, path: Path) -> bool:
        """Without hard links: who creates the file has it, if it is still there once written."""
        try:
            self._write(path, os.O_EXCL)
        except FileExistsError:
            return False
        except OSError as error:
            if self._content.startswith(_read(path)):
                with contextlib.suppress(OSError):
                    path.unlink()
            raise RecordWriteError(self.path, error) from error
        return _read(path) == self._content

    def _write(self, path: Path, flags: int) -> None:
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | flags, 0o644)
        try:
            write_all(descriptor, self._content)
        finally:
            os.close(descriptor)

    def _remove_dead(self, path: Path) -> None:
        """Remove a file whose process is dead, or raise.

        Several processes may find it. One at a time may remove it: the one that has the claim, a
        file named after the very content to be removed. A claim whose process was killed is removed
        in the same way, with a claim of its own; one that is left over allows nothing once the
        content that it is named after is gone.
        """
        content = self._settled(path)
        if content is None:
            return
        if content and not _is_dead(_parsed(content)):
            raise self._held(content)
        claim = path.with_name(f"{path.name}.{hashlib.sha256(content).hexdigest()[:16]}")
        self._take(claim)
        try:
            # an empty one that is new is another process's, which is writing it
            if _read(path) == content and (content or _age(path) > _FORGOTTEN_SECONDS):
                path.unlink()
        except FileNotFoundError:
            return
        except OSError as error:
            raise RecordWriteError(self.path, error) from error
        finally:
            with contextlib.suppress(OSError):
                claim.unlink()

    def _settled(self, path: Path) -> bytes | None:
        """A file's content once it is complete, or None when it has gone meanwhile.

        Empty where it was left by a kill before it was written.
        """
        end = time.monotonic() + _PATIENCE_SECONDS
        while os.path.lexists(path):
            content = _read(path)
            if _parsed(content):
                return content
            if not content and _age(path) > _FORGOTTEN_SECONDS:
                return b""
            if time.monotonic() > end:
                raise self._held(content)
            time.sleep(0.01)
        return None

    def _sweep(self) -> None:
        """Remove drafts and claims that killed processes have left; this process has the marker."""
        for path in self.path.parent.glob("running.*"):
            if not _LEFT.fullmatch(path.name):
                continue
            owner = _parsed(_read(path))
            if _is_dead(owner) or (not owner and _age(path) > _FORGOTTEN_SECONDS):
                with contextlib.suppress(OSError):
                    path.unlink()

    def _held(self, content: bytes) -> RecordError:
        owner = _parsed(content)
        who = "another process"
        if owner:
            who = f"process {owner.get('pid')} on host {owner.get('host')!r}"
            who += f" (since {owner.get('since')})"
        return RecordError(
            f"{self.path.parent}: in use by {who}. Choose another --output; if that process has "
            f"ended, delete {self.path} and run the command again"
        )


def _read(path: Path) -> bytes:
    """What is in a marker; nothing where there is none, or something that is no file."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(_MOST_BYTES)
    except OSError:
        return b""


def _age(path: Path) -> float:
    """Seconds since a file was written; 0 for what is no file, or has gone."""
    try:
        return time.time() - path.stat().st_mtime if path.is_file() else 0.0
    except OSError:
        return 0.0


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        owner = json.loads(content)
    except (ValueError, RecursionError):
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
    except (OSError, OverflowError):
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
