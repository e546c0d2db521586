"""Finds video files and folders of frames below a root; names are text, never patterns."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from fewshot_i2v.data.splits.folder_contents import VIDEO_EXTENSIONS, is_video
from fewshot_i2v.data.video.frame_folder import is_frame_name
from fewshot_i2v.errors import SplitError, VideoUnreadable

_LEADS_OUT_OF_ROOT = (
    "is a link that leads out of the root: it is not followed (`links: follow` in the split file)"
)


class VideoFile(NamedTuple):
    """A video file, or a folder of frames.

    Attributes:
        path: below the root, with `/` between folders.
        folders: the folders above it, from the root down.
        stem: its name without the extension, or extensions (`x.mp4.mkv`).
        extension: the last one, in lower case, with its dot; "" if it is not a video's.
        linked: whether a link leads to it.
        refusal: why it must not or cannot be read, or "".
        is_frame_folder: whether it is a folder of frames.
    """

    path: str
    folders: tuple[str, ...]
    stem: str
    extension: str
    linked: bool = False
    refusal: str = ""
    is_frame_folder: bool = False


@dataclass
class VideoTree:
    """The clips that one walk through a folder found.

    Attributes:
        root: the folder.
        files: the clips, sorted by path.
        refused: path below the root -> why it is not used.
    """

    root: Path
    files: list[VideoFile] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def split_extension(name: str) -> tuple[str, str]:
    """Split a file name into stem and video extension (lower case; "" if it has none)."""
    last_extension = ""
    while True:
        stem, dot, extension = name.rpartition(".")
        if not stem or f".{extension.lower()}" not in VIDEO_EXTENSIONS:
            return name, last_extension
        name, last_extension = stem, last_extension or f"{dot}{extension.lower()}"


def walk_videos(root: Path, *, follow_links: bool = False) -> VideoTree:
    """Find all video files and folders of frames below a folder.

    Hidden files and folders are left out. Links are followed if they stay below the root; in a
    linked folder, further links to folders are not.

    Args:
        root: the folder.
        follow_links: whether links that lead out of the root are followed too.

    Raises:
        SplitError: when the folder cannot be listed.
    """
    tree = VideoTree(root)
    allowed_root = os.sep if follow_links else os.path.realpath(root)
    linked_folders = _scan_folder(tree, allowed_root, (), linked=False)
    for folders in linked_folders:
        real_folder = os.path.realpath(root.joinpath(*folders))
        real_parent = os.path.realpath(root.joinpath(*folders[:-1]))
        if not _is_inside(real_parent, real_folder):  # a folder must not be looked for in itself
            _scan_folder(tree, allowed_root, folders, linked=True)
    tree.files.sort()
    return tree


def _scan_folder(
    tree: VideoTree, allowed_root: str, start: tuple[str, ...], *, linked: bool
) -> list[tuple[str, ...]]:
    """Add a folder and all below it; return the folders that are links."""
    pending, linked_folders = [start], []
    while pending:
        folders = pending.pop()
        folder = tree.root.joinpath(*folders)
        try:
            with os.scandir(folder) as entries:
                visible = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            if not folders:
                raise SplitError(f"{folder}: cannot be listed: {error.strerror}") from error
            tree.refused["/".join(folders)] = f"cannot be listed: {error.strerror}"
            continue
        n_before = len(tree.files)
        frame_entries = [
            e for e in visible if is_frame_name(e.name) and not e.is_dir(follow_symlinks=False)
        ]
        for entry in _exclude(visible, frame_entries):
            if entry.is_symlink():
                if _resolve_link(tree, allowed_root, entry, folders, linked=linked):
                    linked_folders.append((*folders, entry.name))
            elif entry.is_dir(follow_symlinks=False):
                pending.append((*folders, entry.name))
            else:
                is_regular = entry.is_file(follow_symlinks=False)
                _add_file(tree, entry, folders, linked, "" if is_regular else "is no regular file")
        if frame_entries and folders and all(file.refusal for file in tree.files[n_before:]):
            _add_frame_folder(tree, allowed_root, frame_entries, folders, linked=linked)
    return linked_folders


def _exclude(
    entries: Sequence[os.DirEntry[str]], excluded: Sequence[os.DirEntry[str]]
) -> Sequence[os.DirEntry[str]]:
    excluded_set = set(excluded)
    return [entry for entry in entries if entry not in excluded_set] if excluded_set else entries


def _add_frame_folder(
    tree: VideoTree,
    allowed_root: str,
    frame_entries: Sequence[os.DirEntry[str]],
    folders: tuple[str, ...],
    *,
    linked: bool,
) -> None:
    """Add a folder of frames."""
    link_paths = (entry.path for entry in frame_entries if entry.is_symlink())
    leads_out = any(not _is_inside(os.path.realpath(link), allowed_root) for link in link_paths)
    path, refusal = "/".join(folders), f"holds what {_LEADS_OUT_OF_ROOT}" if leads_out else ""
    stem_and_extension = split_extension(folders[-1])
    tree.files.append(
        VideoFile(path, folders[:-1], *stem_and_extension, linked, refusal, is_frame_folder=True)
    )
    if refusal:
        tree.refused[path] = refusal


def _add_file(
    tree: VideoTree, entry: os.DirEntry[str], folders: tuple[str, ...], linked: bool, refusal: str
) -> None:
    """Add a file, if it is a video or could be meant as a video."""
    stem, extension = split_extension(entry.name)
    if refusal and not extension:
        return
    try:
        if not refusal and not is_video(entry.name, entry.path):
            return
    except VideoUnreadable as error:
        refusal = error.reason
    path = "/".join((*folders, entry.name))
    tree.files.append(VideoFile(path, folders, stem, extension, linked, refusal))
    if refusal:
        tree.refused[path] = refusal


def _resolve_link(
    tree: VideoTree,
    allowed_root: str,
    entry: os.DirEntry[str],
    folders: tuple[str, ...],
    *,
    linked: bool,
) -> bool:
    """Add a link to a file; return True for a link to a folder that is to be searched."""
    real_path = os.path.realpath(entry.path)
    try:
        mode = Path(real_path).stat().st_mode
    except OSError:
        _add_file(tree, entry, folders, True, "is a link to a file that is not there")
        return False
    if _is_inside(real_path, allowed_root):
        if stat.S_ISDIR(mode):
            return not linked
        _add_file(tree, entry, folders, True, "" if stat.S_ISREG(mode) else "is no regular file")
    elif stat.S_ISDIR(mode):
        tree.refused["/".join((*folders, entry.name))] = _LEADS_OUT_OF_ROOT
    else:
        _add_file(tree, entry, folders, True, _LEADS_OUT_OF_ROOT)
    return False


def _is_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
