"""What is in the cache folder, by kind: decoded clips, features, generated clips, checks."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple, get_args

from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.data.video.cache_files import (
    DIGESTS_NAME,
    CacheFile,
    CacheKind,
    entry_shape,
    features_shape,
    list_entries,
    list_names,
    regular_status,
)
from fewshot_i2v.data.video.cache_use import removal
from fewshot_i2v.utils.resources import (
    CHECKS_FOLDER,
    CLIPS_FOLDER,
    ENCODERS_FOLDER,
    GENERATED_FOLDER,
    SPLIT_DIGEST_LENGTH,
    data_file,
    data_names,
)

CACHE_KINDS: tuple[CacheKind, ...] = get_args(CacheKind)

_ANY_CLASS = re.compile(r"[a-z0-9][a-z0-9-]*")
_SPLIT = re.compile(rf"[0-9a-f]{{{SPLIT_DIGEST_LENGTH}}}")
_GENERATOR_KEY = re.compile(r"^generator:", re.MULTILINE)
_HEAD_CHARACTERS = 4096
_ENCODER = re.compile(r"[0-9a-f]{64}\.safetensors")
_CHECK = re.compile(r"[0-9a-f]{64}\.json")


@dataclass(frozen=True)
class CacheGroup:
    """Files of the cache that belong together.

    Attributes:
        kind: what they are.
        label: what they have in common, in words.
        files: how many.
        size: bytes, together.
        last_used: when one of them was last used, seconds since 1970.
    """

    kind: CacheKind
    label: str
    files: int
    size: int
    last_used: float


def list_cache(folder: Path) -> list[CacheFile]:
    """List the files of a cache folder; what else lies there is left out.

    Args:
        folder: of the cache; it may be absent.

    Raises:
        OSError: when a folder cannot be listed.
    """
    return [
        *_decoded_files(folder),
        *_encoder_files(folder),
        *_generated_files(folder),
        *_check_files(folder),
    ]


def _decoded_files(folder: Path) -> Iterator[CacheFile]:
    yield from list_entries(folder / CLIPS_FOLDER)
    yield from _present([folder / CLIPS_FOLDER / DIGESTS_NAME], "decoded")


def _generated_files(folder: Path) -> Iterator[CacheFile]:
    """Generated clips are used together: the time of a split's folder counts for all of them."""
    for split_folder in list_names(folder / GENERATED_FOLDER, _SPLIT):
        last_used = split_folder.stat().st_mtime
        for class_folder in list_names(split_folder, _ANY_CLASS):
            name = re.compile(re.escape(class_folder.name) + r"-\d{3,}\.mp4")
            for file in _present(list_names(class_folder, name), "generated"):
                yield file._replace(last_used=max(last_used, file.last_used))


def _encoder_files(folder: Path) -> Iterator[CacheFile]:
    yield from _present(list_names(folder / ENCODERS_FOLDER, _ENCODER), "features")


def _check_files(folder: Path) -> Iterator[CacheFile]:
    yield from _present(list_names(folder / CHECKS_FOLDER, _CHECK), "checks")


def _present(paths: Iterable[Path], kind: CacheKind) -> Iterator[CacheFile]:
    for path in paths:
        status = regular_status(path)
        if status is not None:
            yield CacheFile(path, kind, status.st_size, status.st_mtime)


def group_files(files: Iterable[CacheFile]) -> list[CacheGroup]:
    """Group the files of a cache by what they have in common, by kind, the largest group first."""
    split_names = _names_of_generated_splits()
    labels: dict[CacheKind, Callable[[CacheFile], str]] = {
        "decoded": _decoded_label,
        "features": _features_label,
        "generated": lambda file: split_names.get(
            file.path.parents[1].name, f"of split {file.path.parents[1].name}"
        ),
        "checks": lambda _: "of episodes check",
    }
    groups: dict[tuple[CacheKind, str], list[CacheFile]] = defaultdict(list)
    for file in files:
        groups[file.kind, labels[file.kind](file)].append(file)
    rows = [
        CacheGroup(
            kind,
            label,
            len(members),
            sum(file.size for file in members),
            max(file.last_used for file in members),
        )
        for (kind, label), members in groups.items()
    ]
    return sorted(rows, key=lambda row: (CACHE_KINDS.index(row.kind), -row.size))


def _decoded_label(file: CacheFile) -> str:
    if not file.key:
        return "digests of files"
    if file.is_damaged:
        return "damaged, moved aside"
    shape = entry_shape(file.path)
    return "cannot be read" if shape is None else f"{shape[0]} frames of {shape[1]} pixels"


def _features_label(file: CacheFile) -> str:
    if not file.key:
        return "facts of encoders"
    if file.is_damaged:
        return "damaged, moved aside"
    shape = features_shape(file.path)
    if shape is None:
        return "cannot be read"
    *levels, frames, tokens, width = shape
    depth = f"{levels[0]} levels of " if levels else ""
    return f"{depth}{frames} frames of {tokens} x {width} values"


@cache  # the shipped splits do not change, and all of them are read
def _names_of_generated_splits() -> dict[str, str]:
    """Names of the shipped splits whose clips are generated, by the name of their folder."""
    names = {}
    for name in data_names("episodes"):
        # of published lists, which are long, only the head is read
        with data_file("episodes", name).open(encoding="utf-8") as file:
            is_generated = _GENERATOR_KEY.search(file.read(_HEAD_CHARACTERS)) is not None
        if is_generated:
            names[load_split(name).digest[:SPLIT_DIGEST_LENGTH]] = f"of split {name}"
    return names


class ClearedFiles(NamedTuple):
    """What was removed from a cache.

    Attributes:
        files: how many.
        size: bytes, together.
        in_use: files that stay, since running processes use them.
    """

    files: int
    size: int
    in_use: int


def clear_files(folder: Path, files: Iterable[CacheFile]) -> ClearedFiles:
    """Remove files of a cache, but none that a running process uses.

    A process that uses the cache uses its own entries of the clip cache, and may read any generated
    clip. Folders that become empty are removed where no process uses the cache.

    Args:
        folder: of the cache.
        files: as `list_cache` lists them.

    Raises:
        OSError: when a file cannot be removed; those before it are gone.
    """
    removable: list[CacheFile] = []
    n_in_use, clips_folder = 0, folder / CLIPS_FOLDER
    with removal(clips_folder) if clips_folder.is_dir() else nullcontext() as keys_in_use:
        for file in files:
            if keys_in_use is not None and _is_in_use(file, keys_in_use):
                n_in_use += 1
            else:
                file.path.unlink(missing_ok=True)
                removable.append(file)
        if keys_in_use is None:
            _remove_empty_folders({file.path.parent for file in removable}, folder)
    return ClearedFiles(len(removable), sum(file.size for file in removable), n_in_use)


def _is_in_use(file: CacheFile, keys_in_use: Collection[str]) -> bool:
    return file.kind == "generated" or (not file.is_damaged and file.key in keys_in_use)


def _remove_empty_folders(folders: Iterable[Path], top: Path) -> None:
    for folder in folders:
        for path in (folder, *folder.parents):
            if path == top:
                break
            with suppress(OSError):  # something is in it
                path.rmdir()
