"""Reads the `subsets` of a split file, in all their forms, and checks the names."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from fewshot_i2v.data.splits.folder_contents import ClassFolder, scan_class_folder
from fewshot_i2v.data.splits.problems import ProblemList, path_problem, text_problem
from fewshot_i2v.data.splits.split import Clip, Generator
from fewshot_i2v.data.splits.split_fields import (
    CLASS_FIELDS,
    CLASS_SUBSETS,
    CLIP_FIELDS,
    CSV_FIELDS,
    FOLDER_FIELDS,
    SPLIT_FIELDS,
    TRAIN_TEST_SUBSETS,
)
from fewshot_i2v.utils.input_files import open_lines

ClipsByClass: TypeAlias = dict[str, list[Clip]]
_ROOT_HINT = "the root can be given with --root"
_SUBSET_FORMS = (
    "a list of class names, a mapping of class names to clip names, {folder: FOLDER} or {csv: FILE}"
)


@dataclass
class ClassMetadata:
    """Ids and folders of the classes of a split file.

    Attributes:
        ids: class -> its name in the source of the list.
        folders: class -> the folder that is put before its clip names.
    """

    ids: dict[str, str] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)

    def add(
        self, class_name: str, value: Mapping[str, object], location: str, problems: ProblemList
    ) -> None:
        """Add id and folder of a class; a class of two subsets must have the same in both."""
        for key, values in (("id", self.ids), ("folder", self.folders)):
            text = value.get(key, values.get(class_name))
            if text is None:
                continue
            if not isinstance(text, str):
                problems.add(
                    location, f"{key}: got {text!r}; expected text (in quotes if a number)"
                )
                continue
            problem = text_problem(text) if key == "id" else path_problem(text)
            if problem:
                problems.add(location, f"{key}: {problem}")
            if values.setdefault(class_name, text) != text:
                problems.add(
                    location, f"{key}: got {text!r}, elsewhere the class has {values[class_name]!r}"
                )


@dataclass(frozen=True)
class ClipOrigin:
    """Where the clips of a split file come from.

    Attributes:
        folder: the folder of the split file; CSV files are relative to it.
        root: the folder of the clips, or None.
        generator: generates the clips instead, or None.
        pattern: matches the group in a clip's name, or None.
    """

    folder: Path
    root: Path | None
    generator: Generator | None
    pattern: re.Pattern[str] | None


def read_subsets(
    value: Mapping[str, object],
    origin: ClipOrigin,
    problems: ProblemList,
    metadata: ClassMetadata,
) -> dict[str, ClipsByClass]:
    """Read and check the classes and clips of every subset.

    Args:
        value: subset -> its classes, in one of their forms.
        origin: where clips come from.
        problems: collects what is wrong.
        metadata: collects ids and folders of the classes.

    Returns:
        subset -> class -> clips; only valid when no problem was added.
    """
    problems.add_unknown("subsets", value, (*CLASS_SUBSETS, *TRAIN_TEST_SUBSETS))
    train_test = [name for name in TRAIN_TEST_SUBSETS if name in value]
    if train_test and (
        len(train_test) < len(TRAIN_TEST_SUBSETS) or any(name in value for name in CLASS_SUBSETS)
    ):
        expected = SPLIT_FIELDS["subsets"].expected
        problems.add("subsets", f"got {', '.join(value)}; expected {expected}")
    subsets: dict[str, ClipsByClass] = {}
    for name in (*CLASS_SUBSETS, *TRAIN_TEST_SUBSETS):
        if name in value:
            location = f"subsets.{name}"
            classes = _read_subset(value[name], location, origin, problems, metadata)
            subsets[name] = {
                c: _assign_groups(clips, f"{location}.{c}", origin.pattern, problems)
                for c, clips in classes.items()
            }
    if train_test:
        _check_same_classes(subsets, problems)
    else:
        _check_distinct_classes(subsets, problems)
    for subset, classes in subsets.items():
        _check_class_names(subset, classes, problems)
    _check_distinct_clips(subsets, problems)
    return subsets


def _read_subset(
    value: object, location: str, origin: ClipOrigin, problems: ProblemList, metadata: ClassMetadata
) -> ClipsByClass:
    if isinstance(value, list) and value:
        names = _read_class_names(value, location, problems)
        if origin.generator is not None:
            numbers = range(origin.generator.clips)
            return {c: [Clip(f"{c}/{c}-{i:03d}.mp4") for i in numbers] for c in names}
        return _read_folders(".", names, location, origin, problems)
    if not isinstance(value, dict) or not value:
        problems.add(location, f"got {value!r}; expected {_SUBSET_FORMS}")
        return {}
    if origin.generator is not None:
        problems.add(location, "the clips are generated; expected a list of class names")
        return {}
    if isinstance(value.get("folder"), str):
        problems.add_unknown(location, value, FOLDER_FIELDS)
        class_list = value.get("classes")
        class_names = (
            None
            if class_list is None
            else _read_class_names(class_list, f"{location}.classes", problems)
        )
        return _read_folders(value["folder"], class_names, location, origin, problems)
    if isinstance(value.get("csv"), str):
        problems.add_unknown(location, value, CSV_FIELDS)
        return _read_csv(value["csv"], f"{location}.csv", origin, problems)
    return _read_listed_classes(value, location, problems, metadata)


def _read_class_names(value: object, location: str, problems: ProblemList) -> list[str]:
    if not isinstance(value, list) or not value:
        problems.add(location, f"got {value!r}; expected a list of class names")
        return []
    names = []
    for i, name in enumerate(value):
        if not isinstance(name, str):
            message = f"got {name!r}; expected a class name (in quotes if it is a number)"
            problems.add(f"{location}[{i}]", message)
        elif name in names:
            problems.add(f"{location}[{i}]", f"class {name!r} is there twice")
        else:
            names.append(name)
    return names


def _read_listed_classes(
    mapping: Mapping[str, object], location: str, problems: ProblemList, metadata: ClassMetadata
) -> ClipsByClass:
    """Read clips that are listed class by class, in either form of a class."""
    classes: ClipsByClass = {}
    for name, items in mapping.items():
        key = f"{location}.{name}"
        if isinstance(items, dict):
            problems.add_unknown(key, items, CLASS_FIELDS)
            metadata.add(name, items, key, problems)
            items = items.get("clips")
            if isinstance(items, str):
                clip_names = read_clip_names(items, metadata.folders.get(name), key, problems)
                classes[name] = [Clip(clip_name) for clip_name in clip_names]
                continue
        if not isinstance(items, list):
            problems.add(key, f"got {items!r}; expected a list of clip names")
            continue
        folder = metadata.folders.get(name)
        parsed = (_read_clip(item, f"{key}[{i}]", problems) for i, item in enumerate(items))
        clips = [clip for clip in parsed if clip is not None]
        classes[name] = [Clip(_join_folder(folder, clip.name), clip.group) for clip in clips]
    return classes


def read_clip_names(
    value: object, folder: str | None, location: str, problems: ProblemList
) -> list[str]:
    """Read clip names from a list, or from a text with white space between them.

    Args:
        value: the list or the text.
        folder: put before each name, or None.
        location: its key, for problems.
        problems: collects what is wrong.
    """
    names = value.split() if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        problems.add(
            location, f"got {value!r}; expected clip names (in quotes if numbers) or a text"
        )
        return []
    return [_join_folder(folder, name) for name in names]


def _join_folder(folder: str | None, name: str) -> str:
    return name if folder is None else f"{folder}/{name}"


def _read_clip(item: object, key: str, problems: ProblemList) -> Clip | None:
    if isinstance(item, str):
        return Clip(item)
    if not isinstance(item, dict):
        problems.add(key, f"got {item!r}; expected a clip's name (in quotes if it is a number)")
        return None
    problems.add_unknown(key, item, CLIP_FIELDS)
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


def _read_folders(
    folder: str,
    class_names: Sequence[str] | None,
    location: str,
    origin: ClipOrigin,
    problems: ProblemList,
) -> ClipsByClass:
    if origin.root is None:
        problems.add(
            location, "class folders need a root: give --root FOLDER, or write `root: FOLDER`"
        )
        return {}
    subfolder = folder.rstrip("/")
    if folder != "." and path_problem(subfolder):
        problems.add(f"{location}.folder", str(path_problem(subfolder)))
        return {}
    try:
        scanned = scan_class_folders(origin.root, subfolder, class_names, location, problems)
    except OSError as error:
        problems.add(location, f"{error.filename}: cannot be listed: {error.strerror}")
        return {}
    prefix = "" if folder == "." else f"{subfolder}/"
    return {
        name: [Clip(f"{prefix}{name}/{clip}") for clip in class_folder.clips]
        for name, class_folder in scanned.items()
    }


def scan_class_folders(
    root: Path,
    folder: str,
    classes: Sequence[str] | None,
    location: str,
    problems: ProblemList,
    *,
    scan_subfolders: bool = False,
) -> dict[str, ClassFolder]:
    """Scan class folders for clips.

    Args:
        root: the split's root.
        folder: the parent of the class folders, below `root`; "." for `root` itself.
        classes: the class folders to take; None takes all that are not hidden.
        location: key of the subset, for problems.
        problems: collects what is wrong.
        scan_subfolders: whether to list all folders in class folders.

    Raises:
        OSError: if one cannot be listed.
    """
    base = root if folder == "." else root / folder
    if not base.is_dir():
        problems.add(location, f"no folder {base}; expected class folders there ({_ROOT_HINT})")
        return {}
    if classes is None:
        classes = sorted(p.name for p in base.iterdir() if p.is_dir() and p.name[0] != ".")
        if not classes:
            problems.add(location, f"{base} has no class folders ({_ROOT_HINT})")
    result: dict[str, ClassFolder] = {}
    for name in classes:
        class_path = base / name
        if path_problem(name) or "/" in name or "\\" in name:
            problems.add(location, f"class {name!r}: expected the name of one folder")
            continue
        if not class_path.is_dir():
            problems.add(location, f"no folder {class_path} for class {name!r} ({_ROOT_HINT})")
            continue
        result[name] = scan_class_folder(class_path, scan_subfolders=scan_subfolders)
    return result


def _read_csv(file: str, location: str, origin: ClipOrigin, problems: ProblemList) -> ClipsByClass:
    """Read clips from a CSV in UTF-8, with a header row: path, class and, optionally, group."""
    problem = path_problem(file)
    if problem:
        problems.add(location, problem)
        return {}
    path = origin.folder / file
    if not path.is_file():
        problems.add(
            location, f"no file {path}; expected a CSV with the columns path,class[,group]"
        )
        return {}
    classes: ClipsByClass = {}
    try:
        with open_lines(path) as lines:
            rows = csv.DictReader(lines, strict=True)
            for name, clip in _read_csv_rows(rows, path, location, problems):
                classes.setdefault(name, []).append(clip)
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        problems.add(location, f"{path} cannot be read as a CSV in UTF-8: {error}")
    return classes


def _read_csv_rows(
    rows: csv.DictReader[str], path: Path, location: str, problems: ProblemList
) -> Iterator[tuple[str, Clip]]:
    rows.fieldnames = header = [name.strip() for name in rows.fieldnames or []]
    if sorted(header) not in (["class", "path"], ["class", "group", "path"]):
        expected = "expected path,class or path,class,group, with commas"
        problems.add(location, f"{path}:1: header {header}; {expected}")
        return
    for row in rows:
        if None in row or None in row.values():
            message = f"{path}:{rows.line_num}: not {len(header)} fields as in the header"
            problems.add(location, message)
            continue
        row = {key: text.strip() for key, text in row.items()}
        yield row["class"], Clip(row["path"], row.get("group") or None)


def _assign_groups(
    clips: list[Clip], location: str, pattern: re.Pattern[str] | None, problems: ProblemList
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
        message = f"{len(unmatched)} of {len(clips)} names do not match the `group` pattern"
        problems.add(location, f"{message} {pattern.pattern!r}, the first is {unmatched[0]!r}")
    return result


def _check_class_names(subset: str, classes: ClipsByClass, problems: ProblemList) -> None:
    for name, clips in classes.items():
        problem = text_problem(name)
        if problem:
            problems.add(f"subsets.{subset}", f"class name: {problem}")
        if not clips:
            problems.add(f"subsets.{subset}.{name}", "no clips; expected at least one")


def _check_same_classes(subsets: Mapping[str, ClipsByClass], problems: ProblemList) -> None:
    named = {subset: set(classes) for subset, classes in subsets.items()}
    for subset, names in named.items():
        missing = sorted(set().union(*named.values()) - names)
        if missing:
            more_note = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            expectation = f"expected the same classes in {' and '.join(TRAIN_TEST_SUBSETS)}"
            problems.add(f"subsets.{subset}", f"no class {missing[0]!r}{more_note}; {expectation}")


def _check_distinct_classes(subsets: Mapping[str, ClipsByClass], problems: ProblemList) -> None:
    earlier_use: dict[str, tuple[str, str]] = {}
    for subset, classes in subsets.items():
        for name in classes:
            location = f"subsets.{subset}.{name}"
            if _unicode_key(name) in earlier_use:
                other_subset, spelled = earlier_use[_unicode_key(name)]
                spelling_note = (
                    "" if spelled == name else f" (spelled {spelled!r}: same text in Unicode)"
                )
                problems.add(
                    location,
                    f"the class is in {other_subset!r} too{spelling_note}; subsets must not "
                    "overlap",
                )
            earlier_use[_unicode_key(name)] = (subset, name)


def _check_distinct_clips(subsets: Mapping[str, ClipsByClass], problems: ProblemList) -> None:
    earlier_use: dict[str, tuple[str, str]] = {}
    for subset, classes in subsets.items():
        for label, clips in classes.items():
            location = f"subsets.{subset}.{label}"
            for name, group in ((clip.name, clip.group) for clip in clips):
                problem = path_problem(name) or (text_problem(group) if group is not None else None)
                if problem:
                    problems.add(location, problem)
                clip_key = _unicode_key(name)
                if clip_key in earlier_use:
                    earlier_location, spelled = earlier_use[clip_key]
                    hint = "" if spelled == name else f" (there spelled {spelled!r})"
                    problems.add(location, f"clip {name!r} is already in {earlier_location}{hint}")
                earlier_use[clip_key] = (location, name)


def _unicode_key(name: str) -> str:
    """Return a name in one spelling of accents: file systems may treat two spellings as one."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)
