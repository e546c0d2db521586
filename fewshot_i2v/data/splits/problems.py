"""Collects what is wrong with a split file, so that one reading names all of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from fewshot_i2v.errors import SplitError, UnknownNameError

_SHOWN = 20
_CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
_BAD_TEXT = re.compile(f"[{_CONTROL}]")
# absolute, a drive, an empty, "." or ".." part: on any system, so both slashes separate
_BAD_PATH = re.compile(
    rf"^[/\\]|^[A-Za-z]:|(?:^|[/\\])\.{{0,2}}(?:[/\\]|$)|[{_CONTROL}]",
)


class Problems:
    """What is wrong with one file so far.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: list[str] = []

    def add(self, key: str, message: str) -> None:
        """Note a problem with the value under `key` (dotted, with list positions in brackets)."""
        self.found.append(f"{key}: {message}")

    def unknown(self, key: str, given: Iterable[str], known: Iterable[str]) -> None:
        """Note every name in `given` that is not in `known`; `key` is where they stand."""
        names = list(known)
        for name in given:
            if name not in names:
                self.add(key, str(UnknownNameError("key", name, names)))

    def stop(self) -> None:
        """Raise if anything was noted.

        Raises:
            SplitError: with the file and every problem (the first twenty).
        """
        if not self.found:
            return
        if len(self.found) == 1:
            raise SplitError(f"{self.path}: {self.found[0]}")
        lines = [f"{self.path}: {len(self.found)} problems", *self.found[:_SHOWN]]
        if len(self.found) > _SHOWN:
            lines.append(f"... and {len(self.found) - _SHOWN} more")
        raise SplitError("\n  ".join(lines))


def text_problem(name: str) -> str | None:
    """What is wrong with a class or group name, or None."""
    if not name.strip():
        return "empty name"
    bad = _BAD_TEXT.search(name)
    if bad:
        return f"{name!r} contains the control character U+{ord(bad.group()):04X}"
    return None


def path_problem(name: str) -> str | None:
    """What is wrong with a clip's name (a path relative to the split's root), or None."""
    bad = _BAD_PATH.search(name)
    if bad is None:
        return None
    if text_problem(name):
        return text_problem(name)
    return f"{name!r} is not a plain relative path; expected folder/file without '.' or '..' parts"
