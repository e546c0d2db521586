"""Locates the clips of a split on disk, and lists further files."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path

from fewshot_i2v.data.splits.matching.file_matching import FileMatches, match_files
from fewshot_i2v.data.splits.matching.file_tree import walk_videos
from fewshot_i2v.data.splits.problems import join_names
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.errors import SplitError

_MAX_NAMED = 8


def locate_clips(split: Split) -> FileMatches:
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
    if split.find != "path":
        return split.file_matches
    root = split.root
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
    # a folder is used as well if a clip's own path leads through it
    used = {path for name in files for path in accumulate(name.split("/"), "{}/{}".format)}
    return FileMatches(
        root,
        files,
        missing,
        ambiguous={},
        extra=tuple(
            root / file.path
            for file in tree.files
            if file.path not in files and not (file.linked or file.refusal)
        ),
        refused={root / path: why for path, why in tree.refused.items() if path not in used},
    )


def location_hint(split: Split, matches: FileMatches) -> str:
    """Return advice on clips that are missing; "" without any."""
    root = matches.root
    if split.find == "path" and matches.missing:
        by_name = match_files(list(matches.missing), root, "name").files
        if by_name:
            name, file = next(iter(by_name.items()))
            return (
                f"{len(by_name)} of the missing clips would be found with `find: name` in the "
                f"split file, such as {name!r}: {file}"
            )
    if matches.files:
        return ""
    visible = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
    return (
        f"no clip of the list is below {root}; there is "
        f"{join_names(visible, _MAX_NAMED) or 'nothing'}: is it the right folder?"
    )
