"""Read files that a user names: regular files only, checked before opening, up to a size limit.

A named pipe would block for ever, a device never ends, and a few kilobytes can claim to be
gigabytes. Refused files raise an `OSError` with a message like those of the system.
"""

from __future__ import annotations

import errno
import io
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TextIO

MAX_JSON_VALUES = 2_000_000
"""Values in a JSON file: some 100 bytes of memory each. A training names every clip it saw."""

MAX_LINES = 10_000_000
"""Lines of a list; the largest data sets of video clips have a few million."""
_BLOCK_BYTES = 1 << 20


class NotAFileError(OSError):
    """The path is not a regular file."""


def check_regular_file(path: str | Path) -> os.stat_result:
    """Check that a path is a regular file, without opening it.

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
        raise NotAFileError(errno.EINVAL, f"is {_file_kind(status.st_mode)}, not a file", str(path))
    return status


def _file_kind(mode: int) -> str:
    kinds = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    )
    return next((name for is_kind, name in kinds if is_kind(mode)), "something special")


def open_regular(path: str | Path) -> io.BufferedReader:
    """Open a regular file for reading.

    Raises:
        OSError: as `check_regular_file`, or by the system.
    """
    check_regular_file(path)
    # what was put there since then is closed again, and a named pipe does not block the opening
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise NotAFileError(errno.EINVAL, f"is {_file_kind(mode)}, not a file", str(path))
    return os.fdopen(descriptor, "rb")


def read_regular(path: str | Path, max_bytes: int) -> bytes:
    """Read the content of a regular file.

    Args:
        path: the file.
        max_bytes: maximum size.

    Raises:
        OSError: as `open_regular`, and when it is larger.
    """
    with open_regular(path) as file:
        fits = os.fstat(file.fileno()).st_size <= max_bytes
        data = file.read(max_bytes + 1) if fits else b""
    if not fits or len(data) > max_bytes:
        raise OSError(
            errno.EFBIG, f"has more than {max_bytes} bytes, the most that is read", str(path)
        )
    return data


def read_text(path: str | Path, max_bytes: int) -> str:
    """Read a regular file of UTF-8 text, with or without a byte order mark.

    Raises:
        OSError: as `read_regular`, and when it is not UTF-8.
    """
    try:
        return read_regular(path, max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OSError(errno.EILSEQ, "is not text in UTF-8; save it as UTF-8", str(path)) from error


def open_lines(path: str | Path) -> TextIO:
    """Open a regular file of UTF-8 lines, such as a CSV, for reading.

    Raises:
        OSError: as `open_regular`, and when it has too many lines, or one that is too long.
    """
    file = open_regular(path)
    n_lines = 0
    while block := file.read(_BLOCK_BYTES):
        n_lines += block.count(b"\n")
        if len(block) == _BLOCK_BYTES and not (b"\n" in block or b"\r" in block):
            problem = f"has a line of more than {_BLOCK_BYTES} bytes, the most that is read"
        elif n_lines > MAX_LINES:
            problem = f"has more than {MAX_LINES} lines, the most that is read"
        else:
            continue
        file.close()
        raise OSError(errno.EFBIG, problem, str(path))
    file.seek(0)
    return io.TextIOWrapper(file, encoding="utf-8-sig", newline="")


def count_json_values(text: bytes | str) -> int:
    """Count the values of a JSON text, or a few more: commas and brackets in strings count too."""
    data = text if isinstance(text, bytes) else text.encode()
    return sum(map(data.count, (b",", b"[", b"{")))


def parse_json(
    data: bytes | str,
    parse_constant: Callable[[str], object] | None = None,
    object_pairs_hook: Callable[[list[tuple[str, Any]]], object] | None = None,
) -> Any:  # noqa: ANN401 - whatever it holds
    """Parse JSON as `json.loads` does, but never use much more memory than its text.

    Raises:
        ValueError: for invalid JSON, too deep nesting, or too many values.
    """
    if count_json_values(data) > MAX_JSON_VALUES:
        raise ValueError(f"has more than {MAX_JSON_VALUES} values, the most that is read")
    try:
        return json.loads(data, parse_constant=parse_constant, object_pairs_hook=object_pairs_hook)
    except RecursionError as error:
        raise ValueError("is nested too deep") from error


def refuse_constant(constant: str) -> NoReturn:
    """Refuse NaN and infinity, as `parse_constant` of `json.loads`; raises ValueError."""
    raise ValueError(f"{constant} is not a number that JSON has")
