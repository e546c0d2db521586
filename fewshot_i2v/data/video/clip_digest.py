"""Content digests of clips, with file stamps so that unchanged files are not read again.

The system's time of change (ctime) moves with every write and every renaming, even if somebody
sets the time of modification back. Together with the file's number, size and time of modification
it shows that nothing was written since. Where a system has no such time (Windows, some network
drives), a file that is rewritten with its old size and time is noticed only by reading it again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from fewshot_i2v.data.video.cache_files import DIGESTS_NAME
from fewshot_i2v.data.video.clip_disk import check_disk_of
from fewshot_i2v.data.video.container import check_regular_file, identify_container
from fewshot_i2v.data.video.frame_folder import is_frame_folder, list_frame_files, stat_frame_files
from fewshot_i2v.errors import VideoUnreadable
from fewshot_i2v.utils.input_files import open_regular

_LINE = re.compile(r"^([0-9a-f]{32}) ([0-9a-f]{64}) [0-9a-f]{8}$", re.MULTILINE)
_MAX_BYTES = 1 << 28
_MAX_TRIES = 3
# two writes within one tick of the clock leave the same time: it tells nothing until it has passed
_TICK, _COARSE_TICK = 100_000_000, 2_000_000_000

CHANGED_WHILE_READ = "changed while it was read: run again"


class FileStamp(NamedTuple):
    """State of a file as the system reports it, without reading the file.

    Attributes:
        token: equal only if nothing was written in between.
        settled: whether a later write is sure to change the token.
        size: bytes; of a folder, those of its pictures.
    """

    token: str
    settled: bool
    size: int = 0


def clip_stamp(path: Path) -> FileStamp:
    """Return the stamp of a clip, a file or a folder of pictures, without reading it.

    Raises:
        VideoUnreadable: if there is no such file, it is no regular file, or the folder is no clip.
    """
    if not is_frame_folder(path):
        return file_stamp(path, check_regular_file(path))
    stamps = [file_stamp(*picture) for picture in stat_frame_files(path)]
    tokens, settled, sizes = zip(*stamps, strict=True)
    token = hashlib.sha256("".join(tokens).encode()).hexdigest()[:32]
    return FileStamp(token, all(settled), sum(sizes))


def file_stamp(path: Path, status: os.stat_result) -> FileStamp:
    """Return the stamp of a file that has this status."""
    changed_ns = status.st_mtime_ns if os.name == "nt" else status.st_ctime_ns
    facts = status.st_ino, status.st_size, status.st_mtime_ns, changed_ns
    joined = "\0".join((*map(str, facts), os.path.abspath(path)))  # noqa: PTH100 - keeps links
    token = hashlib.sha256(joined.encode(errors="surrogateescape")).hexdigest()[:32]
    tick = _TICK if changed_ns % 1_000_000_000 else _COARSE_TICK
    return FileStamp(token, time.time_ns() - changed_ns > tick, status.st_size)


def content_digest(path: Path) -> str:
    """Return the SHA-256 of a clip's content, 64 hexadecimal digits.

    Of a folder it is that of the digests of its pictures in their order, whatever their names.

    Raises:
        VideoUnreadable: if it cannot be read, or is no video container; the latter is raised before
            a large file is read in full.
    """
    if is_frame_folder(path):
        digests = "".join(_file_digest(file) for file in list_frame_files(path))
        return hashlib.sha256(digests.encode()).hexdigest()
    identify_container(path)
    return _file_digest(path)


def _file_digest(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        check_disk_of(path, error)
        raise VideoUnreadable(path, f"cannot be read: {error.strerror}") from error


class ContentDigests:
    """The content digests of clips, each computed once.

    Args:
        folder: its `digests.txt` stores them; None: only what this object has read.
        trust: whether to use the digests in that file. New digests are added to it in any case.

    Attributes:
        unsaved: digests that are not in the file yet, by the stamp token from before the read.
    """

    def __init__(self, folder: Path | None = None, *, trust: bool = True) -> None:
        self._file, self._trust = folder and folder / DIGESTS_NAME, trust
        self._in_file: dict[str, str] = {}
        self._digest_by_token: dict[str, str] = {}
        self._n_bytes_read = -1
        self.unsaved: dict[str, str] = {}
        self._read_file()

    def _read_file(self) -> None:
        """Reads the file if it has grown since the last time."""
        if self._file is None:
            return
        with contextlib.suppress(OSError):
            size = self._file.stat().st_size
            if size == self._n_bytes_read:
                return
            self._n_bytes_read = size
            self._in_file |= _read_digests(self._file)
            if self._trust:
                self._digest_by_token = self._in_file | self._digest_by_token

    def _digest_of(self, stamp: FileStamp) -> str | None:
        """Returns the digest of a clip, also where another process has just added it."""
        if stamp.token not in self._digest_by_token:
            self._read_file()
        return self._digest_by_token.get(stamp.token)

    def lookup(self, path: Path) -> str | None:
        """Return a clip's digest, None if it must be read first; errors as `clip_stamp`."""
        return self._digest_of(clip_stamp(path))

    def get(self, path: Path) -> str:
        """Return the digest of a clip; the clip is read if necessary.

        Raises:
            VideoUnreadable: if it cannot be read, or keeps changing.
        """
        for _ in range(_MAX_TRIES):
            stamp = clip_stamp(path)
            if known := self._digest_of(stamp):
                return known
            digest = content_digest(path)
            if clip_stamp(path).token == stamp.token:
                if stamp.settled:
                    self.add({stamp.token: digest})
                return digest
        raise VideoUnreadable(path, CHANGED_WHILE_READ)

    def add(self, digests: Mapping[str, str]) -> None:
        """Add digests that were computed here or in another process."""
        self._digest_by_token |= digests
        self.unsaved |= digests

    def save(self) -> None:
        """Append the unsaved digests to the file; unwritable ones are computed again next time."""
        # clips that are read again, because the file is not trusted, mostly have the same digest
        new = {t: digest for t, digest in self.unsaved.items() if self._in_file.get(t) != digest}
        if self._file is None or not new:
            return
        # in front, since a process that was killed may have left half a line
        lines = "".join(f"\n{_format_line(*pair)}" for pair in new.items()) + "\n"
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("ab", buffering=0) as file:
                file.write(lines.encode())
            self._in_file |= new
            self.unsaved = {}


def _read_digests(file: Path) -> dict[str, str]:
    """Read the digests that earlier processes have saved; damaged lines are skipped."""
    with contextlib.suppress(OSError), open_regular(file) as stream:
        content = stream.read(_MAX_BYTES).decode("ascii", "replace")
        return {
            match[1]: match[2]
            for match in _LINE.finditer(content)
            if _format_line(match[1], match[2]) == match[0]
        }
    return {}


def _format_line(token: str, digest: str) -> str:
    """Format a token and a digest with a checksum, since writers may overwrite each other."""
    return f"{token} {digest} {zlib.crc32(f'{token} {digest}'.encode()):08x}"
