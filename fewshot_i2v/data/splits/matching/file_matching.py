"""Matches the clips of a list to the files on disk.

Copies of a data set differ in their folders, in extensions, in spaces or underscores, in the case
of letters and in the spelling of accents. A clip's file is searched for from strict to loose:

1. The folder of its class must be above the file, and no other class folder of the list. Only if
   no class of the list has a folder on disk, and no other clip of the list such a name, may the
   file lie directly in the root, or in a folder with clips of other classes (`videos/`, `train/`).
2. Its name: exactly; accents spelled differently; spaces for underscores; different case.
3. The further folders in its name, then its extension, if the list has one.

For `youtube` the 11 characters of the id come first (exactly, then in different case), then
times: if file or clip has no times, the pair ranks after equal times; different times are a
different clip. The id identifies a video, so its folder only decides between several files; but
the folder of another class of the list is a contradiction, and the file is not taken.

At each level a file is a clip's if neither has another match. A clip with several files is
`ambiguous`, unless they are one file under several links; a file that several clips match equally
is assigned to none. Matches of a stricter level are final.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Literal

from fewshot_i2v.data.splits.matching.file_tree import VideoFile, VideoTree, walk_videos
from fewshot_i2v.data.splits.matching.name_similarity import (
    ClipName,
    MatchRank,
    normalized_folder,
    normalized_name,
    parse_clip_names,
    rank_by_name,
    rank_by_youtube_id,
    youtube_id,
)

__all__ = ["FileMatches", "match_files"]

_RankedPair = tuple[MatchRank, ClipName, VideoFile]
_FolderPath = tuple[str, ...]


@dataclass(frozen=True)
class FileMatches:
    """The files of clips; every clip is in one of `files`, `missing` and `ambiguous`.

    Attributes:
        root: the folder of the clips.
        files: clip name -> its file.
        missing: clip name -> why it has no file.
        ambiguous: clip name -> the files that match it equally well.
        extra: videos and folders of frames of no clip, sorted.
        refused: path that is not used, such as a link out of the root -> why.
    """

    root: Path
    files: Mapping[str, Path]
    missing: Mapping[str, str]
    ambiguous: Mapping[str, tuple[Path, ...]]
    extra: tuple[Path, ...]
    refused: Mapping[Path, str]


def match_files(
    names: Sequence[str],
    root: Path,
    match_by: Literal["name", "youtube"],
    *,
    follow_links: bool = False,
) -> FileMatches:
    """Find the files of clips below a folder.

    Args:
        names: the clips, as in the list, with `/` between folders.
        root: the folder; walked through once. Hidden files and files without a video's extension
            are left out.
        match_by: "name", or "youtube" if the last component of a name is a YouTube id, with or
            without `_start_end`.
        follow_links: whether links that lead out of the root are followed.

    Raises:
        SplitError: when the folder cannot be listed.
    """
    matcher = _Matcher(names, walk_videos(root, follow_links=follow_links), match_by)
    for key in matcher.files_of_key:
        matcher.assign(sorted(matcher.ranked_pairs(key)))
    return matcher.result()


class _Matcher:
    """Matches one list to one folder."""

    def __init__(
        self, names: Sequence[str], tree: VideoTree, match_by: Literal["name", "youtube"]
    ) -> None:
        self.tree, self.match_by = tree, match_by
        make_key: Callable[[str], str] = youtube_id if match_by == "youtube" else normalized_name
        self.rank_pair: Callable[[ClipName, VideoFile], MatchRank | None] = (
            rank_by_youtube_id if match_by == "youtube" else rank_by_name
        )
        self.clips_of_key: dict[str, list[ClipName]] = defaultdict(list)
        self.clips = parse_clip_names(names)
        self.key_of = {clip.name: make_key(clip.stem) for clip in self.clips}
        for clip in self.clips:
            self.clips_of_key[self.key_of[clip.name]].append(clip)
        paths = {clip.folders for clip in self.clips} | {file.folders for file in tree.files}
        self.folder_keys = {path: frozenset(map(normalized_folder, path)) for path in paths}
        self.owner_of = _folder_owners(self.clips, tree)
        self.has_class_folders = any(self.owner_of.values())
        self.listed_keys = frozenset[str]().union(
            *(self.folder_keys[clip.folders] for clip in self.clips)
        )
        self.files_of_key: dict[str, dict[str, list[VideoFile]]] = {}
        for file in tree.files:
            clip_key = make_key(file.stem)
            if clip_key and clip_key in self.clips_of_key:
                files_by_owner = self.files_of_key.setdefault(clip_key, {})
                files_by_owner.setdefault(self.owner_of[file.folders], []).append(file)
        self.shared_folders = self._find_shared_folders()
        self.matched: dict[str, VideoFile] = {}
        self.ambiguous: dict[str, list[VideoFile]] = {}
        self.reasons: dict[str, str] = {}
        self.clip_of_path: dict[str, str] = {}
        self.unused_files: dict[str, VideoFile] = {}

    def _find_shared_folders(self) -> set[_FolderPath]:
        """Return folders with clips of several classes: their names do not tell the class."""
        classes_in: dict[_FolderPath, set[str]] = defaultdict(set)
        for key, files_by_owner in self.files_of_key.items():
            if len(self.clips_of_key[key]) == 1:
                for file in files_by_owner.get("", ()):
                    classes_in[file.folders].add(self.clips_of_key[key][0].folder)
        min_classes = min(2, len({clip.folder for clip in self.clips}))
        return {
            (),
            *(folders for folders, classes in classes_in.items() if len(classes) >= min_classes),
        }

    def _candidate_files(self, clip: ClipName, key: str) -> list[VideoFile]:
        """Return the files of a key whose folder could be the clip's."""
        files_by_owner = self.files_of_key.get(key, {})
        if not clip.folder:
            return [file for files in files_by_owner.values() for file in files]
        allow_unowned = self.match_by == "youtube" or (
            not self.has_class_folders and len(self.clips_of_key[key]) == 1
        )
        return [
            *files_by_owner.get(normalized_folder(clip.folder), ()),
            *(files_by_owner.get("", ()) if allow_unowned else ()),
        ]

    def ranked_pairs(self, key: str) -> Iterator[_RankedPair]:
        """Yield all possible pairs of clip and file of one key, with their ranks."""
        for clip in self.clips_of_key[key]:
            for file in self._candidate_files(clip, key):
                fits = not file.refusal and self._folder_fits(clip, file)
                rank = self.rank_pair(clip, file) if fits else None
                if rank is not None:
                    yield rank, clip, file

    def _folder_fits(self, clip: ClipName, file: VideoFile) -> bool:
        """Whether a clip's file may lie in the folder of a candidate file."""
        if not clip.folder or self.match_by == "youtube":
            return True
        if self.owner_of[file.folders]:
            return (
                not (self.listed_keys & self.folder_keys[file.folders])
                - self.folder_keys[clip.folders]
            )
        return file.folders in self.shared_folders

    def assign(self, pairs: Sequence[_RankedPair]) -> None:
        """Assign the files of one key, the most similar pairs first."""
        if len(pairs) == 1:
            self._record_match(pairs[0][1], pairs[0][2])
            return
        settled: set[str] = set()
        for _, level in groupby(pairs, key=lambda pair: pair[0]):
            unassigned = [
                (c, f)
                for _, c, f in level
                if c.name not in settled and f.path not in self.clip_of_path
            ]
            files: dict[ClipName, list[VideoFile]] = defaultdict(list)
            clips: dict[VideoFile, list[ClipName]] = defaultdict(list)
            for clip, file in unassigned:
                files[clip].append(file)
                clips[file].append(clip)
            for clip, candidates in files.items():
                settled.add(clip.name)
                self._assign_clip(clip, self._unique_files(candidates), clips)

    def _assign_clip(
        self,
        clip: ClipName,
        files: Sequence[VideoFile],
        clips: Mapping[VideoFile, Sequence[ClipName]],
    ) -> None:
        if len(files) > 1:
            self.ambiguous[clip.name] = list(files)
            self.clip_of_path |= dict.fromkeys((file.path for file in files), clip.name)
            return
        rivals = [rival.name for rival in clips[files[0]] if rival is not clip]
        if rivals:
            self.reasons[clip.name] = f"{files[0].path} could as well be {rivals[0]!r}"
            self.clip_of_path[files[0].path] = clip.name
        else:
            self._record_match(clip, files[0])

    def _unique_files(self, files: Sequence[VideoFile]) -> list[VideoFile]:
        """Return each file once, if several links lead to it."""
        if not any(file.linked for file in files):
            return list(files)
        ordered = sorted(files, key=lambda file: file.linked)
        return list({self._real_path(file): file for file in reversed(ordered)}.values())

    def _record_match(self, clip: ClipName, file: VideoFile) -> None:
        self.matched[clip.name] = file
        self.clip_of_path[file.path] = clip.name

    def _real_path(self, file: VideoFile) -> str:
        return os.path.realpath(self.tree.root / file.path)

    def result(self) -> FileMatches:
        """Return the matches."""
        root, matched = self.tree.root, self.matched
        # of each key the first file that is no clip's: the nearest to a missing clip
        self.unused_files = {
            key: file
            for key, files_by_owner in self.files_of_key.items()
            for file in islice(filter(self._is_unused, chain(*files_by_owner.values())), 1)
        }
        linked_paths = {self._real_path(file) for file in matched.values() if file.linked}
        return FileMatches(
            root,
            files={c.name: root / matched[c.name].path for c in self.clips if c.name in matched},
            missing={
                clip.name: self.reasons.get(clip.name) or self._missing_reason(clip)
                for clip in self.clips
                if clip.name not in matched and clip.name not in self.ambiguous
            },
            ambiguous={
                name: tuple(root / file.path for file in sorted(files))
                for name, files in self.ambiguous.items()
            },
            extra=tuple(
                root / file.path
                for file in self.tree.files
                if not (file.linked or file.refusal)
                and self._is_unused(file)
                and not (linked_paths and self._real_path(file) in linked_paths)
            ),
            refused={root / path: reason for path, reason in sorted(self.tree.refused.items())},
        )

    def _is_unused(self, file: VideoFile) -> bool:
        return file.path not in self.clip_of_path

    def _missing_reason(self, clip: ClipName) -> str:
        key = self.key_of[clip.name]
        if not key:
            return f"{clip.stem!r} is no YouTube id of 11 characters, with or without _start_end"
        rejections = [
            self._rejection_reason(clip, file) for file in self._candidate_files(clip, key)
        ]
        if rejections:
            return min(rejections)[1]
        unused = self.unused_files.get(key)
        return _folder_mismatch(clip, unused) if unused else "no file of this name"

    def _rejection_reason(self, clip: ClipName, file: VideoFile) -> tuple[int, str]:
        """Say why a file of the clip's key does not match; a smaller number means nearer."""
        if file.refusal:
            return 0, f"{file.path} {file.refusal}"
        if not self._folder_fits(clip, file):
            return 3, _folder_mismatch(clip, file)
        if self.rank_pair(clip, file) is None:
            return 1, f"{file.path} shows other times"
        return 2, f"{file.path} is clip {self.clip_of_path[file.path]!r}"


def _folder_mismatch(clip: ClipName, file: VideoFile) -> str:
    return f"{file.path} may be another clip: expected a folder {clip.folder!r} above it"


def _folder_owners(clips: Sequence[ClipName], tree: VideoTree) -> dict[_FolderPath, str]:
    """Map folders of files to the key of the innermost class folder in them, or ""."""
    class_keys = {normalized_folder(folder) for folder in {clip.folder for clip in clips} if folder}
    return {
        folders: next(
            (key for key in map(normalized_folder, reversed(folders)) if key in class_keys), ""
        )
        for folders in {file.folders for file in tree.files}
    }
