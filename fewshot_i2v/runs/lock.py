"""Lock file against starting the same run twice; correctness does not depend on it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import socket
import time
from pathlib import Path
from typing import Any, ClassVar

from fewshot_i2v.errors import RecordError, RecordWriteError
from fewshot_i2v.utils.files import (
    hard_link,
    is_process_dead,
    is_process_of_another_user,
    temporary_path,
    write_new_file,
)

# a process that has created the marker needs this long at most to write its few bytes
_PATIENCE_SECONDS = 1.0
# and this long is more than it needs by far: what is empty then was left by a kill
_ABANDONED_SECONDS = 60.0
_LEFTOVER_SUFFIX = re.compile(r"\.(stale|\d+\.[0-9a-f]{8}|[0-9a-f]{16}(\.[0-9a-f]{16})*)")
_MAX_BYTES = 1 << 16
_MAX_PID = (1 << 31) - 1


class RunLock:
    """The file `running` in a run folder, or one of a shard: created exclusively.

    It names host and process.

    A lock of a dead process of this host is taken over at once, and so is one that this process
    could not remove because its disk was away. One of another host never is, since nothing here can
    tell whether that process lives; but for a SLURM job that runs once more on another host, whose
    earlier run has ended.

    Where the file system has no hard links, a lock is first created and then written. A kill in
    between leaves an empty one, which is taken over after a minute.

    Raises:
        RecordError: when another process holds the lock, naming it and the file to delete.
        RecordWriteError: when the file cannot be written.
    """

    _released: ClassVar[set[bytes]] = set()
    """Contents of the locks that this process had."""

    def __init__(self, folder: Path, name: str = "running") -> None:
        self.path = folder / name
        self._process = os.getpid()
        owner = {
            "host": socket.gethostname(),
            "pid": self._process,
            "started": _process_start(self._process),
            "boot": _boot_id(),
            "user": _user(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
            "token": secrets.token_hex(8),  # threads may make locks in the same second
            **_slurm_job(),
        }
        self._content = json.dumps(owner).encode()
        self._acquire(self.path)
        self._remove_leftovers()

    def release(self) -> None:
        """Removes the lock, if it is still this process's."""
        if os.getpid() == self._process:
            if _read_lock(self.path) == self._content:
                with contextlib.suppress(OSError):
                    self.path.unlink()
            self._released.add(self._content)

    def _acquire(self, path: Path) -> None:
        """Creates a file that only one process has, replacing that of a dead process."""
        if not self._create(path):
            self._remove_dead(path)
            if not self._create(path):
                raise self._in_use_error(_read_lock(path))

    def _create(self, path: Path) -> bool:
        """Creates a complete file or none, so that a kill leaves no empty one."""
        draft = self.path.with_name(f"{self.path.name}.{self._process}.{secrets.token_hex(4)}")
        try:
            write_new_file(draft, self._content, sync=False)
            is_created = hard_link(path, draft)
        except OSError as error:
            raise RecordWriteError(self.path, error) from error
        finally:
            with contextlib.suppress(OSError):
                draft.unlink()
        return self._create_and_write(path) if is_created is None else is_created

    def _create_and_write(self, path: Path) -> bool:
        """Creates the lock without hard links; it counts if it is still there once written."""
        try:
            write_new_file(path, self._content, sync=False)
        except FileExistsError:
            return False
        except OSError as error:
            if self._content.startswith(_read_lock(path)):
                with contextlib.suppress(OSError):
                    path.unlink()
            raise RecordWriteError(self.path, error) from error
        return _read_lock(path) == self._content

    def _remove_dead(self, path: Path) -> None:
        """Removes a lock of a dead process, or raises.

        Several processes may try. Only the process with the claim may remove it: a file named after
        the very content to be removed. A claim whose process was killed is removed in the same way,
        with its own claim; one that stays behind allows nothing once the content that it is named
        after is gone.
        """
        content = self._wait_for_content(path)
        if content is None:
            return
        if content and content not in self._released and not _is_dead(_parse_owner(content)):
            raise self._in_use_error(content)
        claim = path.with_name(f"{path.name}.{hashlib.sha256(content).hexdigest()[:16]}")
        self._acquire(claim)
        try:
            # an empty one that is new is another process's, which is writing it
            if _read_lock(path) == content and (content or _age(path) > _ABANDONED_SECONDS):
                path.unlink()
        except FileNotFoundError:
            return
        except OSError as error:
            raise RecordWriteError(self.path, error) from error
        finally:
            with contextlib.suppress(OSError):
                claim.unlink()

    def _wait_for_content(self, path: Path) -> bytes | None:
        """Waits for a lock's complete content; None when the file disappears meanwhile.

        Empty where a kill left it before it was written.
        """
        end = time.monotonic() + _PATIENCE_SECONDS
        while os.path.lexists(path):
            content = _read_lock(path)
            if _parse_owner(content):
                return content
            if not content and _age(path) > _ABANDONED_SECONDS:
                return b""
            if time.monotonic() > end:
                raise self._in_use_error(content)
            time.sleep(0.01)
        return None

    def _remove_leftovers(self) -> None:
        """Removes drafts and claims of killed processes; this process has the lock."""
        for path in self.path.parent.glob(f"{self.path.name}.*"):
            if not _LEFTOVER_SUFFIX.fullmatch(path.name.removeprefix(self.path.name)):
                continue
            owner = _parse_owner(_read_lock(path))
            if _is_dead(owner) or (not owner and _age(path) > _ABANDONED_SECONDS):
                with contextlib.suppress(OSError):
                    path.unlink()

    def _in_use_error(self, content: bytes) -> RecordError:
        owner = _parse_owner(content)
        who = "another process"
        if owner:
            who = f"process {owner.get('pid')} on host {owner.get('host')!r}"
            who += f" (since {owner.get('since')})"
        return RecordError(
            f"{self.path.parent}: in use by {who}. Choose another --output; if that process has "
            f"ended, delete {self.path} and run the command again"
        )


def _read_lock(path: Path) -> bytes:
    """Content of a lock file; empty where there is no regular file."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(_MAX_BYTES)
    except OSError:
        return b""


def _age(path: Path) -> float:
    """Seconds since a file was written; 0 for what is no file, or has disappeared.

    They are of the clock that wrote its time, a file server's perhaps: clocks of hosts differ.
    """
    clock = temporary_path(path)
    try:
        if not path.is_file():
            return 0.0
        write_new_file(clock, b"", sync=False)
        return clock.stat().st_mtime - path.stat().st_mtime
    except OSError:
        return 0.0
    finally:
        with contextlib.suppress(OSError):
            clock.unlink()


def _parse_owner(content: bytes) -> dict[str, Any]:
    try:
        owner = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _slurm_job() -> dict[str, Any]:
    """Returns the SLURM job of this process and how often it was requeued; nothing outside."""
    job, restarts = (os.environ.get(f"SLURM_{name}", "") for name in ("JOB_ID", "RESTART_COUNT"))
    return {"job": job, "restarts": int(restarts) if restarts.isdecimal() else 0} if job else {}


def _is_requeued(owner: dict[str, Any]) -> bool:
    """Whether the lock is of an earlier run of this SLURM job: SLURM ends a job to requeue it."""
    job, restarts = _slurm_job(), owner.get("restarts")
    is_same = bool(job) and owner.get("job") == job["job"]
    return is_same and isinstance(restarts, int) and restarts < job["restarts"]


def _is_dead(owner: dict[str, Any]) -> bool:
    """Whether the lock's process has certainly ended.

    It is of an earlier run of this SLURM job; or its host is this one, and: the host was started
    anew since, or there is no such process, or the number now belongs to a process of another user,
    or to one that began at another time.
    """
    if _is_requeued(owner):
        return True
    pid = owner.get("pid")
    is_here = owner.get("host") == socket.gethostname()
    if not is_here or not isinstance(pid, int) or not 0 < pid <= _MAX_PID:
        return False
    boot = _boot_id()
    if None not in (boot, owner.get("boot")) and boot != owner["boot"]:
        return True
    if is_process_dead(pid):
        return True
    same_user = "user" in owner and owner["user"] == _user()
    if same_user and is_process_of_another_user(pid):
        return True
    started = _process_start(pid)
    return started == "" or (
        None not in (started, owner.get("started")) and started != owner["started"]
    )


def _boot_id() -> str | None:
    """Identifier of the present start of the host; None where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _user() -> int | None:
    """Number of the user of this process; None where there is none."""
    return os.getuid() if hasattr(os, "getuid") else None


def _process_start(pid: int) -> str | None:
    """Start time of a process in kernel ticks, which detects a reused process number.

    Returns:
        None where the system does not tell; an empty string for a process that has ended and only
        waits to be collected.
    """
    try:
        # the process name stands in parentheses and may hold anything
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        state, *later_fields = fields.rpartition(")")[2].split()
        return "" if state in "ZX" else later_fields[18]
    except (OSError, ValueError, IndexError):
        return None
