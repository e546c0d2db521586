"""Files with the same bytes, found without reading all of all files."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fewshot_i2v._files import open_regular
from fewshot_i2v.clip_check.memory import Memory
from fewshot_i2v.errors import VideoUnreadable
from fewshot_i2v.video.frame_folder import frame_files, is_folder

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
