"""Locates the clips of a split on disk, and lists further files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fewshot_i2v.data.splits.matching.file_matching import match_files
from fewshot_i2v.data.splits.matching.file_tree import VideoTree, walk_videos
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.errors import SplitError

_MAX_NAMED = 8


@dataclass(frozen=True)
class ClipLocations:
    """The locations of clips.

    Attributes:
        root: the folder of the clips.
        files: clip name -> its file.
        missing: clip name -> why there is no file.
        ambiguous: clip name -> the files that could be it.
        extra: videos and folders of frames of no clip.
        refused: path that is not used -> why.
        hints: advice, in words.
    """

    root: Path
    files: Mapping[str, Path]
    missing: Mapping[str, str]
    ambiguous: Mapping[str, tuple[Path, ...]]
    extra: tuple[Path, ...]
    refused: Mapping[Path, str]
    hints: tuple[str, ...]


def locate_clips(split: Split) -> ClipLocations:
    """Locate the clips of a split.

    Raises:
        SplitError: when it has no root that can be listed, or its clips are generated.
    """
    if split.generator is not None:
        raise SplitError(f"split {split.name!r}: its clips are generated: there are none to check")
    if split.root is None:
        raise SplitError(
            f"split {split.name!r} names no folder of its clips: give one with --root FOLDER"
        )
    if split.find == "path":
        return _locate_by_path(split, split.root)
    matches = split.file_matches
    hints = [] if matches.files else _no_clip_hints(split.root)
    return ClipLocations(
        split.root,
        matches.files,
        {name: matches.reasons[name] for name in matches.missing},
        matches.ambiguous,
        matches.extra,
        matches.refused,
        tuple(hints),
    )


def _locate_by_path(split: Split, root: Path) -> ClipLocations:
    tree = walk_videos(root, follow_links=split.links == "follow")
    files: dict[str, Path] = {}
    missing: dict[str, str] = {}
    for name in split.clip_names():
        try:
            path = split.clip_path(name)
        except SplitError as error:  # a link out of the root
            missing[name] = str(error)
            continue
        if path.exists():
            files[name] = path
        else:
            missing[name] = f"no file {path}"
    extra = [f.path for f in tree.files if f.path not in files and not (f.linked or f.refusal)]
    hints = _find_by_name_hints(list(missing), root) if missing else []
    if not files and not hints:
        hints = _no_clip_hints(root)
    refused = {root / path: reason for path, reason in _unused_refusals(tree, files).items()}
    return ClipLocations(
        root, files, missing, {}, tuple(root / path for path in extra), refused, tuple(hints)
    )


def _unused_refusals(tree: VideoTree, files: Mapping[str, Path]) -> dict[str, str]:
    """Return refused paths, without those that a clip's own path leads to: they are used."""
    used = {name for file in files for name in _path_prefixes(file)}
    return {path: reason for path, reason in tree.refused.items() if path not in used}


def _path_prefixes(path: str) -> Iterator[str]:
    components = path.split("/")
    return ("/".join(components[: i + 1]) for i in range(len(components)))


def _find_by_name_hints(missing: list[str], root: Path) -> list[str]:
    matched = match_files(missing, root, "name").files
    if not matched:
        return []
    name, file = next(iter(matched.items()))
    return [
        f"{len(matched)} of the missing clips would be found with `find: name` in the split file, "
        f"such as {name!r}: {file}"
    ]


def _no_clip_hints(root: Path) -> list[str]:
    visible = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
    more_note = f" and {len(visible) - _MAX_NAMED} more" if len(visible) > _MAX_NAMED else ""
    shown_names = ", ".join(visible[:_MAX_NAMED]) + more_note if visible else "nothing"
    return [f"no clip of the list is below {root}; there is {shown_names}: is it the right folder?"]
