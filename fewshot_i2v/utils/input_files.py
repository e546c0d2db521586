"""Files that a user names: ordinary files, looked at before they are opened, read up to a limit.

A named pipe would block for ever, a device never ends, and a few kilobytes can say that they are
gigabytes. What is refused here is an `OSError` that says so in words, like those of the system.
"""

from __future__ import annotations

import errno
import io
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

MOST_JSON_VALUES = 2_000_000
"""Values in a JSON file: some 100 bytes of memory each. A training names every clip it saw."""

MOST_LINES = 10_000_000
"""Lines of a list; the largest data sets of video clips have a few million."""
_BLOCK = 1 << 20


class NotAFileError(OSError):
    """What has this name is no ordinary file."""


def regular_file(path: str | Path) -> os.stat_result:
    """Make sure that there is an ordinary file, without opening it.

    Args:
        path: the file; symbolic links are followed.

    Returns:
        Its size, times and so on.

    Raises:
        OSError: if it does not exist.
        NotAFileError: if it is a folder, a named pipe, a device, a socket.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - text is a path too
    except ValueError as error:
        reason = "cannot be the name of a file: it has a NUL character"
        raise NotAFileError(errno.EINVAL, reason, str(path)) from error
    if not stat.S_ISREG(status.st_mode):
        raise NotAFileError(errno.EINVAL, f"is {_kind(status.st_mode)}, not a file", str(path))
    return status


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    )
    return next((name for test, name in kinds if test(mode)), "something special")


def open_regular(path: str | Path) -> io.BufferedReader:
    """Open an ordinary file for reading.

    Raises:
        OSError: as `regular_file`, or when the system refuses.
    """
    regular_file(path)
    # what was put there since then is closed again, and a named pipe does not block the opening
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    opened = os.open(path, flags)
    mode = os.fstat(opened).st_mode
    if not stat.S_ISREG(mode):
        os.close(opened)
        raise NotAFileError(errno.EINVAL, f"is {_kind(mode)}, not a file", str(path))
    return os.fdopen(opened, "rb")


def read_regular(path: str | Path, most: int) -> bytes:
    """The content of an ordinary file.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        OSError: as `open_regular`, and when it is larger.
    """
    with open_regular(path) as file:
        whole = os.fstat(file.fileno()).st_size <= most
        data = file.read(most + 1) if whole else b""
    if not whole or len(data) > most:
        raise OSError(errno.EFBIG, f"has more than {most} bytes, the most that is read", str(path))
    return data


def read_text(path: str | Path, most: int) -> str:
    """The content of an ordinary file of UTF-8 text, with a byte order mark or without.

    Raises:
        OSError: as `read_regular`, and when it is no such text.
    """
    try:
        return read_regular(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OSError(errno.EILSEQ, "is not text in UTF-8; save it as UTF-8", str(path)) from error


def open_lines(path: str | Path) -> TextIO:
    """Open an ordinary file of lines in UTF-8, such as a CSV, for reading.

    Raises:
        OSError: as `open_regular`, and when it has more lines, or a longer one, than are read.
    """
    file = open_regular(path)
    lines = 0
    while block := file.read(_BLOCK):
        lines += block.count(b"\n")
        if len(block) == _BLOCK and not (b"\n" in block or b"\r" in block):
            problem = f"has a line of more than {_BLOCK} bytes, the most that is read"
        elif lines > MOST_LINES:
            problem = f"has more than {MOST_LINES} lines, the most that is read"
        else:
            continue
        file.close()
        raise OSError(errno.EFBIG, problem, str(path))
    file.seek(0)
    return io.TextIOWrapper(file, encoding="utf-8-sig", newline="")


def parse_json(data: bytes | str, parse_constant: Callable[[str], object] | None = None) -> Any:  # noqa: ANN401 - whatever it holds
    """Plain values from JSON, as `json.loads`, but never much more memory than its text has.

    Raises:
        ValueError: for what is no JSON, is nested too deep, or has more values than are read.
    """
    text = data if isinstance(data, bytes) else data.encode()
    if sum(map(text.count, (b",", b"[", b"{"))) > MOST_JSON_VALUES:
        raise ValueError(f"has more than {MOST_JSON_VALUES} values, the most that is read")
    try:
        return json.loads(data, parse_constant=parse_constant)
    except RecursionError as error:
        raise ValueError("is nested too deep") from error
