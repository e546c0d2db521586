"""Collects and checks the clips that an importer reads, row by row."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from fewshot_i2v.data.splits.problems import (
    ProblemList,
    compose_accents,
    path_problem,
    text_problem,
)
from fewshot_i2v.data.splits.split import Clip, FindMode, LinkPolicy
from fewshot_i2v.data.splits.subsets import ClipsByClass
from fewshot_i2v.errors import SplitError

_DRIVE = re.compile(r"[A-Za-z]:[/\\]")
_ROLE_OF_WORD = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass
class ClipList:
    """The classes and clips of one source.

    Attributes:
        source: the file or folder.
        classes_by_role: "train", "val", "test" or, if the source does not divide clips, "" ->
            class -> clips.
        find: how clip names lead to files; see `Split.find`.
        class_ids: class -> its name in the source.
        notes: messages for the user, a sentence each.
        links: "follow" where class folders themselves are links out of the source.
    """

    source: Path
    classes_by_role: dict[str, ClipsByClass] = field(default_factory=dict)
    find: FindMode = "path"
    class_ids: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    links: LinkPolicy = "inside"

    def classes(self) -> ClipsByClass:
        """Return all clips by class, whatever their role."""
        merged: ClipsByClass = {}
        for classes in self.classes_by_role.values():
            for name, clips in classes.items():
                merged.setdefault(name, []).extend(clips)
        return merged


class ClipListBuilder:
    """Builds a clip list row by row, and collects the problems of all rows.

    Args:
        source: the file of the rows.
        root: the folder that absolute paths are made relative to, or None.
        find: how the clip names will lead to files.

    Attributes:
        clip_list: the rows so far.
        problems: what is wrong in the present file.
        location_suffix: put after a row's location where a later row is reported to repeat it.
    """

    def __init__(self, source: Path, root: Path | None = None, *, find: FindMode = "path") -> None:
        self.clip_list, self.problems = ClipList(source, find=find), ProblemList(source)
        self.location_suffix = ""
        self._root = root
        self._root_prefixes = [] if root is None else _absolute_prefixes(root)
        self._location_of: dict[str, str] = {}

    def add(self, location: str, path: str, label: str, group: str | None, role: str) -> None:
        """Add a row.

        Args:
            location: where it is in the source, for problems.
            path: the clip, below the root or absolute. Backslashes are those of Windows, unless a
                file below the root has them in its name.
            label: its class.
            group: the recording it comes from, or None.
            role: "train", "val", "test" or "".

        Raises:
            SplitError: for an absolute path if there is no root.
        """
        name = self._relative_name(path, location)
        if name is None:
            return
        problem = (
            path_problem(name)
            or self._check_text("class", label)
            or self._check_text("group", group)
        )
        clip_key = compose_accents(name)
        if problem is None and clip_key in self._location_of:
            problem = f"clip {name!r} is already in {self._location_of[clip_key]}"
        if problem is not None:
            self.problems.add(location, problem)
            return
        self._location_of[clip_key] = location + self.location_suffix
        self.clip_list.classes_by_role.setdefault(role, {}).setdefault(label, []).append(
            Clip(name, group)
        )

    def parse_role(self, location: str, word: str) -> str:
        """Return the role that a word means: "train", "val" or "test"; "" with a problem added."""
        role = _ROLE_OF_WORD.get(word.strip().casefold())
        if role is None:
            self.problems.add(location, f"got {word!r}; expected {', '.join(_ROLE_OF_WORD)}")
        return role or ""

    def build(self) -> ClipList:
        """Return the clip list.

        Raises:
            SplitError: with all problems of the rows, or when there are no rows.
        """
        self.problems.raise_if_any()
        if not self.clip_list.classes_by_role:
            raise SplitError(f"{self.clip_list.source}: no clips in it; expected a line for each")
        return self.clip_list

    def _check_text(self, key: str, text: str | None) -> str | None:
        problem = None if text is None else text_problem(text)
        return None if problem is None else f"{key}: {problem}"

    def _relative_name(self, path: str, location: str) -> str | None:
        """Return the clip's name; None, with a problem added, if there is none."""
        normalized = path
        if "\\" in path and not (os.sep == "/" and self._root and (self._root / path).exists()):
            normalized = path.replace("\\", "/")
        normalized = normalized.rstrip("/") or normalized
        if not normalized.startswith("/") and not _DRIVE.match(normalized):
            return normalized.removeprefix("./")
        if not self._root_prefixes:
            explanation = "is an absolute path; give the folder of all clips with --root FOLDER"
            raise SplitError(f"{self.problems.path}: {location}: {path!r} {explanation}")
        for prefix in self._root_prefixes:
            if normalized.startswith(prefix):
                return normalized[len(prefix) :]
        self.problems.add(location, f"{path!r} is not below the root {self._root_prefixes[0]}")
        return None


def _absolute_prefixes(root: Path) -> list[str]:
    """Return the absolute root, as passed and with links resolved, each with a final slash."""
    paths = (Path(os.path.abspath(root)), root.resolve())  # noqa: PTH100 - links are kept
    return list(dict.fromkeys(path.as_posix().rstrip("/") + "/" for path in paths))
