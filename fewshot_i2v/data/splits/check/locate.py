"""Where the clips of a split are on disk, and what else is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fewshot_i2v.data.splits.matching.file_matching import match_files
from fewshot_i2v.data.splits.matching.file_tree import Tree, walk
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.errors import SplitError

_NAMED = 8


@dataclass(frozen=True)
class Places:
    """Where clips are.

    Attributes:
        root: the folder of the clips.
        files: clip name -> its file.
        missing: clip name -> why there is no file.
        ambiguous: clip name -> the files that could be it.
        extra: videos and folders of frames that are no clip's.
        refused: what is not used -> why.
        hints: what to try, in words.
    """

    root: Path
    files: Mapping[str, Path]
    missing: Mapping[str, str]
    ambiguous: Mapping[str, tuple[Path, ...]]
    extra: tuple[Path, ...]
    refused: Mapping[Path, str]
    hints: tuple[str, ...]


def places(split: Split) -> Places:
    """Look for the clips of a split.

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
        return _by_path(split, split.root)
    found = split.matches
    hints = [] if found.files else _no_clip(split.root)
    return Places(
        split.root,
        found.files,
        {name: found.reasons[name] for name in found.missing},
        found.ambiguous,
        found.extra,
        found.refused,
        tuple(hints),
    )


def _by_path(split: Split, root: Path) -> Places:
    tree = walk(root, follow=split.links == "follow")
    files: dict[str, Path] = {}
    missing: dict[str, str] = {}
    for name in split.names():
        try:
            path = split.file(name)
        except SplitError as error:  # a link out of the root
            missing[name] = str(error)
            continue
        if path.exists():
            files[name] = path
        else:
            missing[name] = f"no file {path}"
    extra = [f.path for f in tree.files if f.path not in files and not (f.linked or f.refused)]
    hints = _by_name(list(missing), root) if missing else []
    if not files and not hints:
        hints = _no_clip(root)
    refused = {root / path: why for path, why in _refused(tree, files).items()}
    return Places(
        root, files, missing, {}, tuple(root / path for path in extra), refused, tuple(hints)
    )


def _refused(tree: Tree, files: Mapping[str, Path]) -> dict[str, str]:
    """Without what a clip's own path leads to: that is used."""
    used = {name for file in files for name in _with_folders(file)}
    return {path: why for path, why in tree.refused.items() if path not in used}


def _with_folders(path: str) -> Iterator[str]:
    parts = path.split("/")
    return ("/".join(parts[: i + 1]) for i in range(len(parts)))


def _by_name(missing: list[str], root: Path) -> list[str]:
    found = match_files(missing, root, "name").files
    if not found:
        return []
    name, file = next(iter(found.items()))
    return [
        f"{len(found)} of the missing clips would be found with `find: name` in the split file, "
        f"such as {name!r}: {file}"
    ]


def _no_clip(root: Path) -> list[str]:
    shown = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
    more = f" and {len(shown) - _NAMED} more" if len(shown) > _NAMED else ""
    there = ", ".join(shown[:_NAMED]) + more if shown else "nothing"
    return [f"no clip of the list is below {root}; there is {there}: is it the right folder?"]
