"""Classes, clips and groups from a list in the split file, from folders or from a CSV.

A clip is named by its path below the split's root, with `/` between folders: that name is what
episodes, records and reports show. A group says which clips come from one recording: people,
scenes and cameras repeat inside a group, so a query and a support clip of one group are no test of
recognition.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from fewshot_i2v._files import open_lines
from fewshot_i2v.episodes._on_disk import ClassFolder, class_folder
from fewshot_i2v.episodes._problems import Problems, path_problem, text_problem

_ROOT_HINT = "the root can be given with --root"


@dataclass(frozen=True, slots=True, order=True)
class Clip:
    """One video of a class.

    Attributes:
        name: its path below the split's root, with `/` between folders.
        group: the recording it comes from, or None where unknown.
    """

    name: str
    group: str | None = None


@dataclass(frozen=True)
class Draw:
    """A published choice of clips to learn from, as many of every class.

    Attributes:
        shot: clips of each class.
        clips: class -> clip names.
    """

    shot: int
    clips: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Generator:
    """How the clips of a split are made, where they are not files.

    Attributes:
        name: the generator, such as "motions".
        seed: 0 or more.
        size: height and width in pixels.
        frames: frames in a clip.
        fps: frames per second.
        clips: clips of each class.
    """

    name: str
    seed: int = 0
    size: int = 64
    frames: int = 16
    fps: int = 8
    clips: int = 60


Classes: TypeAlias = dict[str, list[Clip]]


@dataclass
class ClassNotes:
    """What a split file says of classes beside their clips.

    Attributes:
        ids: class -> what the source calls it.
        folders: class -> the folder that is put before its clip names.
    """

    ids: dict[str, str] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, value: Mapping[str, object], where: str, problems: Problems) -> None:
        """Note id and folder of a class; a class of two subsets must have the same in both."""
        for key, known in (("id", self.ids), ("folder", self.folders)):
            text = value.get(key, known.get(name))
            if text is None:
                continue
            if not isinstance(text, str):
                problems.add(where, f"{key}: got {text!r}; expected text (in quotes if a number)")
                continue
            wrong = text_problem(text) if key == "id" else path_problem(text)
            if wrong:
                problems.add(where, f"{key}: {wrong}")
            if known.setdefault(name, text) != text:
                problems.add(where, f"{key}: got {text!r}, elsewhere the class has {known[name]!r}")


def listed(
    mapping: Mapping[str, object], where: str, problems: Problems, notes: ClassNotes
) -> Classes:
    """Clips listed class by class.

    Args:
        mapping: class -> list of names, or of mappings with `clip` and `group`; or a mapping with
            `clips` (such a list, or a text), `folder` and `id`.
        where: key of the mapping, for problems.
        problems: takes what is wrong.
        notes: takes ids and folders of the classes.

    Returns:
        The clips that are right, by class.
    """
    classes: Classes = {}
    for name, items in mapping.items():
        key = f"{where}.{name}"
        if isinstance(items, dict):
            problems.unknown(key, items, ("clips", "folder", "id"))
            notes.add(name, items, key, problems)
            items = items.get("clips")
            if isinstance(items, str):
                texts = clip_texts(items, notes.folders.get(name), key, problems)
                classes[name] = [Clip(text) for text in texts]
                continue
        if not isinstance(items, list):
            problems.add(key, f"got {items!r}; expected a list of clip names")
            continue
        folder = notes.folders.get(name)
        found = (_listed_clip(item, f"{key}[{i}]", problems) for i, item in enumerate(items))
        clips = [clip for clip in found if clip is not None]
        classes[name] = [Clip(_inside(folder, clip.name), clip.group) for clip in clips]
    return classes


def clip_texts(value: object, folder: str | None, where: str, problems: Problems) -> list[str]:
    """Names from a list, or from a text with white space between them.

    Args:
        value: the list or the text.
        folder: what is put before each name, or None.
        where: its key, for problems.
        problems: takes what is wrong.
    """
    names = value.split() if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        problems.add(where, f"got {value!r}; expected clip names (in quotes if numbers) or a text")
        return []
    return [_inside(folder, name) for name in names]


def _inside(folder: str | None, name: str) -> str:
    return name if folder is None else f"{folder}/{name}"


def _listed_clip(item: object, key: str, problems: Problems) -> Clip | None:
    if isinstance(item, str):
        return Clip(item)
    if not isinstance(item, dict):
        problems.add(key, f"got {item!r}; expected a clip's name (in quotes if it is a number)")
        return None
    problems.unknown(key, item, ("clip", "group"))
    name, group = item.get("clip"), item.get("group")
    if isinstance(group, int) and not isinstance(group, bool):
        group = str(group)
    if not isinstance(name, str):
        problems.add(key, f"clip: got {name!r}; expected a clip's name")
        return None
    if not isinstance(group, str | None):
        problems.add(key, f"group: got {group!r}; expected text")
        return None
    return Clip(name, group)


def generated(classes: Sequence[str], clips: int) -> Classes:
    """Names of generated clips: `<class>/<class>-000.mp4` and so on, `clips` of each class."""
    return {name: [Clip(f"{name}/{name}-{i:03d}.mp4") for i in range(clips)] for name in classes}


def in_folders(
    root: Path, folder: str, classes: Sequence[str] | None, where: str, problems: Problems
) -> Classes:
    """Clips that lie in one folder per class; the arguments are those of `class_folders`.

    Returns:
        Per class all its clips, sorted: video files directly in its folder, by content, hidden
        ones apart; where there are none, folders of numbered pictures.
    """
    prefix = "" if folder == "." else folder.rstrip("/") + "/"
    found = class_folders(root, folder, classes, where, problems)
    return {
        name: [Clip(f"{prefix}{name}/{clip}") for clip in held.clips]
        for name, held in found.items()
    }


def class_folders(
    root: Path,
    folder: str,
    classes: Sequence[str] | None,
    where: str,
    problems: Problems,
    *,
    deep: bool = False,
) -> dict[str, ClassFolder]:
    """Class folders and what is in them.

    Args:
        root: the split's root.
        folder: where the class folders lie, below `root`; "." for `root` itself.
        classes: the class folders to take; None takes all that are not hidden.
        where: key of the subset, for problems.
        problems: takes what is wrong.
        deep: whether to look into all folders in class folders.

    Raises:
        OSError: if one cannot be listed.
    """
    base = root if folder == "." else root / folder
    if not base.is_dir():
        problems.add(where, f"no folder {base}; expected class folders there ({_ROOT_HINT})")
        return {}
    if classes is None:
        classes = sorted(p.name for p in base.iterdir() if p.is_dir() and p.name[0] != ".")
        if not classes:
            problems.add(where, f"{base} has no class folders ({_ROOT_HINT})")
    result: dict[str, ClassFolder] = {}
    for name in classes:
        home = base / name
        if path_problem(name) or "/" in name or "\\" in name:
            problems.add(where, f"class {name!r}: expected the name of one folder")
            continue
        if not home.is_dir():
            problems.add(where, f"no folder {home} for class {name!r} ({_ROOT_HINT})")
            continue
        result[name] = class_folder(home, deep=deep)
    return result


def in_csv(path: Path, where: str, problems: Problems) -> Classes:
    """Clips from a CSV with the columns `path`, `class` and, if wanted, `group`.

    Args:
        path: the CSV, in UTF-8 with a header row.
        where: key of the subset, for problems.
        problems: takes what is wrong, with line numbers.

    Returns:
        The clips of the rows that are right, by class.
    """
    if not path.is_file():
        problems.add(where, f"no file {path}; expected a CSV with the columns path,class[,group]")
        return {}
    classes: Classes = {}
    try:
        with open_lines(path) as file:
            for name, clip in _csv_rows(csv.DictReader(file, strict=True), path, where, problems):
                classes.setdefault(name, []).append(clip)
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        problems.add(where, f"{path} cannot be read as a CSV in UTF-8: {error}")
    return classes


def _csv_rows(
    rows: csv.DictReader[str], path: Path, where: str, problems: Problems
) -> Iterator[tuple[str, Clip]]:
    rows.fieldnames = header = [name.strip() for name in rows.fieldnames or []]
    if sorted(header) not in (["class", "path"], ["class", "group", "path"]):
        expected = "expected path,class or path,class,group, with commas"
        problems.add(where, f"{path}:1: header {header}; {expected}")
        return
    for row in rows:
        if None in row or None in row.values():
            what = f"{path}:{rows.line_num}: not {len(header)} fields as in the header"
            problems.add(where, what)
            continue
        row = {key: text.strip() for key, text in row.items()}
        yield row["class"], Clip(row["path"], row.get("group") or None)
