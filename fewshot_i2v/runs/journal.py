"""Files that survive a kill: an append-only journal of lines, and atomic replacement of files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from fewshot_i2v.errors import RecordError, RecordWriteError
from fewshot_i2v.utils.files import sync_folder, write_all, write_new_file

_BLOCK = 1 << 16


def complete_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields the lines of a journal that end in a newline, without it.

    Args:
        path: the file; an absent one has no lines.

    Yields:
        Line number, 1 first, and content. A torn last line is left out.

    Raises:
        RecordError: when the file cannot be read, or is no regular file.
    """
    try:
        if path.exists() and not path.is_file():
            raise RecordError(f"{path}: not a regular file; expected lines of JSON")
        with path.open("rb", buffering=1 << 18) as file:
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n"):
                    yield number, line[:-1]
    except FileNotFoundError:
        return
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror or error}") from error


class Journal:
    """An append-only file of lines with a single writer.

    On opening, a torn last line (bytes after the last newline, left by a kill or a power cut) is
    moved to `<file>.torn-<n>` before anything is written.

    Args:
        path: the file; created when absent.

    Raises:
        RecordWriteError: when it cannot be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o644)
        except OSError as error:
            raise RecordWriteError(path, error) from error
        try:
            self._size = self._move_torn_tail()
            sync_folder(path.parent)
        except OSError as error:
            self.close()
            raise RecordWriteError(path, error) from error

    def append(self, lines: Sequence[bytes]) -> int:
        """Adds complete lines: one write, then fsync. When it returns they are on the disk.

        Args:
            lines: contents without newlines.

        Returns:
            Offset of the first of them, in bytes.

        Raises:
            RecordError: when something else wrote to the file in the meantime.
            RecordWriteError: when the disk refuses; the file is then truncated to its old size.
        """
        data = b"".join(line + b"\n" for line in lines)
        try:
            size = os.fstat(self._descriptor).st_size
            if size != self._size:
                raise RecordError(
                    f"{self.path}: has {size} bytes where this run left {self._size}: another "
                    "process writes to it too. Stop all but one, then run the command again"
                )
            write_all(self._descriptor, data)
            os.fsync(self._descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise RecordWriteError(self.path, error) from error
        self._size += len(data)
        return self._size - len(data)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _move_torn_tail(self) -> int:
        """Moves bytes after the last newline to a side file; returns the remaining size."""
        size = os.fstat(self._descriptor).st_size
        tail, start = b"", size
        while start > 0 and b"\n" not in tail:
            length = min(_BLOCK, start)
            start -= length
            os.lseek(self._descriptor, start, os.SEEK_SET)
            tail = os.read(self._descriptor, length) + tail
        torn = tail.rpartition(b"\n")[2]
        if torn:
            self._save_torn_line(torn)
            size -= len(torn)
            os.ftruncate(self._descriptor, size)
            os.fsync(self._descriptor)
        return size

    def _save_torn_line(self, torn: bytes) -> None:
        number = 1
        while True:
            side_file = self.path.with_name(f"{self.path.name}.torn-{number}")
            try:
                write_new_file(side_file, torn)
                sync_folder(self.path.parent)
            except FileExistsError:
                number += 1
            except OSError:
                with contextlib.suppress(OSError):
                    side_file.unlink()
                raise
            else:
                return
