"""Which entries of a clip cache running processes use, and the removal of others.

A process that uses a cache has a hidden file in its folder, which is locked while the process lives
and lists the keys of its entries. Keys are added before it is looked whether an entry is there, and
under a lock that whoever removes entries holds alone: the remover has seen the key, or the process
sees that the entry is gone and decodes the clip. Where a file system has no locks, a file counts as
in use for a day, and an entry that was removed at the wrong moment is decoded again.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
import weakref
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fewshot_i2v.data.video.cache_files import list_entries
from fewshot_i2v.utils.files import file_lock, locked_temporary_file, remove_stale_files
from fewshot_i2v.utils.input_files import open_regular

_SUFFIX = ".use.tmp"
_LOCK_NAME = "use.lock"
_USE_RESOLUTION = 3600.0
_RESERVE = 20
"""A part of the limit, 1 / 20, is freed beyond what is needed, since listing a cache is slow."""


class CacheUse:
    """The entries of a clip cache that this process uses, until the object or the process ends.

    Args:
        folder: of the cache; made when a use is announced.

    Attributes:
        file: lists the keys for other processes; None before the first `add`, and where the folder
            cannot be written to: then no entry is protected.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file: Path | None = None
        self._keys: set[str] = set()

    def add(self, keys: Iterable[str] = ()) -> None:
        """Announce that this process uses entries; without keys, that it uses the cache."""
        new_keys = set(keys) - self._keys
        with contextlib.suppress(OSError):
            if self.file is None:
                self.file = self._create_file()
            if new_keys:
                announce_use(self.folder, self.file, new_keys)
        self._keys |= new_keys

    def _create_file(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        file, stack, owner = self.folder / f".{uuid.uuid4().hex}{_SUFFIX}", ExitStack(), os.getpid()
        # whoever removes files has seen this one, or is done before this process begins
        with file_lock(self.folder / _LOCK_NAME, shared=True):
            stack.enter_context(locked_temporary_file(file))
        file.chmod(0o644)  # another user may remove entries

        def _end() -> None:
            if os.getpid() == owner:  # a forked child is not the one that uses it
                stack.close()

        weakref.finalize(self, _end)
        return file


def announce_use(folder: Path, file: Path, keys: Iterable[str]) -> None:
    """Add keys to the file of a process, whose workers do so as well.

    Raises:
        OSError: when it cannot be written.
    """
    with file_lock(folder / _LOCK_NAME, shared=True), file.open("ab", buffering=0) as stream:
        stream.write("".join(f"{key}\n" for key in keys).encode())


def mark_used(path: Path, status: os.stat_result) -> None:
    """Set the time of an entry or folder to now, unless that was done within the last hour."""
    if time.time() - status.st_mtime > _USE_RESOLUTION:
        with contextlib.suppress(OSError):  # one that belongs to another user
            os.utime(path)


@contextmanager
def removal(folder: Path) -> Iterator[frozenset[str] | None]:
    """Hold the lock under which entries of a clip cache may be removed.

    Args:
        folder: of the cache, which exists.

    Yields:
        The keys of all entries that running processes use; None where no process uses the cache.

    Raises:
        OSError: when the lock cannot be made.
    """
    with file_lock(folder / _LOCK_NAME, shared=False):
        files = remove_stale_files(folder.glob(f".*{_SUFFIX}"))
        keys: set[str] = set()
        for file in files:
            with contextlib.suppress(FileNotFoundError), open_regular(file) as stream:
                keys.update(stream.read().decode("ascii", "replace").split())
        yield frozenset(keys) if files else None


def shrink_cache(folder: Path, limit: int) -> int:
    """Remove the least recently used entries of a clip cache that is larger than a limit.

    Entries that running processes use stay, whatever they take.

    Args:
        folder: of the cache.
        limit: bytes.

    Returns:
        The bytes that the entries take now.

    Raises:
        OSError: when the folder cannot be listed or locked.
    """
    if not folder.is_dir():
        return 0
    with removal(folder) as keys_in_use:
        entries = sorted(list_entries(folder), key=lambda e: (not e.is_damaged, e.last_used))
        total = sum(entry.size for entry in entries)
        target = limit if total <= limit else limit - limit // _RESERVE
        for entry in entries:
            if total <= target:
                break
            if entry.is_damaged or entry.key not in (keys_in_use or ()):
                with contextlib.suppress(OSError):  # of another user, or open on Windows
                    entry.path.unlink()
                    total -= entry.size
    return total


class SizeLimit:
    """Keeps a clip cache below a size while clips are written to it.

    Args:
        folder: of the cache.
        limit: bytes.

    Attributes:
        limit: as above.
        size: bytes of all entries when the cache was last listed.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self.limit = folder, limit
        self.size = 0
        self._room = -1

    def add(self, size: int) -> None:
        """Count bytes that were written, and remove entries when they exceed the limit.

        Raises:
            OSError: when the folder cannot be listed or locked.
        """
        self._room -= size
        if self._room < 0:
            self.size = shrink_cache(self._folder, self.limit)
            # where all is in use, it is looked at again only after a while
            self._room = max(self.limit - self.size, self.limit // _RESERVE)
