"""What is known of the files below a root, so that a second check reads only what is new."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewshot_i2v._files import read_regular
from fewshot_i2v.episodes._whole_file import write_whole
from fewshot_i2v.errors import UsageError

VERSION = 1
"""Raised when what an older program noted must not be used any more."""
_MOST_BYTES = 256 << 20


@dataclass
class Known:
    """One file.

    Attributes:
        size: bytes.
        changed: time of change, in nanoseconds.
        frames: how many it shows, once read to its end.
        sample: digest of some of its bytes, once taken.
        digest: digest of all of them, once taken.
    """

    size: int
    changed: int
    frames: int | None = None
    sample: str | None = None
    digest: str | None = None


class Memory:
    """Notes on the files of one root, in one file per root.

    What could not be read is not noted: the next check tries again. A file of notes that is damaged
    counts as none; it holds nothing that cannot be found out again.

    Args:
        folder: where the notes of all roots are.
        root: the folder of the clips.
        options: how clips are read: notes with other options are not used.
    """

    def __init__(self, folder: Path, root: Path, options: str) -> None:
        self._home = os.path.realpath(root)
        key = f"{VERSION}\0{options}\0{self._home}".encode(errors="surrogateescape")
        self.file = folder / f"{hashlib.sha256(key).hexdigest()}.json"
        self._files = self._load()
        self._changed = False

    def look_at(self, path: Path) -> Known:
        """What is known of a file, as it is now; nothing if it has changed.

        Raises:
            OSError: if the file cannot be looked at.
        """
        status = path.stat()
        known = self._files.get(str(path))
        if known is None or (known.size, known.changed) != (status.st_size, status.st_mtime_ns):
            known = self._files[str(path)] = Known(status.st_size, status.st_mtime_ns)
        return known

    def known(self, path: Path) -> Known:
        """What is known of a file that was looked at."""
        return self._files[str(path)]

    def note(self, path: Path, **facts: Any) -> None:
        """Keep facts (fields of `Known`) on a file that was looked at."""
        self._files[str(path)] = dataclasses.replace(self._files[str(path)], **facts)
        self._changed = True

    def save(self) -> None:
        """Write what is new, beside what other processes have written since.

        Raises:
            UsageError: if it cannot be written.
        """
        if not self._changed:
            return
        merged = self._load() | {
            path: known for path, known in self._files.items() if known.frames or known.sample
        }
        facts = {path: list(vars(known).values()) for path, known in merged.items()}
        write_whole(self.file, json.dumps({"root": self._home, "files": facts}), UsageError)
        self._changed = False

    def _load(self) -> dict[str, Known]:
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            data = json.loads(read_regular(self.file, _MOST_BYTES))
            return {path: Known(*facts) for path, facts in data["files"].items()}
        return {}
