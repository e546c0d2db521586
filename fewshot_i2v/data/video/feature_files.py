"""Features of clips on disk, beside the decoded clips of a clip cache.

One file per clip and computation, `<folder>/<aa>/<key>.safetensors`. The key is made of the key of
the decoded clip, which holds the clip's content, its frames and their size, and of what the caller
says about the computation; so an entry never becomes invalid. Files are written atomically and
never changed. They are not forced to the disk: a checksum covers all bytes, so what a power cut
leaves half written is noticed and computed again. Use by running processes, the limit of the cache
and the removal of entries are those of decoded clips (`fewshot_i2v.data.video.cache_use`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import stat
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from fewshot_i2v.data.video.cache_files import DAMAGED_SUFFIX, FEATURES_SUFFIX
from fewshot_i2v.data.video.cache_use import mark_used
from fewshot_i2v.data.video.clip_cache import ClipCache, DamagedEntryError
from fewshot_i2v.errors import VideoUnreadable
from fewshot_i2v.utils.files import write_shared
from fewshot_i2v.utils.input_files import NotAFileError, open_regular

FEATURES_VERSION = "1"
"""Part of every key: raised when entries of an older program must not be used any more."""

_DIGITS = 64
_ITEM_BYTES = {"F32": 4, "BF16": 2}


class FeatureLayout(NamedTuple):
    """A computation of features and the array that it gives for one clip.

    Attributes:
        computation: what decides the features besides the frames of the clip: encoder, code,
            precision, device, what is computed.
        dtype: of the values, under the names of safetensors.
        shape: axes of the array.
    """

    computation: tuple[str, ...]
    dtype: Literal["F32", "BF16"]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * _ITEM_BYTES[self.dtype]


class FeatureEntry:
    """The file of the features of one clip, which may be absent.

    Args:
        folder: of the clip cache.
        clip_key: of the entry of the decoded clip.
        layout: of the features.
        frame_order: order of the frames, where it is not the natural one.

    Attributes:
        key: 64 hexadecimal digits.
        path: the file.
        size: bytes that the file must have.
    """

    def __init__(
        self, folder: Path, clip_key: str, layout: FeatureLayout, frame_order: str = ""
    ) -> None:
        facts = [FEATURES_VERSION, clip_key, frame_order, *layout]
        self.key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        self.path = folder / self.key[:2] / f"{self.key}{FEATURES_SUFFIX}"
        self._layout = layout
        self.size = len(self._header("0" * _DIGITS)) + layout.size

    def _header(self, checksum: str) -> bytes:
        """Returns the head of a safetensors file with one tensor."""
        description = {
            "__metadata__": {"key": self.key, "sha256": checksum},
            "features": {
                "dtype": self._layout.dtype,
                "shape": self._layout.shape,
                "data_offsets": [0, self._layout.size],
            },
        }
        text = json.dumps(description, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    def write(self, data: bytes, temporary: Path) -> None:
        """Write the entry atomically: at every moment the file is complete or absent.

        Args:
            data: the values, in the order of the axes.
            temporary: a name in the same file system that nobody else uses.

        Raises:
            OSError: if it cannot be written; nothing is left behind then.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = self._header(hashlib.sha256(data).hexdigest()) + data
        write_shared(self.path, content, temporary, mode=0o444, replace=True, sync=False)

    def read(self) -> bytearray:
        """Read the values and check them.

        Raises:
            DamagedEntryError: if a byte is not what was written for this key and layout.
            FileNotFoundError: if there is no such entry.
            OSError: if it cannot be read.
        """
        with open_regular(self.path) as file:
            if os.fstat(file.fileno()).st_size != self.size:
                raise DamagedEntryError(f"{self.path}: its size is wrong")
            content = bytearray(file.read(self.size))
        start = self.size - self._layout.size
        checksum = hashlib.sha256(memoryview(content)[start:]).hexdigest()
        # the header holds the checksum, and nothing else in it is free
        if content[:start] != self._header(checksum):
            raise DamagedEntryError(f"{self.path}: its checksum is wrong")
        return content[start:]


class FeatureFiles:
    """Features of clips on disk.

    Nothing that goes wrong here stops a run: what cannot be read is computed again, and what cannot
    be written is computed again next time. Both are said.

    Args:
        clips: the clip cache that they lie beside.
        notify: called with a line for the user.

    Attributes:
        n_read: entries that were read.
        n_repaired: damaged entries, and folders in the place of entries, that were moved aside.
    """

    def __init__(self, clips: ClipCache, notify: Callable[[str], object]) -> None:
        self._clips, self._notify = clips, notify
        self._can_write = True
        self._blocked_keys: set[str] = set()
        self.n_read = 0
        self.n_repaired = 0

    def entry(self, path: Path, layout: FeatureLayout, frame_order: str = "") -> FeatureEntry:
        """Returns the entry of a clip, which is read if its content is not known.

        Raises:
            VideoUnreadable: if the clip cannot be read.
        """
        key = self._clips.entry_key(self._clips.digest(path))
        return FeatureEntry(self._clips.folder, key, layout, frame_order)

    def find(
        self, paths: Sequence[Path], layout: FeatureLayout, frame_orders: Sequence[str]
    ) -> list[bool]:
        """Finds the clips whose features are on disk, without reading clips or features.

        Entries are announced as used, so no other process removes them. A clip whose content is not
        known yet counts as absent.

        Args:
            paths: of the clips.
            layout: of the features.
            frame_orders: of each clip.
        """
        entries: list[FeatureEntry | None] = []
        for path, order in zip(paths, frame_orders, strict=True):
            digest = None
            with contextlib.suppress(VideoUnreadable):  # whoever decodes it says so
                digest = self._clips.known_digest(path)
            key = digest and self._clips.entry_key(digest)
            entry = FeatureEntry(self._clips.folder, key, layout, order) if key else None
            entries.append(entry)
        self._clips.announce_use(entry.key for entry in entries if entry is not None)
        return [entry is not None and _is_usable(entry) for entry in entries]

    def read(self, entry: FeatureEntry) -> bytearray | None:
        """Reads the values of an entry; None if they must be computed."""
        try:
            data = entry.read()
        except FileNotFoundError:
            return None
        except DamagedEntryError as error:
            self._notify(f"note: damaged features are computed again: {error}")
            self._move_aside(entry)
            return None
        except NotAFileError as error:
            self._notify(f"note: features are computed again: {entry.path} {error.strerror}")
            self._move_aside(entry)
            return None
        except OSError as error:
            self._notify(f"note: features are computed again: {entry.path}: {error.strerror}")
            return None
        self.n_read += 1
        return data

    def _move_aside(self, entry: FeatureEntry) -> None:
        self.n_repaired += 1
        with contextlib.suppress(OSError):  # a file is replaced in any case
            entry.path.replace(entry.path.with_name(entry.path.name + DAMAGED_SUFFIX))

    def write(self, entry: FeatureEntry, data: bytes) -> None:
        """Writes the values of an entry, unless the folder has refused others before.

        Raises:
            ClipCacheError: where there is a limit of the cache and its folder cannot be listed.
        """
        if not self._can_write:
            return
        self._clips.announce_use([entry.key])
        try:
            entry.write(data, self._clips.folder / f".{uuid.uuid4().hex}.tmp")
        except OSError as error:
            blocking = _blocking_path(entry)
            if blocking is not None:  # others can be written
                self._note_blocked(entry, blocking)
                return
            self._can_write = False
            self._notify(
                f"note: features cannot be written to {self._clips.folder}: "
                f"{error.strerror or error}; the run goes on, and the next one computes them again"
            )
            return
        self._clips.count_written(entry.size)

    def _note_blocked(self, entry: FeatureEntry, blocking: Path) -> None:
        """Says once for each entry what is in its place."""
        if entry.key in self._blocked_keys:
            return
        self._blocked_keys.add(entry.key)
        kind = "folder" if blocking.is_dir() else "file"
        self._notify(
            f"note: features cannot be written to {entry.path}: {blocking} is a {kind}; delete it, "
            "and later runs read these features again"
        )


def _blocking_path(entry: FeatureEntry) -> Path | None:
    """Returns what is in the place of an entry or of its folder; None where nothing is."""
    folder = entry.path.parent
    if folder.exists() and not folder.is_dir():
        return folder
    return entry.path if entry.path.is_dir() else None


def _is_usable(entry: FeatureEntry) -> bool:
    """Returns whether there is an entry of the right size; `read` checks its content."""
    try:
        status = entry.path.stat()
    except OSError:
        return False
    if not stat.S_ISREG(status.st_mode) or status.st_size != entry.size:
        return False
    mark_used(entry.path, status)
    return True
