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

_MAX_LISTED = 20
_MAX_SHOWN_ERRORS = 5
_MAX_NEAREST, _MIN_BEGINNING = 3, 3
_DISK_ERROR_NAMES = ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS")
_AWAY_ERROR_NAMES = (
    *("ESTALE", "ETIMEDOUT", "ENOTCONN", "ECONNRESET"),
    *("EHOSTDOWN", "EHOSTUNREACH", "ENETUNREACH", "EREMOTEIO"),
)


def _errnos(names: Iterable[str]) -> frozenset[int]:
    """Numbers of errors by their names, without those that the system does not know."""
    return frozenset(getattr(errno, name) for name in names if hasattr(errno, name))


_DISK_ERRNOS = _errnos(_DISK_ERROR_NAMES)
AWAY_ERRNOS = _errnos(_AWAY_ERROR_NAMES)
"""Numbers of the errors of a file whose disk, such as one of a server, does not answer."""


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
    """An episode the split does not allow."""


class EncoderError(UsageError):
    """An encoder that cannot be loaded, or lacks a required feature."""


class AdapterError(UsageError):
    """An adapter that cannot be built for this encoder, or a state that does not fit it."""


class HeadError(UsageError):
    """A head that cannot be used as asked."""


class RecordError(UsageError):
    """A run folder that is damaged or belongs to another run."""


class CheckpointError(UsageError):
    """A saved adapter that is damaged, or does not match its use."""


class ExportError(FewshotError):
    """An adapter that cannot be written, or differs from what the run recorded."""


class DiskError(FewshotError):
    """A file that a full, broken or read-only disk did not take, or one whose disk is away."""

    @staticmethod
    def is_cause_of(error: BaseException | None) -> bool:
        """Whether the disk caused an error, and not the path that a user chose."""
        return isinstance(error, OSError) and error.errno in _DISK_ERRNOS


class ClipDiskError(DiskError):
    """A disk of clips, or of decoded clips, that is away: no clip is to blame."""


class RecordWriteError(FewshotError):
    """A file of the run folder cannot be written, such as on a full disk.

    Args:
        path: the file.
        error: the error of the operating system.
    """

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(
            f"{path}: cannot be written: {error.strerror or error} (errno {error.errno}). Finished "
            "episodes are saved: once the cause is gone, the same command continues after them"
        )
        self.path = path


class VideoUnreadable(FewshotError):  # noqa: N818 - a state of a file, and the name users see
    """A clip whose frames cannot be read.

    Args:
        path: the file.
        reason: what is wrong with it, in words.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason

    @classmethod
    def joined(cls, failures: Sequence[VideoUnreadable]) -> VideoUnreadable:
        """Joins the errors of several clips to one, of the first of them."""
        first_error, *remaining = failures
        if not remaining:
            return first_error
        shown = "; ".join(map(str, remaining[:_MAX_SHOWN_ERRORS])) + "; ..." * (
            len(remaining) > _MAX_SHOWN_ERRORS
        )
        reason = f"{first_error.reason}; {len(remaining)} more cannot be read: {shown}"
        return VideoUnreadable(first_error.path, reason)

    def __reduce__(self) -> tuple[type[VideoUnreadable], tuple[str, str]]:
        return (type(self), (self.path, self.reason))


class VideoChangedError(VideoUnreadable):
    """A clip whose content is no longer what a run recorded of it: results would name another."""


class TuningError(FewshotError):
    """Fine-tuning that cannot continue, such as a loss that is not finite."""


class DeviceMemoryError(TuningError):
    """An episode or clip that is too large for the free memory of the device."""


class EngineError(FewshotError):
    """Worker processes that cannot be started, or end again and again."""


class TooManyFailuresError(FewshotError):
    """More episodes failed than the run allows."""

    exit_code = 4


class UnknownNameError(UsageError):
    """A name that does not exist.

    Args:
        kind: the kind of name, in the singular ("adapter", "config key", ...).
        name: the unknown name.
        existing_names: the names that exist.
        hint: one more sentence, such as where to add new ones.
    """

    def __init__(self, kind: str, name: str, existing_names: Iterable[str], hint: str = "") -> None:
        names = sorted(existing_names)
        suggestion = suggest_names(name, names)
        clauses = [f"unknown {kind} {name!r}", *filter(None, [suggestion])]
        self.short_text = "; ".join(clauses)
        """Without the list of all names, for messages about several."""
        listed_names = ", ".join(names[:_MAX_LISTED])
        if len(names) > _MAX_LISTED:
            listed_names += f", ... ({len(names)} in all)"
        if not suggestion or len(names) <= _MAX_LISTED:
            clauses.append(f"known: {listed_names}" if names else "none exist")
        text = "; ".join(clauses)
        stop = "" if text.endswith("?") else "."
        super().__init__(f"{text}{stop} {hint}" if hint else text)
        self.kind, self.name, self.existing_names = kind, name, names
        self.hint = hint


def suggest_names(name: str, existing_names: Sequence[str]) -> str:
    """Suggest the most similar names, ignoring case; "" where none is similar.

    Names that begin so come first, the shortest before the others.

    >>> suggest_names("aimm", ["aim", "frozen"])
    "did you mean 'aim'?"
    """
    by_folded_name = {candidate.casefold(): candidate for candidate in reversed(existing_names)}
    folded = name.casefold()
    longer = [key for key in by_folded_name if key.startswith(folded)]
    begin_so = sorted(longer, key=len) if len(folded.lstrip("-")) >= _MIN_BEGINNING else []
    similar = difflib.get_close_matches(folded, list(by_folded_name), n=_MAX_NEAREST, cutoff=0.6)
    matches = list(dict.fromkeys([*begin_so, *similar]))[:_MAX_NEAREST]
    nearest = " or ".join(repr(by_folded_name[key]) for key in matches)
    return f"did you mean {nearest}?" if nearest else ""
