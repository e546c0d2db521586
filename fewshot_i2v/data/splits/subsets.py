"""Reads the `subsets` of a split file, in all their forms, and checks the names."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from fewshot_i2v.data.splits.folder_contents import scan_class_folders
from fewshot_i2v.data.splits.problems import (
    ProblemList,
    compose_accents,
    path_problem,
    text_problem,
)
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
from fewshot_i2v.errors import suggest_names
from fewshot_i2v.utils.input_files import open_lines
from fewshot_i2v.utils.text_table import join_names

ClipsByClass: TypeAlias = dict[str, list[Clip]]
_SUBSET_FORMS = (
    "a list of class names, a mapping of class names to clip names, {folder: FOLDER} or {csv: FILE}"
)


class SubsetReader:
    """Reads and checks the classes and clips of the subsets of one split file.

    Args:
        problems: collects what is wrong.
        folder: the folder of the split file; CSV files are relative to it.
        root: the folder of the clips, or None.
        generator: generates the clips instead, or None.
        pattern: matches the group in a clip's name, or None.

    Attributes:
        class_ids: class -> its name in the source of the list.
        class_folders: class -> the folder that is put before its clip names.
    """

    def __init__(
        self,
        problems: ProblemList,
        *,
        folder: Path,
        root: Path | None = None,
        generator: Generator | None = None,
        pattern: re.Pattern[str] | None = None,
    ) -> None:
        self._problems, self._folder, self._root = problems, folder, root
        self._generator, self._pattern = generator, pattern
        self.class_ids: dict[str, str] = {}
        self.class_folders: dict[str, str] = {}

    def read(self, value: Mapping[str, object]) -> dict[str, ClipsByClass]:
        """Read all subsets.

        Args:
            value: subset -> its classes, in one of their forms.

        Returns:
            subset -> class -> clips; only valid when no problem was added.
        """
        self._problems.add_unknown("subsets", value, (*CLASS_SUBSETS, *TRAIN_TEST_SUBSETS))
        train_test = [name for name in TRAIN_TEST_SUBSETS if name in value]
        if train_test and (
            len(train_test) < len(TRAIN_TEST_SUBSETS)
            or any(name in value for name in CLASS_SUBSETS)
        ):
            expected = SPLIT_FIELDS["subsets"].expected
            self._problems.add("subsets", f"got {', '.join(value)}; expected {expected}")
        subsets: dict[str, ClipsByClass] = {}
        for name in (*CLASS_SUBSETS, *TRAIN_TEST_SUBSETS):
            if name in value:
                location = f"subsets.{name}"
                classes = self._read_subset(value[name], location)
                subsets[name] = {
                    c: self._assign_groups(clips, f"{location}.{c}") for c, clips in classes.items()
                }
        if train_test:
            _check_same_classes(subsets, self._problems)
        else:
            _check_distinct_classes(subsets, self._problems)
        for subset, classes in subsets.items():
            _check_class_names(subset, classes, self._problems)
        _check_distinct_clips(subsets, self._problems)
        return subsets

    def _read_subset(self, value: object, location: str) -> ClipsByClass:
        if isinstance(value, list) and value:
            names = self._read_class_names(value, location)
            if self._generator is not None:
                self._check_generated(names, self._generator, location)
                numbers = range(self._generator.clips)
                return {c: [Clip(f"{c}/{c}-{i:03d}.mp4") for i in numbers] for c in names}
            return self._read_folders(".", names, location)
        if not isinstance(value, dict) or not value:
            self._problems.add(location, f"got {value!r}; expected {_SUBSET_FORMS}")
            return {}
        if self._generator is not None:
            self._problems.add(location, "the clips are generated; expected a list of class names")
            return {}
        if isinstance(value.get("folder"), str):
            self._problems.add_unknown(location, value, FOLDER_FIELDS)
            class_list = value.get("classes")
            class_names = (
                None
                if class_list is None
                else self._read_class_names(class_list, f"{location}.classes")
            )
            return self._read_folders(value["folder"], class_names, location)
        if isinstance(value.get("csv"), str):
            self._problems.add_unknown(location, value, CSV_FIELDS)
            return self._read_csv(value["csv"], f"{location}.csv")
        return self._read_listed_classes(value, location)

    def _check_generated(self, names: Sequence[str], generator: Generator, location: str) -> None:
        """Add a problem for every class that the generator does not have."""
        from fewshot_i2v.data.synthetic.generate import GENERATORS, class_names  # with numpy

        if generator.name not in GENERATORS:  # a problem of its own
            return
        existing = class_names(generator.name)
        for name in names:
            if name not in existing:
                problem = f"the generator {generator.name!r} has no class {name!r}"
                nearest = suggest_names(name, existing)
                end = f"; {nearest}" if nearest else "."
                how = (
                    f"`fewshot-i2v episodes show {generator.name} --all-classes` lists its classes"
                )
                self._problems.add(location, f"{problem}{end} {how}")

    def _read_class_names(self, value: object, location: str) -> list[str]:
        if not isinstance(value, list) or not value:
            self._problems.add(location, f"got {value!r}; expected a list of class names")
            return []
        names = []
        for i, name in enumerate(value):
            if not isinstance(name, str):
                message = f"got {name!r}; expected a class name (in quotes if it is a number)"
                self._problems.add(f"{location}[{i}]", message)
            elif name in names:
                self._problems.add(f"{location}[{i}]", f"class {name!r} is there twice")
            else:
                names.append(name)
        return names

    def _read_listed_classes(self, mapping: Mapping[str, object], location: str) -> ClipsByClass:
        """Read clips that are listed class by class, in either form of a class."""
        classes: ClipsByClass = {}
        for name, items in mapping.items():
            key = f"{location}.{name}"
            if isinstance(items, dict):
                self._problems.add_unknown(key, items, CLASS_FIELDS)
                self._add_metadata(name, items, key)
                items = items.get("clips")
                if isinstance(items, str):
                    clip_names = self.read_clip_names(items, name, key)
                    classes[name] = [Clip(clip_name) for clip_name in clip_names]
                    continue
            if not isinstance(items, list):
                self._problems.add(key, f"got {items!r}; expected a list of clip names")
                continue
            folder = self.class_folders.get(name)
            parsed = (self._read_clip(item, f"{key}[{i}]") for i, item in enumerate(items))
            clips = [clip for clip in parsed if clip is not None]
            classes[name] = [Clip(_join_folder(folder, clip.name), clip.group) for clip in clips]
        return classes

    def _add_metadata(self, class_name: str, value: Mapping[str, object], location: str) -> None:
        """Add id and folder of a class; a class of two subsets must have the same in both."""
        for key, values in (("id", self.class_ids), ("folder", self.class_folders)):
            text = value.get(key, values.get(class_name))
            if text is None:
                continue
            if not isinstance(text, str):
                self._problems.add(
                    location, f"{key}: got {text!r}; expected text (in quotes if a number)"
                )
                continue
            problem = text_problem(text) if key == "id" else path_problem(text)
            if problem:
                self._problems.add(location, f"{key}: {problem}")
            if values.setdefault(class_name, text) != text:
                self._problems.add(
                    location, f"{key}: got {text!r}, elsewhere the class has {values[class_name]!r}"
                )

    def read_clip_names(self, value: object, class_name: str, location: str) -> list[str]:
        """Read the clip names of a class from a list, or from a text with white space between.

        Args:
            value: the list or the text.
            class_name: the class, whose folder is put before each name.
            location: its key, for problems.
        """
        names = value.split() if isinstance(value, str) else value
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            self._problems.add(
                location, f"got {value!r}; expected clip names (in quotes if numbers) or a text"
            )
            return []
        folder = self.class_folders.get(class_name)
        return [_join_folder(folder, name) for name in names]

    def _read_clip(self, item: object, key: str) -> Clip | None:
        if isinstance(item, str):
            return Clip(item)
        if not isinstance(item, dict):
            self._problems.add(
                key, f"got {item!r}; expected a clip's name (in quotes if it is a number)"
            )
            return None
        self._problems.add_unknown(key, item, CLIP_FIELDS)
        name, group = item.get("clip"), item.get("group")
        if isinstance(group, int) and not isinstance(group, bool):
            group = str(group)
        if not isinstance(name, str):
            self._problems.add(key, f"clip: got {name!r}; expected a clip's name")
            return None
        if not isinstance(group, str | None):
            self._problems.add(key, f"group: got {group!r}; expected text")
            return None
        return Clip(name, group)

    def _read_folders(
        self, folder: str, class_names: Sequence[str] | None, location: str
    ) -> ClipsByClass:
        if self._root is None:
            self._problems.add(
                location, "class folders need a root: give --root FOLDER, or write `root: FOLDER`"
            )
            return {}
        subfolder = folder.rstrip("/")
        if folder != "." and path_problem(subfolder):
            self._problems.add(f"{location}.folder", str(path_problem(subfolder)))
            return {}
        try:
            scanned = scan_class_folders(
                self._root, subfolder, class_names, location, self._problems
            )
        except OSError as error:
            self._problems.add(location, f"{error.filename}: cannot be listed: {error.strerror}")
            return {}
        prefix = "" if folder == "." else f"{subfolder}/"
        return {
            name: [Clip(f"{prefix}{name}/{clip}") for clip in class_folder.clips]
            for name, class_folder in scanned.items()
        }

    def _read_csv(self, file: str, location: str) -> ClipsByClass:
        """Read clips from a CSV in UTF-8, with a header row: path, class and, optionally, group."""
        problem = path_problem(file)
        if problem:
            self._problems.add(location, problem)
            return {}
        path = self._folder / file
        if not path.is_file():
            self._problems.add(
                location, f"no file {path}; expected a CSV with the columns path,class[,group]"
            )
            return {}
        classes: ClipsByClass = {}
        try:
            with open_lines(path) as lines:
                rows = csv.DictReader(lines, strict=True)
                for name, clip in _read_csv_rows(rows, path, location, self._problems):
                    classes.setdefault(name, []).append(clip)
        except (csv.Error, UnicodeDecodeError, OSError) as error:
            self._problems.add(location, f"{path} cannot be read as a CSV in UTF-8: {error}")
        return classes

    def _assign_groups(self, clips: list[Clip], location: str) -> list[Clip]:
        pattern = self._pattern
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
            self._problems.add(
                location, f"{message} {pattern.pattern!r}, the first is {unmatched[0]!r}"
            )
        return result


def _join_folder(folder: str | None, name: str) -> str:
    return name if folder is None else f"{folder}/{name}"


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
            expectation = f"expected the same classes in {' and '.join(TRAIN_TEST_SUBSETS)}"
            names_text = join_names(list(map(repr, missing)), 1)
            problems.add(f"subsets.{subset}", f"no class {names_text}; {expectation}")


def _check_distinct_classes(subsets: Mapping[str, ClipsByClass], problems: ProblemList) -> None:
    earlier_use: dict[str, tuple[str, str]] = {}
    for subset, classes in subsets.items():
        for name in classes:
            location = f"subsets.{subset}.{name}"
            if compose_accents(name) in earlier_use:
                other_subset, spelled = earlier_use[compose_accents(name)]
                spelling_note = (
                    "" if spelled == name else f" (spelled {spelled!r}: same text in Unicode)"
                )
                problems.add(
                    location,
                    f"the class is in {other_subset!r} too{spelling_note}; subsets must not "
                    "overlap",
                )
            earlier_use[compose_accents(name)] = (subset, name)


def _check_distinct_clips(subsets: Mapping[str, ClipsByClass], problems: ProblemList) -> None:
    earlier_use: dict[str, tuple[str, str]] = {}
    for subset, classes in subsets.items():
        for label, clips in classes.items():
            location = f"subsets.{subset}.{label}"
            for name, group in ((clip.name, clip.group) for clip in clips):
                problem = path_problem(name) or (text_problem(group) if group is not None else None)
                if problem:
                    problems.add(location, problem)
                clip_key = compose_accents(name)
                if clip_key in earlier_use:
                    earlier_location, spelled = earlier_use[clip_key]
                    hint = "" if spelled == name else f" (there spelled {spelled!r})"
                    problems.add(location, f"clip {name!r} is already in {earlier_location}{hint}")
                earlier_use[clip_key] = (location, name)
