"""The error family: what went wrong, with which value, and what to do next.

Every error a user can cause derives from `FewshotError` and is shown by the command line as its
message alone. `exit_code` is the exit status of the command that raised it:

| code | meaning |
|---|---|
| 0 | done |
| 1 | failed while running |
| 2 | wrong use, configuration or data |
| 3 | done, but with failed episodes within `--max-failed` |
| 4 | stopped: more failed episodes than `--max-failed` |
| 130, 143 | interrupted by Ctrl-C, terminated |
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Sequence
from pathlib import Path

_NAMES = ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS")
_DISK = frozenset(getattr(errno, name) for name in _NAMES if hasattr(errno, name))


class FewshotError(Exception):
    """Base of all errors that are reported without a traceback."""

    exit_code = 1


class UsageError(FewshotError):
    """Wrong use, configuration or data: nothing was run."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration value that cannot be used."""


class SplitError(UsageError):
    """A split file that cannot be used."""


class EpisodeError(UsageError):
    """An episode that the split cannot give."""


class EncoderError(UsageError):
    """An encoder that cannot be loaded, or lacks what was asked of it."""


class AdapterError(UsageError):
    """An adapter that cannot be built for this encoder, or a state that does not fit it."""


class HeadError(UsageError):
    """A head that cannot be used as asked."""


class RecordError(UsageError):
    """A run folder that is damaged or belongs to another run."""


class CheckpointError(UsageError):
    """A saved adapter that is damaged, or does not fit what it is loaded for."""


class ExportError(FewshotError):
    """An adapter that cannot be written, or would not be what the run recorded."""


class DiskError(FewshotError):
    """A file that the disk does not take: it is full, broken or read-only."""

    @staticmethod
    def is_behind(error: BaseException | None) -> bool:
        """Whether the disk is the reason of an error, and not the name that a user gave."""
        return isinstance(error, OSError) and error.errno in _DISK


class VideoUnreadable(FewshotError):  # noqa: N818 - a state of a file, and the name users see
    """A clip whose frames cannot be had.

    Args:
        path: the file.
        reason: what is wrong with it, in words.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type[VideoUnreadable], tuple[str, str]]:
        return (type(self), (self.path, self.reason))


class TuningError(FewshotError):
    """Fine-tuning that cannot go on, such as a loss that is no longer finite."""


class TooManyFailuresError(FewshotError):
    """More episodes failed than the run allows."""

    exit_code = 4


class UnknownNameError(UsageError):
    """A name that nothing answers to.

    Args:
        kind: what was looked for, in the singular ("adapter", "config key", ...).
        name: the name given.
        known: the names that exist.
        hint: one more sentence, such as where new ones can be put.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        names = sorted(known)
        near = _near(name, names)
        parts = [f"unknown {kind} {name!r}"]
        if near:
            parts.append("did you mean " + " or ".join(repr(n) for n in near) + "?")
        shown = ", ".join(names[:20]) + (f", ... ({len(names)} in all)" if len(names) > 20 else "")
        parts.append(f"known: {shown}" if names else "none exist")
        super().__init__("; ".join(parts) + (f". {hint}" if hint else ""))
        self.kind, self.name, self.known = kind, name, names


def _near(name: str, known: Sequence[str]) -> list[str]:
    """The names that one most likely means, whatever the case of its letters."""
    folded = {other.casefold(): other for other in reversed(known)}
    close = difflib.get_close_matches(name.casefold(), list(folded), n=3, cutoff=0.6)
    return [folded[key] for key in close]
