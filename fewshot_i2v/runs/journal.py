"""Files of records: lines are appended so that they survive a kill, and read when accessed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, ValuesView
from pathlib import Path
from typing import BinaryIO

from fewshot_i2v.errors import RecordError, RecordWriteError
from fewshot_i2v.runs.episode_record import (
    EpisodeRecord,
    checked_payload,
    from_line,
    peek_index_and_status,
)
from fewshot_i2v.runs.record_facts import RecordFacts, facts_of_line
from fewshot_i2v.runs.shards import writer_of
from fewshot_i2v.utils.files import sync_folder, write_all, write_new_file
from fewshot_i2v.utils.patience import Patience

_BLOCK = 1 << 16
_OFFSET_BITS = 48  # a position is the number of a file, and in the lower bits an offset in it
_MAX_OFFSET = (1 << _OFFSET_BITS) - 1


class Journal:
    """An append-only file of lines with a single writer.

    On opening, a torn last line (bytes after the last newline, left by a kill or a power cut) is
    moved to `<file>.torn-<n>` before anything is written.

    Args:
        path: the file; created when absent.
        patience: how long to wait for a disk that refuses lines.

    Raises:
        RecordWriteError: when it cannot be opened for writing.
    """

    def __init__(self, path: Path, patience: Patience = Patience()) -> None:  # noqa: B008 - frozen
        self.path, self._patience = path, patience
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
            self._patience.run(self.path, lambda: self._write(data), lambda: self._reopen(data))
        except OSError as error:
            raise RecordWriteError(self.path, error) from error
        self._size += len(data)
        return self._size - len(data)

    def _write(self, data: bytes) -> None:
        try:
            size = os.fstat(self._descriptor).st_size
            if size != self._size:
                raise RecordError(
                    f"{self.path}: has {size} bytes where this run left {self._size}: another "
                    "process writes to it too. Stop all but one, then run the command again"
                )
            write_all(self._descriptor, data)
            os.fsync(self._descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise

    def _reopen(self, data: bytes) -> None:
        """Opens the file again, and removes what an attempt to write `data` left of it.

        A file that was away has another handle. It is not made anew: without its disk the folder
        may be an empty one of the same name.
        """
        with contextlib.suppress(OSError):  # a stale handle
            self.close()
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND)
        os.lseek(self._descriptor, self._size, os.SEEK_SET)
        left = os.read(self._descriptor, len(data) + 1)
        if left and data.startswith(left):
            os.ftruncate(self._descriptor, self._size)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

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


class RecordLines(Mapping[int, EpisodeRecord]):
    """The record of each episode, by index, in the order of recording.

    A later record of an episode replaces a failed one, never a successful one. Of several files,
    one that succeeded replaces one that failed, whatever their order. Memory holds only the offsets
    of the lines, so that a run may have 100,000 of them.

    Args:
        paths: the files; an absent one has no records. Lines may be added to them meanwhile.
        run_checksum: checksum of the run's identity.

    Attributes:
        failed: numbers of the episodes recorded as failed.
        repeated: number of lines that say again what another file says.

    Raises:
        RecordError: when a line is damaged (naming it), or an episode has two results. The values
            in a line are checked when it is read, and raise then.
    """

    def __init__(self, paths: Sequence[Path], run_checksum: int) -> None:
        self._paths, self._run_checksum = list(paths), run_checksum
        self._numbers = {path: number for number, path in enumerate(self._paths)}
        self._positions: dict[int, int] = {}
        self.failed: set[int] = set()
        self.repeated = 0
        for path in self._paths:
            self._add_file(path)

    def _add_file(self, path: Path) -> None:
        offset = 0
        for line_number, line in _complete_lines(path):
            try:
                payload = checked_payload(line, self._run_checksum)
                index, ok = peek_index_and_status(payload)
            except ValueError as error:
                raise _damage_error(f"{path}:{line_number}", error) from error
            if self._is_new(path, index, ok=ok):
                self.add_line(path, index, offset, ok=ok)
            elif ok or index not in self.failed:
                self._check_equal(f"{path}:{line_number}", path, index, payload, ok=ok)
            offset += len(line) + 1

    def _is_new(self, path: Path, index: int, *, ok: bool) -> bool:
        """Whether a line is the record of its episode, for all that is known so far."""
        if index not in self._positions:
            return True
        return index in self.failed and (ok or self._path_of(index) == path)

    def _check_equal(
        self, source: str, path: Path, index: int, payload: bytes, *, ok: bool
    ) -> None:
        first_path = self._path_of(index)
        if not ok and first_path != path:  # it failed there and succeeded elsewhere
            return
        ((_, first_line),) = self.lines([index])
        if checked_payload(first_line, self._run_checksum) != payload:
            raise second_result_error(source, index, {first_path, path})
        self.repeated += first_path != path

    def add_line(self, path: Path, index: int, offset: int, *, ok: bool) -> None:
        """Adds a line that was appended to a file and begins at `offset` bytes."""
        self._positions[index] = self._numbers[path] << _OFFSET_BITS | offset
        (self.failed.discard if ok else self.failed.add)(index)

    def _path_of(self, index: int) -> Path:
        return self._paths[self._positions[index] >> _OFFSET_BITS]

    def _offset_of(self, index: int) -> int:
        return self._positions[index] & _MAX_OFFSET

    def read(self, indices: Iterable[int]) -> Iterator[EpisodeRecord]:
        """Yields the records of some episodes, with one in memory at a time.

        Raises:
            KeyError: when an episode has no record.
            RecordError: when a line has values that no record has (naming it).
        """
        for index, line in self.lines(indices):
            yield self._parse(index, line)

    def read_facts(self, indices: Iterable[int]) -> Iterator[RecordFacts]:
        """Yields what the summary of a row needs of some records; see `read`."""
        for index, line in self.lines(indices):
            facts = facts_of_line(line, self._run_checksum)
            if facts is None or facts.episode != index:
                facts = RecordFacts.of(self._parse(index, line))
            yield facts

    def _parse(self, index: int, line: bytes) -> EpisodeRecord:
        try:
            record = from_line(line, self._run_checksum)
            if record.index != index:
                raise ValueError("its index is written twice")
        except ValueError as error:
            raise self.damage_error(index, error) from error
        return record

    def lines(self, indices: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """Yields the unparsed lines of some episodes; see `read`."""
        files: dict[Path, BinaryIO] = {}
        ends: dict[Path, int] = {}
        path = self._paths[0]
        try:
            for index in indices:
                path, offset = self._path_of(index), self._offset_of(index)
                if path not in files:
                    files[path], ends[path] = path.open("rb", buffering=1 << 18), 0
                if ends[path] != offset:
                    files[path].seek(offset)
                line = files[path].readline()
                ends[path] = offset + len(line)
                yield index, line
        except OSError as error:
            raise RecordError(f"{path}: cannot be read: {error.strerror or error}") from error
        finally:
            for file in files.values():
                file.close()

    def damage_error(self, index: int, error: Exception) -> RecordError:
        """Makes the error about a damaged line of an episode, with its line number."""
        path, n_remaining, line_number = self._path_of(index), self._offset_of(index), 1
        with path.open("rb") as file:
            while n_remaining > 0 and (block := file.read(min(n_remaining, 1 << 20))):
                n_remaining, line_number = (
                    n_remaining - len(block),
                    line_number + block.count(b"\n"),
                )
        return _damage_error(f"{path}:{line_number}", error)

    def sort_by_index(self) -> RecordLines:
        """Sorts the records by episode number, in place; returns the same object."""
        self._positions = dict(sorted(self._positions.items()))
        return self

    def __getitem__(self, index: int) -> EpisodeRecord:
        return next(self.read([index]))

    def __iter__(self) -> Iterator[int]:
        return iter(self._positions)

    def __len__(self) -> int:
        return len(self._positions)

    def __contains__(self, index: object) -> bool:
        return index in self._positions

    def values(self) -> ValuesView[EpisodeRecord]:
        """The records, read one at a time."""
        return _RecordValues(self)


class _RecordValues(ValuesView[EpisodeRecord]):
    _mapping: RecordLines

    def __iter__(self) -> Iterator[EpisodeRecord]:
        return self._mapping.read(list(self._mapping))


def second_result_error(source: str, index: int, journals: Collection[Path] = ()) -> RecordError:
    """Makes the error about a second, different result of an episode."""
    writers = " and ".join(sorted(writer_of(journal) for journal in journals))
    between = (
        f" (in {writers}; another processor or number of threads rounds differently)"
        if len(journals) > 1
        else ""
    )
    return RecordError(
        f"{source}: a second, different result of episode {index}, which has one already{between}. "
        "Nothing was changed. An episode gives one result; compare the two, and remove one if it "
        "is in the file, or use another --output"
    )


def _damage_error(source: str, error: Exception) -> RecordError:
    return RecordError(
        f"{source}: damaged: {error}. Nothing was changed. Move this line out of the file and run "
        "the same command again: its episode will be computed again"
    )


def _complete_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields the lines of a journal that end in a newline, without it."""
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
