"""Lists a folder: videos, folders of frames, and other files.

If a file's extension shows that it is a video, or clearly something else, the file is not opened;
of other files only the first bytes are read. So listing a large data set, also on a server, opens
next to nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fewshot_i2v.data.splits.problems import ProblemList, path_problem
from fewshot_i2v.data.video.container import detect_demuxer
from fewshot_i2v.data.video.frame_folder import PICTURE_EXTENSIONS, is_frame_name
from fewshot_i2v.errors import VideoUnreadable


def _extension_set(words: str) -> frozenset[str]:
    return frozenset(f".{word}" for word in words.split())


VIDEO_EXTENSIONS = _extension_set(
    "mp4 avi webm mkv mov m4v mpg mpeg wmv flv gif 3gp 3g2 asf divx f4v m2ts m2v mts qt vob"
)
_OTHER_EXTENSIONS = PICTURE_EXTENSIONS | _extension_set(
    "7z aac aria2 ass bz2 cfg csv db flac flo gz h5 heic html ini json jsonl log m4a mat md mka "
    "mp3 npy npz ogg opus pdf pickle pkl pt pth py rar safetensors sh srt ssa sub svg tar tgz tif "
    "tiff toml tsv txt vtt wav wma xls xlsx xml xz yaml yml ytdl zip"
)
_UNFINISHED_EXTENSIONS = _extension_set("crdownload download part partial")
_ROOT_HINT = "--root sets the root"


def file_extension(name: str) -> str:
    """Return a file name's last extension in lower case, with its dot; "" if it has none."""
    stem, dot, extension = name.rpartition(".")
    return f".{extension.lower()}" if stem and dot else ""


def is_video(name: str, path: str) -> bool:
    """Whether a file is a video, by its name, or by its first bytes if the name does not tell.

    Args:
        name: the file's name.
        path: its path; a regular file, or a link to one.

    Returns:
        False for files that are clearly no videos, such as pictures, texts and subtitles.

    Raises:
        VideoUnreadable: for a file that could be meant as a video but is of a kind that cannot be
            read, or unknown.
    """
    extension = file_extension(name)
    if extension in VIDEO_EXTENSIONS:
        return True
    if extension in _OTHER_EXTENSIONS:
        return False
    if extension in _UNFINISHED_EXTENSIONS:
        raise VideoUnreadable(path, "has the name of an unfinished download")
    return detect_demuxer(Path(path)) != ""


@dataclass
class FolderContents:
    """The contents of a folder, not of its subfolders; hidden entries are left out, names sorted.

    Attributes:
        videos: video files.
        folders: folders.
        n_frames: number of pictures whose names end in a number.
        unreadable: files that could be meant as videos but cannot be read -> why.
        others: all remaining files.
    """

    videos: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    n_frames: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)

    @property
    def is_clip(self) -> bool:
        """Whether the folder is a clip: it has numbered pictures and no video."""
        return self.n_frames > 0 and not self.videos


def list_folder(folder: Path) -> FolderContents:
    """List the contents of a folder, not of its subfolders.

    Raises:
        OSError: if it cannot be listed.
    """
    result = FolderContents()
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                _add_entry(result, entry)
    result.videos.sort()
    result.folders.sort()
    result.others.sort()
    return result


def find_clips(folder: Path) -> list[Path]:
    """Find the clips in a folder and below: video files, and folders of numbered pictures.

    Files that could be meant as videos but cannot be read are among them, so that reading says why.

    Raises:
        OSError: if a folder cannot be listed.
    """
    contents = list_folder(folder)
    if contents.is_clip:
        return [folder]
    clips = [folder / name for name in sorted([*contents.videos, *contents.unreadable])]
    return clips + [clip for name in contents.folders for clip in find_clips(folder / name)]


def _add_entry(result: FolderContents, entry: os.DirEntry[str]) -> None:
    name = entry.name
    try:
        if entry.is_dir():
            result.folders.append(name)
        elif not entry.is_file():
            if file_extension(name) in VIDEO_EXTENSIONS:
                linked = entry.is_symlink()
                result.unreadable[name] = (
                    f"is {'a link to no file' if linked else 'no regular file'}"
                )
        elif is_video(name, entry.path):
            result.videos.append(name)
        elif is_frame_name(name):
            result.n_frames += 1
        else:
            result.others.append(name)
    except VideoUnreadable as error:
        result.unreadable[name] = error.reason
    except OSError as error:  # links in a circle
        result.unreadable[name] = f"cannot be looked at: {error.strerror}"


@dataclass
class ClassFolder:
    """The clips of a class folder, and its further contents.

    Attributes:
        clips: video files directly in it; if there are none, folders of frames.
        contents: the contents of the folder.
        subfolder_contents: the contents of its subfolders, where they were listed.
    """

    clips: list[str]
    contents: FolderContents
    subfolder_contents: dict[str, FolderContents]


def scan_class_folders(
    root: Path,
    folder: str,
    classes: Sequence[str] | None,
    location: str,
    problems: ProblemList,
    *,
    scan_subfolders: bool = False,
) -> dict[str, ClassFolder]:
    """Scan class folders for clips.

    Args:
        root: the split's root.
        folder: the parent of the class folders, below `root`; "." for `root` itself.
        classes: the class folders to take; None takes all that are not hidden.
        location: key of the subset, for problems.
        problems: collects what is wrong.
        scan_subfolders: whether to list all folders in class folders.

    Raises:
        OSError: if one cannot be listed.
    """
    base = root if folder == "." else root / folder
    if not base.is_dir():
        problems.add(location, f"no folder {base}; expected class folders there ({_ROOT_HINT})")
        return {}
    if classes is None:
        classes = sorted(p.name for p in base.iterdir() if p.is_dir() and p.name[0] != ".")
        if not classes:
            problems.add(location, f"{base} has no class folders ({_ROOT_HINT})")
    result: dict[str, ClassFolder] = {}
    for name in classes:
        class_path = base / name
        if path_problem(name) or "/" in name or "\\" in name:
            problems.add(location, f"class {name!r}: expected the name of one folder")
            continue
        if not class_path.is_dir():
            problems.add(location, f"no folder {class_path} for class {name!r} ({_ROOT_HINT})")
            continue
        result[name] = _scan_class_folder(class_path, scan_subfolders=scan_subfolders)
    return result


def _scan_class_folder(folder: Path, *, scan_subfolders: bool = False) -> ClassFolder:
    """Find the clips of a class folder, and list its subfolders if it has no videos.

    Folders of frames beside video files are no clips: they mostly are the frames of these files.
    """
    folder_contents = list_folder(folder)
    subfolder_contents: dict[str, FolderContents] = {}
    if scan_subfolders or not folder_contents.videos:
        for name in folder_contents.folders:
            try:
                subfolder_contents[name] = list_folder(folder / name)
            except OSError as error:
                folder_contents.unreadable[name] = f"cannot be listed: {error.strerror}"
    clips = folder_contents.videos or [
        name for name, subcontents in subfolder_contents.items() if subcontents.is_clip
    ]
    return ClassFolder(clips, folder_contents, subfolder_contents)
