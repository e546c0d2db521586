"""Lists the clips of class folders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from fewshot_i2v.episodes._listing import Listing
from fewshot_i2v.episodes._problems import Problems
from fewshot_i2v.episodes.catalog import VIDEO_EXTENSIONS, Classes, Clip, in_folders
from fewshot_i2v.errors import SplitError

_SHOWN = 3


def from_folders(root: Path, *, all_way: bool = False) -> Listing:
    """The clips of one folder per class.

    Args:
        root: the folder that holds the class folders; video files directly in them are the clips.
        all_way: the class folders are in `train` and in `test` (or `val`) below it instead.

    Returns:
        The listing; its notes name folders without videos, which are no classes, and folders
        inside class folders, which are not looked into.

    Raises:
        SplitError: when there are no class folders with videos, or they cannot be listed.
    """
    if not root.is_dir():
        raise SplitError(f"--root: no folder {root}; expected one folder per class in it")
    listing = Listing(root)
    problems = Problems(root)
    try:
        if all_way:
            for part in ("train", _test_folder(root)):
                listing.parts[part] = _classes(root, part, listing, problems)
        else:
            listing.parts[""] = _classes(root, ".", listing, problems)
    except OSError as error:
        raise SplitError(f"{error.filename}: cannot be listed: {error.strerror}") from error
    problems.stop()
    return listing


def _test_folder(root: Path) -> str:
    """The name of the folder with the clips to test on."""
    for name in ("train", "test", "val"):
        if name != "train" and (root / name).is_dir():
            return name
        if name == "train" and not (root / name).is_dir():
            break
    found = ", ".join(sorted(path.name for path in root.iterdir() if path.is_dir())) or "none"
    raise SplitError(
        f"{root}: expected the folders train and test (or val) with one folder per class in each; "
        f"found {found}"
    )


def _classes(root: Path, folder: str, listing: Listing, problems: Problems) -> Classes:
    base = root if folder == "." else root / folder
    found = in_folders(root, folder, None, "class folders", problems)
    classes = {name: clips for name, clips in found.items() if clips}
    empty = [name for name, clips in found.items() if not clips]
    if found and not classes:
        raise SplitError(_no_videos(base, empty))
    if empty:
        listing.notes.append(f"no video files in {_some(empty)}: no class of that name")
    deeper = [f"{name}/{inner}" for name in classes for inner in _folders(base / name)]
    if deeper:
        listing.notes.append(f"not looked into folders inside class folders: {_some(deeper)}")
    outside = [clip for clips in classes.values() for clip in _leaving(root, clips)]
    if outside:
        listing.notes.append(
            f"links to files outside of {root}: {_some(outside)}; they are refused without "
            "`links: follow` in the split file"
        )
    return classes


def _leaving(root: Path, clips: Sequence[Clip]) -> list[str]:
    """Names of clips whose files are elsewhere, by a link of their own or of the class folder."""
    home = root.resolve()
    folder, real = None, home
    names = []
    for clip in clips:
        path = root / clip.name
        if path.parent != folder:
            folder, real = path.parent, path.parent.resolve()
        inside = real.is_relative_to(home)
        if not inside or (path.is_symlink() and not path.resolve().is_relative_to(home)):
            names.append(clip.name)
    return names


def _no_videos(base: Path, folders: Sequence[str]) -> str:
    """Why there are no clips: mostly the class folders are one level further down."""
    inner = {name: _folders(base / name) for name in folders}
    holding = [
        name for name in folders if any(_has_video(base / name / deep) for deep in inner[name])
    ]
    kinds = ", ".join(sorted(VIDEO_EXTENSIONS))
    if not holding:
        return f"{base}: no video files in its folders {_some(folders)}; expected some of {kinds}"
    same = len(holding) > 1 and len({tuple(inner[name]) for name in holding}) == 1
    pair = "; --all-way takes train and test, where both have the same classes" if same else ""
    return (
        f"{base}: its folders {_some(holding)} hold folders with videos; expected the class "
        f"folders themselves: give --root {base / holding[0]}{pair}"
    )


def _folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and e.name[0] != ".")


def _has_video(folder: Path) -> bool:
    def _entries() -> Iterator[str]:
        with os.scandir(folder) as entries:
            yield from (entry.name for entry in entries)

    return any(Path(name).suffix.lower() in VIDEO_EXTENSIONS for name in _entries())


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
