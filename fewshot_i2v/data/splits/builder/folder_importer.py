"""Imports clip lists from class folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fewshot_i2v.data.splits.builder.clip_list import ClipList
from fewshot_i2v.data.splits.folder_contents import (
    ClassFolder,
    FolderContents,
    file_extension,
    list_folder,
    scan_class_folders,
)
from fewshot_i2v.data.splits.problems import ProblemList
from fewshot_i2v.data.splits.split import Clip
from fewshot_i2v.data.splits.subsets import ClipsByClass
from fewshot_i2v.errors import SplitError
from fewshot_i2v.utils.text_table import count_text, join_names

_MOVE_HINT = "move them into class folders, or list them with --csv"

ScannedFolders = Mapping[str, ClassFolder]


def import_folders(root: Path, *, all_way: bool = False) -> ClipList:
    """Import the clips of one folder per class.

    Args:
        root: the folder that holds the class folders; video files directly in them are the clips,
            or, where a class has none, folders of numbered pictures.
        all_way: the class folders are in `train` and in `test` (or `val`) below it instead.

    Returns:
        The clip list; its notes count the files that are not imported, and name some of them.

    Raises:
        SplitError: when there are no class folders with clips, or they cannot be listed.
    """
    if not root.is_dir():
        raise SplitError(f"--root: no folder {root}; expected one folder per class in it")
    clip_list, problems = ClipList(root), ProblemList(root)
    try:
        for role in ("train", _find_test_folder(root)) if all_way else ("",):
            clip_list.classes_by_role[role] = _import_classes(root, role, clip_list, problems)
    except OSError as error:
        raise SplitError(f"{error.filename}: cannot be listed: {error.strerror}") from error
    problems.raise_if_any()
    return clip_list


def _find_test_folder(root: Path) -> str:
    """Return the name of the folder with the test clips."""
    if (root / "train").is_dir():
        for name in ("test", "val"):
            if (root / name).is_dir():
                return name
    folders = ", ".join(sorted(path.name for path in root.iterdir() if path.is_dir())) or "none"
    raise SplitError(
        f"{root}: expected the folders train and test (or val) with one folder per class in each; "
        f"found {folders}"
    )


def _import_classes(
    root: Path, role: str, clip_list: ClipList, problems: ProblemList
) -> ClipsByClass:
    """Import the class folders of one role, which are in a folder of that name, or in the root."""
    base = root / role if role else root
    base_contents = list_folder(base)
    if base_contents.videos and not base_contents.folders:
        loose_videos = _count_and_name(base_contents.videos, "video", "in no folder")
        raise SplitError(f"{base}: no class folders, but {loose_videos}; {_MOVE_HINT}")
    scanned = scan_class_folders(
        root, role or ".", None, "class folders", problems, scan_subfolders=True
    )
    if scanned and not any(class_folder.clips for class_folder in scanned.values()):
        raise SplitError(_no_clips_message(base, scanned, base_contents))
    clip_list.notes += _import_notes(scanned, base_contents)
    prefix = f"{role}/" if role else ""
    classes = {
        name: [Clip(f"{prefix}{name}/{clip}") for clip in class_folder.clips]
        for name, class_folder in scanned.items()
        if class_folder.clips
    }
    outside_clips = [
        clip for clips in classes.values() for clip in _clips_outside_root(root, clips)
    ]
    linked = [name for name in classes if (base / name).is_symlink()]
    if outside_clips and _only_below(outside_clips, prefix, linked):
        # whoever links the folder of a class means the clips in it; a list of clips does not
        clip_list.links = "follow"
        clip_list.notes.append(f"class folders that are links are followed: {join_names(linked)}")
    elif outside_clips:
        clip_list.notes.append(
            f"links to files outside of {root}: {join_names(outside_clips)}; they are refused "
            "without `links: follow` in the split file"
        )
    return classes


def _only_below(clips: Sequence[str], prefix: str, folders: Sequence[str]) -> bool:
    """Whether all of the clips lie in some of the class folders."""
    return all(clip.removeprefix(prefix).partition("/")[0] in folders for clip in clips)


def _import_notes(scanned: ScannedFolders, base_contents: FolderContents) -> Iterator[str]:
    """Yield notes on skipped files and folders, and on clips that are folders of pictures."""
    subfolders = [
        (f"{name}/{subfolder}", subcontents, class_folder)
        for name, class_folder in scanned.items()
        for subfolder, subcontents in class_folder.subfolder_contents.items()
    ]
    frame_folders = [
        f"{name}/{clip}"
        for name, class_folder in scanned.items()
        for clip in class_folder.clips
        if not class_folder.contents.videos
    ]
    if frame_folders:
        yield _count_and_name(frame_folders, "clip", "of numbered pictures in a folder each")
    if base_contents.videos:
        loose_videos = _count_and_name(base_contents.videos, "video", "in no folder")
        yield f"left out: {loose_videos}; {_MOVE_HINT}"
    nested_videos = [
        f"{path}/{video}" for path, contents, _ in subfolders for video in contents.videos
    ]
    if nested_videos:
        kind = "in folders inside class folders"
        yield f"left out: {_count_and_name(nested_videos, 'video', kind)}; {_MOVE_HINT}"
    # frames beside videos mostly are the frames of these videos
    frames_beside_videos = [
        path
        for path, contents, class_folder in subfolders
        if contents.is_clip and class_folder.contents.videos
    ]
    if frames_beside_videos:
        kind = "of numbered pictures beside video files"
        yield f"left out: {_count_and_name(frames_beside_videos, 'folder', kind)}"
    empty_classes = [
        f"{name}{_contents_hint(class_folder)}"
        for name, class_folder in scanned.items()
        if not class_folder.clips
    ]
    if empty_classes:
        yield f"no clips in {join_names(empty_classes)}: no class of that name"
    unreadable = list(_unreadable_files(scanned, base_contents))
    if unreadable:
        kind = "that cannot be read as videos"
        yield f"left out: {_count_and_name(unreadable, 'file', kind)}"
    others = _other_files(scanned, base_contents)
    if others:
        counts = ", ".join(_count_by_ending(others))
        yield f"left out: {_count_and_name(others, 'file', f'of other kinds ({counts})')}"
    without_clips = [
        path
        for path, contents, _ in subfolders
        if not (contents.videos or contents.is_clip or contents.folders)
    ]
    if without_clips:
        yield f"left out: {_count_and_name(without_clips, 'folder', 'without clips')}"
    unvisited = [
        f"{path}/{folder}" for path, contents, _ in subfolders for folder in contents.folders
    ]
    if unvisited:
        yield f"not looked into {_count_and_name(unvisited, 'folder', 'deeper down')}"


def _count_and_name(names: Sequence[str], noun: str, kind: str) -> str:
    """Count names and show the first few: "2 videos in no folder: a.mp4, b.mp4"."""
    return f"{count_text(len(names), noun)} {kind}: {join_names(names)}"


def _contents_by_prefix(
    scanned: ScannedFolders, base_contents: FolderContents
) -> dict[str, FolderContents]:
    """Return all that was listed, by the path that is put before the names."""
    contents_by_prefix = {"": base_contents}
    for name, class_folder in scanned.items():
        contents_by_prefix[f"{name}/"] = class_folder.contents
        for subfolder, subcontents in class_folder.subfolder_contents.items():
            contents_by_prefix[f"{name}/{subfolder}/"] = subcontents
    return contents_by_prefix


def _other_files(scanned: ScannedFolders, base_contents: FolderContents) -> list[str]:
    """Files that are no clips or parts of one, in the root and in classes with clips."""
    named = {name: class_folder for name, class_folder in scanned.items() if class_folder.clips}
    contents_by_prefix = _contents_by_prefix(named, base_contents)
    return [f"{prefix}{file}" for prefix, c in contents_by_prefix.items() for file in c.others]


def _unreadable_files(scanned: ScannedFolders, base_contents: FolderContents) -> Iterator[str]:
    """Yield files that cannot be read as videos, with the reasons."""
    for prefix, contents in _contents_by_prefix(scanned, base_contents).items():
        for file, reason in sorted(contents.unreadable.items()):
            yield f"{prefix}{file} {reason}"


def _contents_hint(class_folder: ClassFolder) -> str:
    """Describe the contents of a class folder without clips, in brackets."""
    if class_folder.contents.n_frames:
        return " (it holds numbered pictures: it would be one clip itself)"
    files = [*class_folder.contents.others]
    files += [
        name for contents in class_folder.subfolder_contents.values() for name in contents.others
    ]
    counted = _count_by_ending(files)[:2]
    return f" ({', '.join(counted)})" if counted else ""


def _count_by_ending(files: Sequence[str]) -> list[str]:
    """Count files by their extension, the most frequent first: "2 .txt"."""
    counts = Counter(map(file_extension, files)).most_common()
    return [f"{n} {extension or 'without extension'}" for extension, n in counts]


def _no_clips_message(base: Path, scanned: ScannedFolders, base_contents: FolderContents) -> str:
    """Explain why there are no clips: often the class folders are one level up or down."""
    outer_names = [name for name in scanned if _contains_class_folders(base / name, scanned[name])]
    if outer_names:
        subfolder_sets = Counter(tuple(scanned[name].contents.folders) for name in outer_names)
        same_subfolders = len(outer_names) > 1 and len(subfolder_sets) == 1
        all_way_hint = (
            "; --all-way takes train and test, where both have the same classes"
            if same_subfolders
            else ""
        )
        return (
            f"{base}: its folders {join_names(outer_names)} hold folders with videos; expected "
            f"the class folders themselves: give --root {base / outer_names[0]}{all_way_hint}"
        )
    if all(class_folder.contents.is_clip for class_folder in scanned.values()):
        return (
            f"{base}: its folders {join_names(list(scanned))} hold numbered pictures, so each "
            "would be one clip; expected folders of such folders, one per class"
        )
    expected = "expected video files in class folders, or folders of numbered pictures"
    return f"{base}: {expected}; {'; '.join(_import_notes(scanned, base_contents))}"


def _contains_class_folders(folder: Path, class_folder: ClassFolder) -> bool:
    """Whether the subfolders of a folder could be class folders."""
    return any(
        subcontents.videos
        or any(
            list_folder(folder / name / deep_folder).is_clip
            for deep_folder in subcontents.folders[:1]
        )
        for name, subcontents in class_folder.subfolder_contents.items()
    )


def _clips_outside_root(root: Path, clips: Sequence[Clip]) -> list[str]:
    """Names of clips whose files are outside the root, by a link to the clip or its folder."""
    real_root = root.resolve()
    folder, real_folder = None, real_root
    names = []
    for clip in clips:
        path = root / clip.name
        if path.parent != folder:
            folder, real_folder = path.parent, path.parent.resolve()
        is_inside = real_folder.is_relative_to(real_root)
        if not is_inside or (path.is_symlink() and not path.resolve().is_relative_to(real_root)):
            names.append(clip.name)
    return names
