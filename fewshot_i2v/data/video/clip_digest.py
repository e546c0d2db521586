"""Which clip a file is: its content. What was read once is not read again until it is written to.

The system's time of change (ctime) moves with every write and every renaming, also where somebody
sets the time of modification back. Together with number, size and time of modification of the file
it tells that nothing was written since. Where a system has no such time (Windows, some network
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

from fewshot_i2v.data.video.container import identify, regular_file
from fewshot_i2v.data.video.frame_folder import frame_files, is_folder, pictures
from fewshot_i2v.errors import VideoUnreadable
from fewshot_i2v.utils.input_files import open_regular

_LINE = re.compile(r"^([0-9a-f]{32}) ([0-9a-f]{64}) [0-9a-f]{8}$", re.MULTILINE)
_MOST_BYTES = 1 << 28
_TRIES = 3
# two writes within one tick of the clock leave the same time: it tells nothing until it has passed
_TICK, _COARSE_TICK = 100_000_000, 2_000_000_000


CHANGED = "changed while it was read: run again"


class Look(NamedTuple):
    """What the system says of a file, without reading it.

    Attributes:
        token: equal only where nothing was written in between.
        settled: whether a later write is sure to change the token.
        size: bytes; of a folder, those of its pictures.
    """

    token: str
    settled: bool
    size: int = 0


def look(path: Path) -> Look:
    """Look at a clip without reading it.

    Args:
        path: the clip, a file or a folder of pictures; symbolic links are followed.

    Raises:
        VideoUnreadable: if there is no such file, it is no regular file, or the folder is no clip.
    """
    if not is_folder(path):
        return look_of(path, regular_file(path))
    looks = [look_of(*picture) for picture in pictures(path)]
    token = hashlib.sha256("".join(each.token for each in looks).encode()).hexdigest()[:32]
    return Look(token, all(each.settled for each in looks), sum(each.size for each in looks))


def look_of(path: Path, status: os.stat_result) -> Look:
    """The look of a file that has this status."""
    changed = status.st_mtime_ns if os.name == "nt" else status.st_ctime_ns
    facts = status.st_ino, status.st_size, status.st_mtime_ns, changed
    text = "\0".join((*map(str, facts), os.path.abspath(path)))  # noqa: PTH100 - keeps links
    token = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:32]
    tick = _TICK if changed % 1_000_000_000 else _COARSE_TICK
    return Look(token, time.time_ns() - changed > tick, status.st_size)


def content_digest(path: Path) -> str:
    """SHA-256 of a clip's content, 64 hexadecimal digits.

    Args:
        path: the clip, a file or a folder of pictures; symbolic links are followed.

    Returns:
        Of a folder, that of the digests of its pictures in their order, whatever their names.

    Raises:
        VideoUnreadable: if it cannot be read, or is no video container: that is said before all of
            a large file is read.
    """
    if is_folder(path):
        digests = "".join(_digest(file) for file in frame_files(path))
        return hashlib.sha256(digests.encode()).hexdigest()
    identify(path)
    return _digest(path)


def _digest(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise VideoUnreadable(path, f"cannot be read: {error.strerror}") from error


class Digests:
    """The content digests of clips, each taken once.

    Args:
        store: folder whose `digests.txt` remembers them; None: only what this object has read.
        trust: whether to use what that file says. It is added to in any case.

    Attributes:
        new: what was read and is not in the file yet: digests by the token of the look before.
    """

    def __init__(self, store: Path | None = None, *, trust: bool = True) -> None:
        self._file = store and store / "digests.txt"
        self._known = _read(self._file) if self._file and trust else {}
        self.new: dict[str, str] = {}

    def known(self, path: Path) -> str | None:
        """The digest of a clip, or None where it has to be read for that; errors as `look`."""
        return self._known.get(look(path).token)

    def of(self, path: Path) -> str:
        """The digest of a clip, read if need be.

        Raises:
            VideoUnreadable: if it cannot be read, or does not keep still.
        """
        for _ in range(_TRIES):
            seen = look(path)
            if seen.token in self._known:
                return self._known[seen.token]
            digest = content_digest(path)
            if look(path).token == seen.token:
                if seen.settled:
                    self.learn({seen.token: digest})
                return digest
        raise VideoUnreadable(path, CHANGED)

    def learn(self, new: Mapping[str, str]) -> None:
        """Remember what was read, here or in another process."""
        self._known |= new
        self.new |= new

    def save(self) -> None:
        """Add what is new to the file; what cannot be written is found out again next time."""
        if self._file is None or not self.new:
            return
        # in front, since a process that was killed may have left half a line
        lines = "".join(f"\n{_line(*pair)}" for pair in self.new.items()) + "\n"
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("ab", buffering=0) as file:
                file.write(lines.encode())
            self.new = {}


def _read(file: Path) -> dict[str, str]:
    """What earlier processes have noted; a line that is damaged counts as none."""
    with contextlib.suppress(OSError), open_regular(file) as opened:
        text = opened.read(_MOST_BYTES).decode("ascii", "replace")
        return {m[1]: m[2] for m in _LINE.finditer(text) if _line(m[1], m[2]) == m[0]}
    return {}


def _line(token: str, digest: str) -> str:
    """Both with a checksum: writers on several machines may write over each other."""
    return f"{token} {digest} {zlib.crc32(f'{token} {digest}'.encode()):08x}"
