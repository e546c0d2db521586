"""Reads the `subsets` of a split file, in any of their forms, and checks the names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewshot_i2v.episodes import catalog
from fewshot_i2v.episodes._problems import Problems, path_problem, text_problem
from fewshot_i2v.episodes.catalog import Classes, ClassNotes, Clip, Generator

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
            return catalog.generated(names, origin.generator.clips)
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
    return catalog.listed(value, where, problems, notes)


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
        return catalog.in_folders(origin.root, inside, names, where, problems)
    except OSError as error:
        problems.add(where, f"{error.filename}: cannot be listed: {error.strerror}")
        return {}


def _csv(file: str, where: str, origin: Origin, problems: Problems) -> Classes:
    wrong = path_problem(file)
    if wrong:
        problems.add(where, wrong)
        return {}
    return catalog.in_csv(origin.folder / file, where, problems)


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
