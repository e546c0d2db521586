"""Tells a clip that cannot be read from a disk of clips that is away.

A clip that is missing or damaged fails its episodes, which are recorded. Where the disk does not
answer, every clip looks like that, and failures of a minute would stay in the records.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fewshot_i2v.errors import AWAY_ERRNOS, ClipDiskError, VideoUnreadable
from fewshot_i2v.utils.patience import WAIT_SECONDS, Patience

R = TypeVar("R")
_Prepare = Callable[[Sequence[Path]], dict[Path, VideoUnreadable]]

_ADVICE = "Make it available again, and run the same command again: it goes on where it stopped"
_EMPTY = "is empty"


def check_disk_of(path: Path, error: BaseException) -> None:
    """Refuses to blame a clip for an error of its disk.

    An input error (EIO) is that of a single damaged file where its folder can still be listed.

    Args:
        path: the clip, or a picture of it.
        error: of the operating system, when it was read.

    Raises:
        ClipDiskError: naming the folder whose disk is away.
    """
    code = error.errno if isinstance(error, OSError) else None
    if code in AWAY_ERRNOS or (code == errno.EIO and not _can_list(path.parent)):
        reason = os.strerror(int(code or 0))
        raise ClipDiskError(
            f"{path}: {reason} (errno {code}): the disk of {path.parent} is away or broken. "
            f"{_ADVICE}"
        ) from error


@dataclass
class ClipDisk:
    """The disk of the clips of a run: says whether it is away, and waits for it.

    Attributes:
        root: folder of all clips; None: the split has none.
        patience: how long reading waits for it; by default not at all.
    """

    root: Path | None
    patience: Patience = Patience()  # noqa: RUF009 - frozen

    def wait_when_away(self, *, has_clips: bool = False) -> None:
        """Lets reading wait from now on, unless the root is empty now: that is a wrong folder.

        Args:
            has_clips: whether another process has seen clips there, so that it is no wrong folder.
        """
        if has_clips or self.root is None or _why_without_clips(self.root) != _EMPTY:
            self.patience = Patience(WAIT_SECONDS)

    def check(self) -> None:
        """Refuses to blame clips that do not exist because the folder of all clips is away.

        Raises:
            ClipDiskError: when there is no such folder, or it is empty, as where a disk is not
                mounted.
        """
        if self.root is not None and (problem := _why_without_clips(self.root)):
            raise ClipDiskError(
                f"{self.root}: {problem}: no clip of the split is there; its disk may be away. "
                f"{_ADVICE}"
            )

    def read(self, path: Path, read: Callable[[], R]) -> R:
        """Reads something of a clip; waits while its disk is away.

        Args:
            path: of the clip.
            read: reads it; may be called again.

        Raises:
            VideoUnreadable: when the clip is to blame.
            ClipDiskError: when the disk is still away in the end.
        """
        return self.patience.read_clips(path, lambda: self._read_twice(read))

    def decode(self, prepare: _Prepare, paths: Sequence[Path]) -> dict[Path, VideoUnreadable]:
        """Decodes clips; waits while their disk is away.

        Args:
            prepare: decodes the clips at paths, and returns those that cannot be read.
            paths: of the clips.

        Returns:
            The errors of the clips that are to blame for them.

        Raises:
            ClipDiskError: when the disk is still away in the end.
        """
        named = self.root or next(iter(paths), Path())
        return self.patience.read_clips(named, lambda: self._decode_twice(prepare, paths))

    def _decode_twice(
        self, prepare: _Prepare, paths: Sequence[Path]
    ) -> dict[Path, VideoUnreadable]:
        """Decodes clips, and once more those that did not exist, as `_read_twice` does."""
        failures = prepare(paths)
        if failures:
            self.check()
        missing = [path for path, error in failures.items() if was_missing(error)]
        if not missing:
            return failures
        again = prepare(missing)
        self.check()
        return {
            path: again.get(path, error)
            for path, error in failures.items()
            if path in again or not was_missing(error)
        }

    def _read_twice(self, read: Callable[[], R]) -> R:
        """Reads again what did not exist: the disk may have come back just before `check`."""
        try:
            return read()
        except VideoUnreadable as error:
            self.check()
            if not was_missing(error):
                raise
        try:
            return read()
        except VideoUnreadable:
            self.check()
            raise


def was_missing(error: VideoUnreadable) -> bool:
    """Whether a clip could not be read because a file did not exist."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, FileNotFoundError):
        cause = cause.__cause__
    return cause is not None


def _why_without_clips(root: Path) -> str:
    """Says why there are no clips in the folder of all clips; empty where there may be some."""
    try:
        with os.scandir(root) as entries:
            return _EMPTY if next(entries, None) is None else ""
    except FileNotFoundError:
        return "is absent"
    except OSError as error:
        return error.strerror or str(error)


def _can_list(folder: Path) -> bool:
    try:
        os.scandir(folder).close()
    except OSError:
        return False
    return True
