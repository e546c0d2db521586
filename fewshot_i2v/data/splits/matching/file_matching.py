"""Which file on disk is which clip of a list.

Copies of a data set differ in their folders, in extensions, in spaces or underscores, in the case
of letters and in the spelling of accents. A clip's file is looked for from strict to loose:

1. The folder of its class must be above the file, and no other folder of the list. Only where no
   class of the list has a folder on disk, and no other clip of the list such a name, may the file
   lie directly in the root, or in a folder with clips of other classes (`videos/`, `train/`).
2. Its name: exactly; accents spelled otherwise; spaces for underscores; other case.
3. The other folders in its name, then its extension, where the list gives one.

For `youtube` the 11 characters of the id come first (exactly, then in other case), then times: a
file without them, or a clip without them, is second to equal ones, and other times are another
clip. The id alone identifies a video, so its folder only decides between several files; but the
folder of another class of the list is a contradiction, and the file is not taken.

At each level a file is a clip's if neither could be another's. A clip with several files is
`ambiguous`, unless they are one file under several links; a file that several clips have an equal
claim to is none's. What was settled more strictly is not considered again.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import Literal

from fewshot_i2v.data.splits.matching.file_tree import Found, Tree, walk
from fewshot_i2v.data.splits.matching.name_similarity import (
    Rank,
    Wanted,
    folder_key,
    name_key,
    name_rank,
    wanted,
    youtube_key,
    youtube_rank,
)

__all__ = ["Matches", "match_files"]

_Pair = tuple[Rank, Wanted, Found]
_Folders = tuple[str, ...]


@dataclass(frozen=True)
class Matches:
    """Clips and their files.

    Attributes:
        files: clip name -> its file.
        missing: clips without a file, in the order of the list.
        ambiguous: clip name -> the files that could equally be it.
        extra: video files that are no clip's, sorted.
        reasons: for each missing clip, why.
        refused: files and folders that were not looked at, such as links out of the root -> why.
    """

    files: dict[str, Path]
    missing: tuple[str, ...]
    ambiguous: dict[str, tuple[Path, ...]]
    extra: tuple[Path, ...]
    reasons: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[Path, str] = field(default_factory=dict)


def match_files(
    names: Sequence[str], root: Path, how: Literal["name", "youtube"], *, follow: bool = False
) -> Matches:
    """Find the files of clips below a folder.

    Args:
        names: the clips, as in the list, with `/` between folders.
        root: the folder; walked through once. Hidden files and what is not a video by its extension
            are left out.
        how: "name", or "youtube" where the last part of a name is a YouTube id, with or without
            `_start_end`.
        follow: whether links that lead out of the root are followed.

    Returns:
        Every name is in one of `files`, `missing` and `ambiguous`.

    Raises:
        SplitError: when the folder cannot be listed.
    """
    search = _Search(names, walk(root, follow=follow), how)
    for key in search.files:
        search.settle(sorted(search.pairs(key)))
    return search.result()


class _Search:
    """One list against one folder."""

    def __init__(self, names: Sequence[str], tree: Tree, how: Literal["name", "youtube"]) -> None:
        self.tree, self.how = tree, how
        key: Callable[[str], str] = youtube_key if how == "youtube" else name_key
        self.rank: Callable[[Wanted, Found], Rank | None] = (
            youtube_rank if how == "youtube" else name_rank
        )
        self.clips: dict[str, list[Wanted]] = defaultdict(list)
        self.order = wanted(names)
        for clip in self.order:
            self.clips[key(clip.stem)].append(clip)
        self.key_of = {clip.name: value for value, group in self.clips.items() for clip in group}
        self.keys_of = _keys_of_folders(self.order, tree)
        self.owners = _owners(self.order, tree)
        self.on_disk = any(self.owners.values())
        self.listed = frozenset[str]().union(*(self.keys_of[clip.folders] for clip in self.order))
        self.files: dict[str, dict[str, list[Found]]] = {}
        for file in tree.files:
            value = key(file.stem)
            if value and value in self.clips:
                owners = self.files.setdefault(value, {})
                owners.setdefault(self.owners[file.folders], []).append(file)
        self.shared = self._shared_folders()
        self.found: dict[str, Found] = {}
        self.ambiguous: dict[str, list[Found]] = {}
        self.reasons: dict[str, str] = {}
        self.taken: dict[str, str] = {}
        self.left_over: dict[str, Found] = {}

    def _shared_folders(self) -> set[_Folders]:
        """Folders that hold clips of several classes, so that their name says nothing of one."""
        held: dict[_Folders, set[str]] = defaultdict(set)
        for key, owners in self.files.items():
            if len(self.clips[key]) == 1:
                for file in owners.get("", ()):
                    held[file.folders].add(self.clips[key][0].folder)
        several = min(2, len({clip.folder for clip in self.order}))
        return {(), *(folders for folders, classes in held.items() if len(classes) >= several)}

    def _near(self, clip: Wanted, key: str) -> list[Found]:
        """The files of a key whose folder could be the clip's."""
        owners = self.files.get(key, {})
        if not clip.folder:
            return [file for files in owners.values() for file in files]
        loose = self.how == "youtube" or (not self.on_disk and len(self.clips[key]) == 1)
        return [*owners.get(folder_key(clip.folder), ()), *(owners.get("", ()) if loose else ())]

    def pairs(self, key: str) -> Iterator[_Pair]:
        """All that could belong together, of one key."""
        for clip in self.clips[key]:
            for file in self._near(clip, key):
                fits = not file.refused and self._place_fits(clip, file)
                rank = self.rank(clip, file) if fits else None
                if rank is not None:
                    yield rank, clip, file

    def _place_fits(self, clip: Wanted, file: Found) -> bool:
        """Whether a clip's file may lie in this folder, which is near."""
        if not clip.folder or self.how == "youtube":
            return True
        if self.owners[file.folders]:
            return not (self.listed & self.keys_of[file.folders]) - self.keys_of[clip.folders]
        return file.folders in self.shared

    def settle(self, pairs: Sequence[_Pair]) -> None:
        """Give out the files of one key, the most alike first."""
        if len(pairs) == 1:
            self._give(pairs[0][1], pairs[0][2])
            return
        done: set[str] = set()
        for _, level in groupby(pairs, key=lambda pair: pair[0]):
            free = [(c, f) for _, c, f in level if c.name not in done and f.path not in self.taken]
            files: dict[Wanted, list[Found]] = defaultdict(list)
            clips: dict[Found, list[Wanted]] = defaultdict(list)
            for clip, file in free:
                files[clip].append(file)
                clips[file].append(clip)
            for clip, candidates in files.items():
                done.add(clip.name)
                self._decide(clip, self._distinct(candidates), clips)

    def _decide(
        self, clip: Wanted, files: Sequence[Found], clips: Mapping[Found, Sequence[Wanted]]
    ) -> None:
        if len(files) > 1:
            self.ambiguous[clip.name] = list(files)
            self.taken |= dict.fromkeys((file.path for file in files), clip.name)
            return
        others = [other.name for other in clips[files[0]] if other is not clip]
        if others:
            self.reasons[clip.name] = f"{files[0].path} could as well be {others[0]!r}"
            self.taken[files[0].path] = clip.name
        else:
            self._give(clip, files[0])

    def _distinct(self, files: Sequence[Found]) -> list[Found]:
        """One of each file, where links lead to the same."""
        if not any(file.linked for file in files):
            return list(files)
        ordered = sorted(files, key=lambda file: file.linked)
        return list({self._real(file): file for file in reversed(ordered)}.values())

    def _give(self, clip: Wanted, file: Found) -> None:
        self.found[clip.name] = file
        self.taken[file.path] = clip.name

    def _real(self, file: Found) -> str:
        return os.path.realpath(self.tree.root / file.path)

    def result(self) -> Matches:
        """What came of it."""
        settled = self.found.keys() | self.ambiguous.keys()
        missing = [clip for clip in self.order if clip.name not in settled]
        self.left_over = self._left_over()
        linked = {self._real(file) for file in self.found.values() if file.linked}
        root = self.tree.root
        rest = (f for f in self.tree.files if not (f.linked or f.refused or f.path in self.taken))
        return Matches(
            files={
                c.name: root / self.found[c.name].path for c in self.order if c.name in self.found
            },
            missing=tuple(clip.name for clip in missing),
            ambiguous={
                name: tuple(root / file.path for file in sorted(files))
                for name, files in self.ambiguous.items()
            },
            extra=tuple(root / f.path for f in rest if not linked or self._real(f) not in linked),
            reasons={c.name: self.reasons.get(c.name) or self._why_missing(c) for c in missing},
            refused={root / path: why for path, why in sorted(self.tree.refused.items())},
        )

    def _left_over(self) -> dict[str, Found]:
        """For each key, the first file that is no clip's."""
        first: dict[str, Found] = {}
        for key, owners in self.files.items():
            rest = (f for files in owners.values() for f in files if f.path not in self.taken)
            for file in islice(rest, 1):
                first[key] = file
        return first

    def _why_missing(self, clip: Wanted) -> str:
        key = self.key_of[clip.name]
        if not key:
            return f"{clip.stem!r} is no YouTube id of 11 characters, with or without _start_end"
        near = [self._why_not(clip, file) for file in self._near(clip, key)]
        if near:
            return min(near)[1]
        far = self.left_over.get(key)
        return _elsewhere(clip, far) if far else "no file of this name"

    def _why_not(self, clip: Wanted, file: Found) -> tuple[int, str]:
        """Why a file of the clip's key is not the clip's; the smaller the number, the nearer."""
        if file.refused:
            return 0, f"{file.path} {file.refused}"
        if not self._place_fits(clip, file):
            return 3, _elsewhere(clip, file)
        if self.rank(clip, file) is None:
            return 1, f"{file.path} shows other times"
        return 2, f"{file.path} is clip {self.taken[file.path]!r}"


def _elsewhere(clip: Wanted, file: Found) -> str:
    return f"{file.path} may be another clip: expected a folder {clip.folder!r} above it"


def _keys_of_folders(clips: Sequence[Wanted], tree: Tree) -> dict[_Folders, frozenset[str]]:
    paths = {clip.folders for clip in clips} | {file.folders for file in tree.files}
    return {path: frozenset(map(folder_key, path)) for path in paths}


def _owners(clips: Sequence[Wanted], tree: Tree) -> dict[_Folders, str]:
    """Folders of files -> the key of the innermost one that is a class's, or ""."""
    known = {folder_key(folder) for folder in {clip.folder for clip in clips} if folder}
    return {
        folders: next((key for key in map(folder_key, reversed(folders)) if key in known), "")
        for folders in {file.folders for file in tree.files}
    }
