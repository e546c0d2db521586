"""Reads the `subsets` of a split file, in any of their forms, and checks the names."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from fewshot_i2v.data.splits.folder_contents import ClassFolder, class_folder
from fewshot_i2v.data.splits.problems import Problems, path_problem, text_problem
from fewshot_i2v.data.splits.split import Clip, Generator
from fewshot_i2v.utils.input_files import open_lines

_ROOT_HINT = "the root can be given with --root"


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


__all__ = ["POOLS", "SUBSETS", "ClassNotes", "Origin", "read_subsets"]

SUBSETS = ("base", "val", "novel")
"""Subsets whose classes differ."""
POOLS = ("train", "test")
"""Subsets of the same classes: support clips from the first, query clips from the second."""
_FORMS = (
    "a list of class names, a mapping of class names to clip names, {folder: FOLDER} or {csv: FILE}"
)


@dataclass(frozen=True)
class Origin:
    """Where the clips of a split file come from.

    Attributes:
        folder: the folder of the split file; CSV files are relative to it.
        root: the folder of the clips, or None.
        generator: makes the clips instead, or None.
        pattern: finds the group in a clip's name, or None.
    """

    folder: Path
    root: Path | None
    generator: Generator | None
    pattern: re.Pattern[str] | None


def read_subsets(
    value: object, origin: Origin, problems: Problems, notes: ClassNotes
) -> dict[str, Classes]:
    """The classes and clips of every subset, checked.

    Args:
        value: what stands under `subsets` in the split file.
        origin: where clips come from.
        problems: takes what is wrong.
        notes: takes ids and folders of the classes.

    Returns:
        subset -> class -> clips; only to be used when no problem was noted.
    """
    either = f"some of {', '.join(SUBSETS)}, or {' and '.join(POOLS)}"
    if not isinstance(value, dict) or not value:
        problems.add("subsets", f"got {value!r}; expected {either}")
        return {}
    problems.unknown("subsets", value, (*SUBSETS, *POOLS))
    pools = [name for name in POOLS if name in value]
    if pools and (len(pools) < len(POOLS) or any(name in value for name in SUBSETS)):
        problems.add("subsets", f"got {', '.join(value)}; expected {either}")
    subsets: dict[str, Classes] = {}
    for name in (*SUBSETS, *POOLS):
        if name in value:
            where = f"subsets.{name}"
            classes = _read(value[name], where, origin, problems, notes)
            subsets[name] = {
                c: _with_groups(clips, f"{where}.{c}", origin.pattern, problems)
                for c, clips in classes.items()
            }
    if pools:
        _check_same_classes(subsets, problems)
    else:
        _check_classes(subsets, problems)
    for subset, classes in subsets.items():
        _check_names(subset, classes, problems)
    _check_clips(subsets, problems)
    return subsets


def _read(
    value: object, where: str, origin: Origin, problems: Problems, notes: ClassNotes
) -> Classes:
    if isinstance(value, list) and value:
        names = _names(value, where, problems)
        if origin.generator is not None:
            return generated(names, origin.generator.clips)
        return _folders(".", names, where, origin, problems)
    if not isinstance(value, dict) or not value:
        problems.add(where, f"got {value!r}; expected {_FORMS}")
        return {}
    if origin.generator is not None:
        problems.add(where, "the clips are generated; expected a list of class names")
        return {}
    if isinstance(value.get("folder"), str):
        problems.unknown(where, value, ("folder", "classes"))
        given = value.get("classes")
        chosen = None if given is None else _names(given, f"{where}.classes", problems)
        return _folders(value["folder"], chosen, where, origin, problems)
    if isinstance(value.get("csv"), str):
        problems.unknown(where, value, ("csv",))
        return _csv(value["csv"], f"{where}.csv", origin, problems)
    return listed(value, where, problems, notes)


def _names(value: object, where: str, problems: Problems) -> list[str]:
    if not isinstance(value, list) or not value:
        problems.add(where, f"got {value!r}; expected a list of class names")
        return []
    names = []
    for i, name in enumerate(value):
        if not isinstance(name, str):
            what = f"got {name!r}; expected a class name (in quotes if it is a number)"
            problems.add(f"{where}[{i}]", what)
        elif name in names:
            problems.add(f"{where}[{i}]", f"class {name!r} is there twice")
        else:
            names.append(name)
    return names


def _folders(
    folder: str, names: Sequence[str] | None, where: str, origin: Origin, problems: Problems
) -> Classes:
    if origin.root is None:
        problems.add(
            where, "class folders need a root: give --root FOLDER, or write `root: FOLDER`"
        )
        return {}
    inside = folder.rstrip("/")
    if folder != "." and path_problem(inside):
        problems.add(f"{where}.folder", str(path_problem(inside)))
        return {}
    try:
        return in_folders(origin.root, inside, names, where, problems)
    except OSError as error:
        problems.add(where, f"{error.filename}: cannot be listed: {error.strerror}")
        return {}


def _csv(file: str, where: str, origin: Origin, problems: Problems) -> Classes:
    wrong = path_problem(file)
    if wrong:
        problems.add(where, wrong)
        return {}
    return in_csv(origin.folder / file, where, problems)


def _with_groups(
    clips: list[Clip], where: str, pattern: re.Pattern[str] | None, problems: Problems
) -> list[Clip]:
    if pattern is None:
        return clips
    result, unmatched = [], []
    for clip in clips:
        match = pattern.search(clip.name) if clip.group is None else None
        if match is not None and match.group(1) is not None:
            result.append(Clip(clip.name, match.group(1)))
        else:
            result.append(clip)
            if clip.group is None:
                unmatched.append(clip.name)
    if unmatched:
        what = f"{len(unmatched)} of {len(clips)} names do not match the `group` pattern"
        problems.add(where, f"{what} {pattern.pattern!r}, the first is {unmatched[0]!r}")
    return result


def _same(name: str) -> str:
    """The name as a file system may see it: letters with accents can be spelled in two ways."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _check_names(subset: str, classes: Classes, problems: Problems) -> None:
    for name, clips in classes.items():
        wrong = text_problem(name)
        if wrong:
            problems.add(f"subsets.{subset}", f"class name: {wrong}")
        if not clips:
            problems.add(f"subsets.{subset}.{name}", "no clips; expected at least one")


def _check_same_classes(subsets: Mapping[str, Classes], problems: Problems) -> None:
    named = {subset: set(classes) for subset, classes in subsets.items()}
    for subset, names in named.items():
        absent = sorted(set().union(*named.values()) - names)
        if absent:
            more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
            both = f"expected the same classes in {' and '.join(POOLS)}"
            problems.add(f"subsets.{subset}", f"no class {absent[0]!r}{more}; {both}")


def _check_classes(subsets: Mapping[str, Classes], problems: Problems) -> None:
    seen: dict[str, tuple[str, str]] = {}
    for subset, classes in subsets.items():
        for name in classes:
            key = f"subsets.{subset}.{name}"
            if _same(name) in seen:
                other, spelled = seen[_same(name)]
                same = "" if spelled == name else f" (spelled {spelled!r}: same text in Unicode)"
                problems.add(key, f"the class is in {other!r} too{same}; subsets must not overlap")
            seen[_same(name)] = (subset, name)


def _check_clips(subsets: Mapping[str, Classes], problems: Problems) -> None:
    seen: dict[str, tuple[str, str]] = {}
    for subset, classes in subsets.items():
        for label, clips in classes.items():
            key = f"subsets.{subset}.{label}"
            for name, group in ((clip.name, clip.group) for clip in clips):
                wrong = path_problem(name) or (text_problem(group) if group is not None else None)
                if wrong:
                    problems.add(key, wrong)
                same = _same(name)
                if same in seen:
                    where, spelled = seen[same]
                    hint = "" if spelled == name else f" (there spelled {spelled!r})"
                    problems.add(key, f"clip {name!r} is already in {where}{hint}")
                seen[same] = (key, name)
