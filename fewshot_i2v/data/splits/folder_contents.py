"""What lies in a folder: videos, folders of frames, and what is neither.

A file's name tells that it is a video, or plainly something else, where its extension does; no
other file has more than its first bytes read. So a listing of a large data set, also one on a
server, opens next to nothing.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from fewshot_i2v.data.video.container import container
from fewshot_i2v.data.video.frame_folder import PICTURES, is_frame
from fewshot_i2v.errors import VideoUnreadable


def _extensions(words: str) -> frozenset[str]:
    return frozenset(f".{word}" for word in words.split())


VIDEO_EXTENSIONS = _extensions(
    "mp4 avi webm mkv mov m4v mpg mpeg wmv flv gif 3gp 3g2 asf divx f4v m2ts m2v mts qt vob"
)
_OTHERS = PICTURES | _extensions(
    "7z aac aria2 ass bz2 cfg csv db flac flo gz h5 heic html ini json jsonl log m4a mat md mka "
    "mp3 npy npz ogg opus pdf pickle pkl pt pth py rar safetensors sh srt ssa sub svg tar tgz tif "
    "tiff toml tsv txt vtt wav wma xls xlsx xml xz yaml yml ytdl zip"
)
_UNFINISHED = _extensions("crdownload download part partial")


def extension_of(name: str) -> str:
    """The last extension of a file's name in lower case, with its dot; "" where it has none."""
    stem, dot, extension = name.rpartition(".")
    return f".{extension.lower()}" if stem and dot else ""


def is_video(name: str, path: str) -> bool:
    """Whether a file is a video, by its name, or by its first bytes where the name does not say.

    Args:
        name: of the file.
        path: where it is; a regular file, or a link to one.

    Returns:
        False for what nobody takes for a video, such as pictures, texts and subtitles.

    Raises:
        VideoUnreadable: for a file that could be meant as a video but is of a kind that cannot be
            read, or unknown.
    """
    extension = extension_of(name)
    if extension in VIDEO_EXTENSIONS:
        return True
    if extension in _OTHERS:
        return False
    if extension in _UNFINISHED:
        raise VideoUnreadable(path, "has the name of an unfinished download")
    return container(Path(path)) != ""


@dataclass
class Contents:
    """What lies directly in a folder, hidden things apart; names are sorted.

    Attributes:
        videos: video files.
        folders: folders.
        frames: how many pictures have a number at the end of their names.
        unread: files that could be meant as videos but cannot be read -> why.
        others: extensions of all other files, and how many have each.
    """

    videos: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    frames: int = 0
    unread: dict[str, str] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)

    @property
    def is_clip(self) -> bool:
        """Whether the folder is a clip: pictures with numbers, and no video."""
        return self.frames > 0 and not self.videos


def contents(folder: Path) -> Contents:
    """What lies directly in a folder.

    Raises:
        OSError: if it cannot be listed.
    """
    found = Contents()
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                _add(found, entry)
    found.videos.sort()
    found.folders.sort()
    return found


def _add(found: Contents, entry: os.DirEntry[str]) -> None:
    name = entry.name
    try:
        if entry.is_dir():
            found.folders.append(name)
        elif not entry.is_file():
            if extension_of(name) in VIDEO_EXTENSIONS:
                linked = entry.is_symlink()
                found.unread[name] = f"is {'a link to no file' if linked else 'no regular file'}"
        elif is_video(name, entry.path):
            found.videos.append(name)
        elif is_frame(name):
            found.frames += 1
        else:
            found.others[extension_of(name)] += 1
    except VideoUnreadable as error:
        found.unread[name] = error.reason
    except OSError as error:  # links in a circle
        found.unread[name] = f"cannot be looked at: {error.strerror}"


@dataclass
class ClassFolder:
    """The clips of a class folder, and what in it is none.

    Attributes:
        clips: video files directly in it; where there are none, folders of frames.
        inside: what lies directly in it.
        below: what lies directly in the folders in it, where they were looked into.
    """

    clips: list[str]
    inside: Contents
    below: dict[str, Contents]


def class_folder(folder: Path, *, deep: bool = False) -> ClassFolder:
    """The clips of a class folder.

    Folders of frames beside video files are no clips: they mostly are the frames of these files.

    Args:
        folder: the class folder.
        deep: whether to look into the folders in it also where it has videos.

    Raises:
        OSError: if it cannot be listed.
    """
    inside = contents(folder)
    below: dict[str, Contents] = {}
    if deep or not inside.videos:
        for name in inside.folders:
            try:
                below[name] = contents(folder / name)
            except OSError as error:
                inside.unread[name] = f"cannot be listed: {error.strerror}"
    clips = inside.videos or [name for name, held in below.items() if held.is_clip]
    return ClassFolder(clips, inside, below)
