"""What a source of clips says, gathered row by row and checked."""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from fewshot_i2v.data.splits.problems import Problems, path_problem, text_problem
from fewshot_i2v.data.splits.split import Clip, Find
from fewshot_i2v.data.splits.subsets import Classes
from fewshot_i2v.errors import SplitError

_DRIVE = re.compile(r"[A-Za-z]:[/\\]")
_PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
PART_WORDS = tuple(_PARTS)


@dataclass
class Listing:
    """The classes and clips that a source lists.

    Attributes:
        source: the file or folder.
        parts: "train", "val", "test" or, where the source does not divide clips, "" -> class ->
            clips.
        find: how clip names lead to files; see `Split.find`.
        class_ids: class -> what the source calls it.
        notes: what the user should know, a sentence each.
    """

    source: Path
    parts: dict[str, Classes] = field(default_factory=dict)
    find: Find = "path"
    class_ids: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def classes(self) -> Classes:
        """All clips by class, whatever their part."""
        together: Classes = {}
        for classes in self.parts.values():
            for name, clips in classes.items():
                together.setdefault(name, []).extend(clips)
        return together

    def names(self) -> list[str]:
        """Names of all clips."""
        return [clip.name for clips in self.classes().values() for clip in clips]


class Rows:
    """Adds rows to a listing; notes what is wrong with them, by line.

    Args:
        listing: what rows are added to.
        root: the folder that absolute paths are made relative to, or None.
        problems: takes what is wrong.

    Attributes:
        within: put after the place of a row where another one is said to repeat it.
    """

    def __init__(self, listing: Listing, root: Path | None, problems: Problems) -> None:
        self.listing, self.problems = listing, problems
        self.within = ""
        self._root = root
        self._homes = [] if root is None else _spellings(root)
        self._seen: dict[str, str] = {}

    def add(
        self, where: str, path: str, label: str, group: str | None = None, part: str = ""
    ) -> None:
        """Add a row.

        Args:
            where: its place in the source, for problems.
            path: the clip, below the root or absolute. Backslashes are those of Windows, unless a
                file below the root has them in its name.
            label: its class.
            group: the recording it comes from, or None.
            part: "train", "val", "test" or "".

        Raises:
            SplitError: for an absolute path where there is no root.
        """
        name = self._relative(path, where)
        if name is None:
            return
        wrong = path_problem(name) or self._text("class", label) or self._text("group", group)
        same = name if name.isascii() else unicodedata.normalize("NFC", name)
        if wrong is None and same in self._seen:
            wrong = f"clip {name!r} is already in {self._seen[same]}"
        if wrong is not None:
            self.problems.add(where, wrong)
            return
        self._seen[same] = where + self.within
        self.listing.parts.setdefault(part, {}).setdefault(label, []).append(Clip(name, group))

    def part(self, where: str, text: str) -> str:
        """The part that a word stands for."""
        part = _PARTS.get(text.strip().casefold())
        if part is None:
            self.problems.add(where, f"got {text!r}; expected {', '.join(PART_WORDS)}")
        return part or ""

    def _text(self, key: str, text: str | None) -> str | None:
        wrong = None if text is None else text_problem(text)
        return None if wrong is None else f"{key}: {wrong}"

    def _relative(self, path: str, where: str) -> str | None:
        """The clip's name; None, with a problem noted, where there is none."""
        text = path
        if "\\" in path and not (os.sep == "/" and self._root and (self._root / path).exists()):
            text = path.replace("\\", "/")
        text = text.rstrip("/") or text
        if not text.startswith("/") and not _DRIVE.match(text):
            return text.removeprefix("./")
        if not self._homes:
            what = "is an absolute path; give the folder of all clips with --root FOLDER"
            raise SplitError(f"{self.problems.path}: {where}: {path!r} {what}")
        for home in self._homes:
            if text.startswith(home):
                return text[len(home) :]
        self.problems.add(where, f"{path!r} is not below the root {self._homes[0]}")
        return None


def _spellings(root: Path) -> list[str]:
    """The root as an absolute path, as given and with links followed, with a slash at the end."""
    paths = (Path(os.path.abspath(root)), root.resolve())  # noqa: PTH100 - links are kept
    return list(dict.fromkeys(path.as_posix().rstrip("/") + "/" for path in paths))
