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
_NO_REGULAR_FILE = "is no regular file"


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
    tree = VideoTree(root, os.sep if follow_links else os.path.realpath(root))
    for folders in tree.add_folder((), linked=False):
        real_folder = os.path.realpath(root.joinpath(*folders))
        real_parent = os.path.realpath(root.joinpath(*folders[:-1]))
        if not _is_inside(real_parent, real_folder):  # a folder must not be looked for in itself
            tree.add_folder(folders, linked=True)
    tree.files.sort()
    return tree


@dataclass
class VideoTree:
    """The clips that one walk through a folder found.

    Attributes:
        root: the folder.
        allowed_root: real path of the folder that links must not lead out of.
        files: the clips, sorted by path.
        refused: path below the root -> why it is not used.
    """

    root: Path
    allowed_root: str
    files: list[VideoFile] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    def add_folder(self, start: tuple[str, ...], *, linked: bool) -> list[tuple[str, ...]]:
        """Add a folder and all below it; return the folders in it that are links.

        Raises:
            SplitError: when the root cannot be listed.
        """
        pending, linked_folders = [start], []
        while pending:
            folders = pending.pop()
            folder = self.root.joinpath(*folders)
            try:
                with os.scandir(folder) as entries:
                    visible = [entry for entry in entries if not entry.name.startswith(".")]
            except OSError as error:
                if not folders:
                    raise SplitError(f"{folder}: cannot be listed: {error.strerror}") from error
                self.refused["/".join(folders)] = f"cannot be listed: {error.strerror}"
                continue
            n_before, frames = len(self.files), []
            for entry in visible:
                if is_frame_name(entry.name) and not entry.is_dir(follow_symlinks=False):
                    frames.append(entry)
                elif entry.is_symlink():
                    if self._add_link(entry, folders) and not linked:
                        linked_folders.append((*folders, entry.name))
                elif entry.is_dir(follow_symlinks=False):
                    pending.append((*folders, entry.name))
                else:
                    refusal = "" if entry.is_file(follow_symlinks=False) else _NO_REGULAR_FILE
                    self._add_file(entry, folders, linked, refusal)
            # frames beside a video mostly are the frames of that video
            if frames and folders and all(file.refusal for file in self.files[n_before:]):
                self._add_frame_folder(frames, folders, linked)
        return linked_folders

    def _add_link(self, entry: os.DirEntry[str], folders: tuple[str, ...]) -> bool:
        """Add a link to a file; return True for a link to a folder below the allowed root."""
        real_path = os.path.realpath(entry.path)
        try:
            mode = Path(real_path).stat().st_mode
        except OSError:
            self._add_file(entry, folders, True, "is a link to a file that is not there")
            return False
        is_inside = _is_inside(real_path, self.allowed_root)
        if stat.S_ISDIR(mode):
            if not is_inside:
                self.refused["/".join((*folders, entry.name))] = _LEADS_OUT_OF_ROOT
            return is_inside
        refusal = "" if stat.S_ISREG(mode) else _NO_REGULAR_FILE
        self._add_file(entry, folders, True, refusal if is_inside else _LEADS_OUT_OF_ROOT)
        return False

    def _add_file(
        self, entry: os.DirEntry[str], folders: tuple[str, ...], linked: bool, refusal: str
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
        self._append(VideoFile(path, folders, stem, extension, linked, refusal))

    def _add_frame_folder(
        self, frames: Sequence[os.DirEntry[str]], folders: tuple[str, ...], linked: bool
    ) -> None:
        links = (os.path.realpath(frame.path) for frame in frames if frame.is_symlink())
        leads_out = not all(_is_inside(link, self.allowed_root) for link in links)
        refusal = f"holds what {_LEADS_OUT_OF_ROOT}" if leads_out else ""
        stem, extension = split_extension(folders[-1])
        path = "/".join(folders)
        self._append(VideoFile(path, folders[:-1], stem, extension, linked, refusal, True))

    def _append(self, file: VideoFile) -> None:
        self.files.append(file)
        if file.refusal:
            self.refused[file.path] = file.refusal


def _is_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
