"""Collects all problems of a split file, so that one error names them all."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from fewshot_i2v.errors import SplitError, UnknownNameError

_MAX_SHOWN = 20
_CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
_BAD_TEXT = re.compile(f"[{_CONTROL}]")
BAD_PATH_PATTERN = r"^[/\\]|^[A-Za-z]:|(?:^|[/\\])\.{0,2}(?:[/\\]|$)"
"""Absolute, a drive, an empty, "." or ".." part: on any system, so both slashes separate."""
_BAD_PATH = re.compile(f"{BAD_PATH_PATTERN}|[{_CONTROL}]")


class ProblemList:
    """The problems of one file so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.messages: list[str] = []

    def add(self, key: str, message: str) -> None:
        """Add a problem with the value at `key` (dotted, list positions in brackets)."""
        self.messages.append(f"{key}: {message}")

    def add_unknown(self, key: str, provided: Iterable[str], allowed: Iterable[str]) -> None:
        """Add a problem at `key` for every name in `provided` that is not in `allowed`."""
        allowed_names = list(allowed)
        for name in provided:
            if name not in allowed_names:
                self.add(key, str(UnknownNameError("key", name, allowed_names)))

    def raise_if_any(self) -> None:
        """Raise if there are problems.

        Raises:
            SplitError: with the file and every problem (the first twenty).
        """
        if not self.messages:
            return
        if len(self.messages) == 1:
            raise SplitError(f"{self.path}: {self.messages[0]}")
        lines = [f"{self.path}: {len(self.messages)} problems", *self.messages[:_MAX_SHOWN]]
        if len(self.messages) > _MAX_SHOWN:
            lines.append(f"... and {len(self.messages) - _MAX_SHOWN} more")
        raise SplitError("\n  ".join(lines))


def compose_accents(text: str) -> str:
    """Return a text in one spelling of accents: file systems may treat two spellings as one."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def text_problem(name: str) -> str | None:
    """Return what is wrong with a class or group name, or None."""
    if not name.strip():
        return "empty name"
    match = _BAD_TEXT.search(name)
    if match:
        return f"{name!r} contains the control character U+{ord(match.group()):04X}"
    return None


def path_problem(name: str) -> str | None:
    """Return what is wrong with a clip's name (a path relative to the root), or None."""
    match = _BAD_PATH.search(name)
    if match is None:
        return None
    if text_problem(name):
        return text_problem(name)
    return f"{name!r} is not a plain relative path; expected folder/file without '.' or '..' parts"
