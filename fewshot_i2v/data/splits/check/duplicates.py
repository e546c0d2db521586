"""Files with the same bytes, found without reading all of all files."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewshot_i2v.data.video.clip_digest import look, look_of
from fewshot_i2v.data.video.frame_folder import frame_files, is_folder
from fewshot_i2v.errors import UsageError, VideoUnreadable
from fewshot_i2v.utils.files import write_whole
from fewshot_i2v.utils.input_files import open_regular, read_regular

VERSION = 2
"""Raised when what an older program noted must not be used any more."""
_MOST_BYTES = 256 << 20


@dataclass
class Known:
    """One clip: a file, or a folder of frames.

    Attributes:
        size: bytes.
        look: what else tells that it was not written to since (see `data.video.clip_digest`).
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


_PART = 4096
_BLOCK = 1 << 20
_THREADS = 4


def copies(files: Sequence[Path], memory: Memory) -> list[list[Path]]:
    """Groups of files with the same bytes.

    Sizes are compared first, then, where they are equal, some bytes of each, then all.

    Args:
        files: readable files; empty ones are left out.
        memory: has looked at each; takes the digests.

    Returns:
        Groups of two or more, in the order of `files`. A file that cannot be read is in none.
    """
    groups = _split([list(files)], memory, "size")
    for key, digest in (("sample", sample), ("digest", whole)):
        todo = [file for group in groups for file in group]
        todo = [file for file in todo if getattr(memory.known(file), key) is None]
        with ThreadPoolExecutor(_THREADS) as threads:
            for file, value in zip(todo, threads.map(_quietly(digest), todo), strict=True):
                if value:
                    memory.note(file, **{key: value})
        groups = _split(groups, memory, key)
    return groups


def _split(groups: Iterable[Sequence[Path]], memory: Memory, key: str) -> list[list[Path]]:
    """Each group divided by what is known of its files, without single and unknown ones."""
    result = []
    for group in groups:
        parts: dict[object, list[Path]] = defaultdict(list)
        for file in group:
            parts[getattr(memory.known(file), key)].append(file)
        result += [part for value, part in parts.items() if value and len(part) > 1]
    return result


def _quietly(digest: Callable[[Path], str]) -> Callable[[Path], str]:
    def _digest_or_nothing(path: Path) -> str:
        try:
            return digest(path)
        except (OSError, VideoUnreadable):  # reported where the clip is read
            return ""

    return _digest_or_nothing


def sample(path: Path) -> str:
    """Digest of the first, middle and last bytes of a clip, of frames those of the middle one."""
    frames = _files(path)
    with open_regular(frames[len(frames) // 2]) as file:
        size = file.seek(0, 2)
        digest = hashlib.sha256()
        for start in (0, max(0, size // 2), max(0, size - _PART)):
            file.seek(start)
            digest.update(file.read(_PART))
    return digest.hexdigest()


def whole(path: Path) -> str:
    """Digest of all bytes of a clip, of frames in their order."""
    digest = hashlib.sha256()
    for frame in _files(path):
        with open_regular(frame) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    return frame_files(path) if is_folder(path) else [path]
