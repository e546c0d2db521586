"""The clips below a folder, whatever its layout; names are only text, never patterns."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from fewshot_i2v.data.splits.folder_contents import VIDEO_EXTENSIONS, is_video
from fewshot_i2v.data.video.frame_folder import is_frame
from fewshot_i2v.errors import SplitError, VideoUnreadable

_LEADS_OUT = (
    "is a link that leads out of the root: it is not followed (`links: follow` in the split file)"
)


class Found(NamedTuple):
    """A video file, or a folder of frames.

    Attributes:
        path: below the root, with `/` between folders.
        folders: the folders above it, from the root down.
        stem: its name without the extension, or extensions (`x.mp4.mkv`).
        extension: the last one, in lower case, with its dot; "" where it is not a video's.
        linked: whether a link leads to it.
        refused: why it must not or cannot be read, or "".
        frames: whether it is a folder of frames.
    """

    path: str
    folders: tuple[str, ...]
    stem: str
    extension: str
    linked: bool = False
    refused: str = ""
    frames: bool = False


@dataclass
class Tree:
    """What one walk through a folder found.

    Attributes:
        root: the folder.
        files: the clips, sorted by path.
        refused: what is not used, below the root -> why.
    """

    root: Path
    files: list[Found] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def stem_of(name: str) -> tuple[str, str]:
    """A file name as stem and extension (lower case), which is "" where it is not a video's."""
    last = ""
    while True:
        stem, dot, extension = name.rpartition(".")
        if not stem or f".{extension.lower()}" not in VIDEO_EXTENSIONS:
            return name, last
        name, last = stem, last or f"{dot}{extension.lower()}"


def walk(root: Path, *, follow: bool = False) -> Tree:
    """Find all video files and folders of frames below a folder.

    Hidden files and folders are left out. Links are followed as long as they stay below the root;
    in a linked folder, further links to folders are not.

    Args:
        root: the folder.
        follow: whether links that lead out of the root are followed too.

    Raises:
        SplitError: when the folder cannot be listed.
    """
    tree = Tree(root)
    home = os.sep if follow else os.path.realpath(root)
    linked = _descend(tree, home, (), linked=False)
    for folders in linked:
        real = os.path.realpath(root.joinpath(*folders))
        above = os.path.realpath(root.joinpath(*folders[:-1]))
        if not _inside(above, real):  # a folder must not be looked for in itself
            _descend(tree, home, folders, linked=True)
    tree.files.sort()
    return tree


def _descend(
    tree: Tree, home: str, start: tuple[str, ...], *, linked: bool
) -> list[tuple[str, ...]]:
    """Take in a folder and all below it; gives the folders that are links."""
    todo, links = [start], []
    while todo:
        folders = todo.pop()
        here = tree.root.joinpath(*folders)
        try:
            with os.scandir(here) as entries:
                shown = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            if not folders:
                raise SplitError(f"{here}: cannot be listed: {error.strerror}") from error
            tree.refused["/".join(folders)] = f"cannot be listed: {error.strerror}"
            continue
        before = len(tree.files)
        frames = [e for e in shown if is_frame(e.name) and not e.is_dir(follow_symlinks=False)]
        for entry in _without(shown, frames):
            if entry.is_symlink():
                if _link(tree, home, entry, folders, linked=linked):
                    links.append((*folders, entry.name))
            elif entry.is_dir(follow_symlinks=False):
                todo.append((*folders, entry.name))
            else:
                plain = entry.is_file(follow_symlinks=False)
                _add(tree, entry, folders, linked, "" if plain else "is no regular file")
        if frames and folders and all(file.refused for file in tree.files[before:]):
            _add_frames(tree, home, frames, folders, linked=linked)
    return links


def _without(
    entries: Sequence[os.DirEntry[str]], others: Sequence[os.DirEntry[str]]
) -> Sequence[os.DirEntry[str]]:
    out = set(others)
    return [entry for entry in entries if entry not in out] if out else entries


def _add_frames(
    tree: Tree,
    home: str,
    frames: Sequence[os.DirEntry[str]],
    folders: tuple[str, ...],
    *,
    linked: bool,
) -> None:
    """Take in a folder of frames."""
    links = (entry.path for entry in frames if entry.is_symlink())
    out = any(not _inside(os.path.realpath(link), home) for link in links)
    path, refused = "/".join(folders), f"holds what {_LEADS_OUT}" if out else ""
    stem = stem_of(folders[-1])
    tree.files.append(Found(path, folders[:-1], *stem, linked, refused, frames=True))
    if refused:
        tree.refused[path] = refused


def _add(
    tree: Tree, entry: os.DirEntry[str], folders: tuple[str, ...], linked: bool, refused: str
) -> None:
    """Take in a file, if it is a video or could be meant as one."""
    stem, extension = stem_of(entry.name)
    if refused and not extension:
        return
    try:
        if not refused and not is_video(entry.name, entry.path):
            return
    except VideoUnreadable as error:
        refused = error.reason
    path = "/".join((*folders, entry.name))
    tree.files.append(Found(path, folders, stem, extension, linked, refused))
    if refused:
        tree.refused[path] = refused


def _link(
    tree: Tree, home: str, entry: os.DirEntry[str], folders: tuple[str, ...], *, linked: bool
) -> bool:
    """Take in a link; whether it is one to a folder that is to be walked through."""
    real = os.path.realpath(entry.path)
    try:
        mode = Path(real).stat().st_mode
    except OSError:
        _add(tree, entry, folders, True, "is a link to a file that is not there")
        return False
    if _inside(real, home):
        if stat.S_ISDIR(mode):
            return not linked
        _add(tree, entry, folders, True, "" if stat.S_ISREG(mode) else "is no regular file")
    elif stat.S_ISDIR(mode):
        tree.refused["/".join((*folders, entry.name))] = _LEADS_OUT
    else:
        _add(tree, entry, folders, True, _LEADS_OUT)
    return False


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
