"""Lists the clips of class folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fewshot_i2v.episodes._listing import Listing
from fewshot_i2v.episodes._on_disk import ClassFolder, Contents, contents
from fewshot_i2v.episodes._problems import Problems
from fewshot_i2v.episodes.catalog import Classes, Clip, class_folders
from fewshot_i2v.errors import SplitError

_SHOWN = 3
_ELSEWHERE = "move them into class folders, or list them with --csv"

Folders = Mapping[str, ClassFolder]


def from_folders(root: Path, *, all_way: bool = False) -> Listing:
    """The clips of one folder per class.

    Args:
        root: the folder that holds the class folders; video files directly in them are the clips,
            or, where a class has none, folders of numbered pictures.
        all_way: the class folders are in `train` and in `test` (or `val`) below it instead.

    Returns:
        The listing; its notes count and name what could be meant as a clip and is none.

    Raises:
        SplitError: when there are no class folders with clips, or they cannot be listed.
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
    loose = contents(base)
    if loose.videos and not loose.folders:
        raise SplitError(f"{base}: no class folders, but {_loose(loose)}; {_ELSEWHERE}")
    prefix = "" if folder == "." else f"{folder}/"
    found = class_folders(root, folder, None, "class folders", problems, deep=True)
    if found and not any(held.clips for held in found.values()):
        raise SplitError(_no_clips(base, found, loose))
    listing.notes += _notes(found, loose)
    classes = {
        name: [Clip(f"{prefix}{name}/{clip}") for clip in held.clips]
        for name, held in found.items()
        if held.clips
    }
    outside = [clip for clips in classes.values() for clip in _leaving(root, clips)]
    if outside:
        listing.notes.append(
            f"links to files outside of {root}: {_some(outside)}; they are refused without "
            "`links: follow` in the split file"
        )
    return classes


def _loose(loose: Contents) -> str:
    return f"{_count(loose.videos, 'video')} in no folder: {_some(loose.videos)}"


def _notes(found: Folders, loose: Contents) -> Iterator[str]:
    """What could be meant as a clip and is none, and what kind clips are where they are no files.

    Each is counted, and the first few are named.
    """
    frames = [
        f"{name}/{clip}"
        for name, held in found.items()
        for clip in held.clips
        if not held.inside.videos
    ]
    if frames:
        yield f"{_count(frames, 'clip')} of numbered pictures in a folder each: {_some(frames)}"
    if loose.videos:
        yield f"left out: {_loose(loose)}; {_ELSEWHERE}"
    deeper = [
        f"{name}/{inner}/{video}"
        for name, held in found.items()
        for inner, below in held.below.items()
        for video in below.videos
    ]
    if deeper:
        count = _count(deeper, "video")
        yield f"left out: {count} in folders inside class folders: {_some(deeper)}; {_ELSEWHERE}"
    beside = [
        f"{name}/{inner}"
        for name, held in found.items()
        for inner, below in held.below.items()
        if below.is_clip and held.inside.videos
    ]
    if beside:
        count = _count(beside, "folder")
        yield f"left out: {count} of numbered pictures beside video files: {_some(beside)}"
    empty = [name for name, held in found.items() if not held.clips]
    if empty:
        shown = [f"{name}{_there(found[name])}" for name in empty]
        yield f"no clips in {_some(shown)}: no class of that name"
    unread = dict(_unread(found, loose))
    if unread:
        shown = [f"{name} {why}" for name, why in unread.items()]
        yield f"left out: {_count(shown, 'file')} that cannot be read as videos: {_some(shown)}"
    further = [f"{name}/{inner}/{deep}" for name, inner, deep in _further(found)]
    if further:
        yield f"not looked into {_count(further, 'folder')} deeper down: {_some(further)}"


def _further(found: Folders) -> Iterator[tuple[str, str, str]]:
    for name, held in found.items():
        for inner, below in held.below.items():
            yield from ((name, inner, deep) for deep in below.folders)


def _unread(found: Folders, loose: Contents) -> Iterator[tuple[str, str]]:
    yield from sorted(loose.unread.items())
    for name, held in found.items():
        places = {f"{name}/": held.inside}
        places |= {f"{name}/{inner}/": below for inner, below in held.below.items()}
        for place, inside in places.items():
            yield from ((place + file, why) for file, why in sorted(inside.unread.items()))


def _there(held: ClassFolder) -> str:
    """What is in a class folder without clips, in brackets."""
    if held.inside.frames:
        return " (it holds numbered pictures: it would be one clip itself)"
    others = sum((below.others for below in held.below.values()), held.inside.others.copy())
    words = [f"{n} {extension or 'without extension'}" for extension, n in others.most_common(2)]
    return f" ({', '.join(words)})" if words else ""


def _no_clips(base: Path, found: Folders, loose: Contents) -> str:
    """Why there are no clips: mostly the class folders are one level further up or down."""
    holding = [name for name in found if _holds_classes(base / name, found[name])]
    if holding:
        inner = Counter(tuple(found[name].inside.folders) for name in holding)
        same = len(holding) > 1 and len(inner) == 1
        pair = "; --all-way takes train and test, where both have the same classes" if same else ""
        return (
            f"{base}: its folders {_some(holding)} hold folders with videos; expected the class "
            f"folders themselves: give --root {base / holding[0]}{pair}"
        )
    if all(held.inside.is_clip for held in found.values()):
        return (
            f"{base}: its folders {_some(list(found))} hold numbered pictures, so each would be "
            "one clip; expected folders of such folders, one per class"
        )
    expected = "expected video files in class folders, or folders of numbered pictures"
    return f"{base}: {expected}; {'; '.join(_notes(found, loose))}"


def _holds_classes(folder: Path, held: ClassFolder) -> bool:
    """Whether the folders in a folder would do as class folders."""
    return any(
        below.videos or any(contents(folder / name / deep).is_clip for deep in below.folders[:1])
        for name, below in held.below.items()
    )


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


def _count(names: Sequence[str], what: str) -> str:
    return f"{len(names)} {what}{'' if len(names) == 1 else 's'}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
