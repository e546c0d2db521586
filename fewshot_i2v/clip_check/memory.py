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
from fewshot_i2v.video._identity import look, look_of
from fewshot_i2v.video.frame_folder import is_folder

VERSION = 2
"""Raised when what an older program noted must not be used any more."""
_MOST_BYTES = 256 << 20


@dataclass
class Known:
    """One clip: a file, or a folder of frames.

    Attributes:
        size: bytes.
        look: what else tells that it was not written to since (`fewshot_i2v.video._identity`).
        frames: how many it shows, once read to its end.
        note: what is odd about them, in words; no problem.
        sample: digest of some of its bytes, once taken.
        digest: digest of all of them, once taken.
    """

    size: int
    look: str
    frames: int | None = None
    sample: str | None = None
    digest: str | None = None
    note: str = ""


class Memory:
    """Notes on the files of one root, in one file per root.

    What could not be read is not noted: the next check tries again. A file of notes that is damaged
    counts as none; it holds nothing that cannot be found out again.

    Args:
        folder: where the notes of all roots are.
        root: the folder of the clips.
        options: how clips are read: notes with other options are not used.
        trust: whether to use what earlier checks noted.
    """

    def __init__(self, folder: Path, root: Path, options: str, *, trust: bool = True) -> None:
        self._home = os.path.realpath(root)
        key = f"{VERSION}\0{options}\0{self._home}".encode(errors="surrogateescape")
        self.file = folder / f"{hashlib.sha256(key).hexdigest()}.json"
        self._files = self._load() if trust else {}
        self._changed = False

    def look_at(self, path: Path) -> Known:
        """What is known of a file, as it is now; nothing if it has changed.

        Raises:
            OSError: if the file cannot be looked at.
            VideoUnreadable: if a folder is no clip.
        """
        seen = look(path) if is_folder(path) else look_of(path, path.stat())
        known = self._files.get(str(path))
        if known is None or known.look != seen.token:
            token = seen.token if seen.settled else ""
            known = self._files[str(path)] = Known(seen.size, token)
        return known

    def known(self, path: Path) -> Known:
        """What is known of a file that was looked at."""
        return self._files[str(path)]

    def note(self, path: Path, **facts: Any) -> None:
        """Keep facts (fields of `Known`) on a file that was looked at."""
        self._files[str(path)] = dataclasses.replace(self._files[str(path)], **facts)
        self._changed = True

    def save(self) -> str:
        """Write what is new, beside what other processes have written since.

        Returns:
            Why it could not be written, or "". That is no error: a check has found what it found.
        """
        if not self._changed:
            return ""
        merged = self._load() | {
            path: known for path, known in self._files.items() if known.frames or known.sample
        }
        facts = {path: list(vars(known).values()) for path, known in merged.items()}
        try:
            write_whole(self.file, json.dumps({"root": self._home, "files": facts}), UsageError)
        except UsageError as error:
            return str(error)
        self._changed = False
        return ""

    def _load(self) -> dict[str, Known]:
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            data = json.loads(read_regular(self.file, _MOST_BYTES))
            return {path: Known(*facts) for path, facts in data["files"].items()}
        return {}
