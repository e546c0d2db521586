"""New splits, from class folders, a CSV or the annotation files of other toolboxes.

    listing = from_folders(Path("clips"))
    chosen = choose_classes(list(listing.classes()), base=0.6, seed=0)
    split = make_split(listing, chosen, name="gestures", group="_p([0-9]+)_")
    write_new(split, Path("gestures.yaml"), "class folders")

Choosing classes and writing are pure functions of what is listed: the same on every machine.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from fewshot_i2v.data.splits.builder.class_selection import Share, choose_classes
from fewshot_i2v.data.splits.builder.clip_list import Listing
from fewshot_i2v.data.splits.builder.importers import (
    COLUMNS,
    from_annotations,
    from_csv,
    from_folders,
    from_kinetics,
    read_labels,
)
from fewshot_i2v.data.splits.problems import Problems, text_problem
from fewshot_i2v.data.splits.split import Clip, GroupScope, Split
from fewshot_i2v.data.splits.split_writer import comments_for, split_text, write_split
from fewshot_i2v.data.splits.subsets import ClassNotes, Origin, read_subsets
from fewshot_i2v.errors import ConfigError, SplitError
from fewshot_i2v.utils.files import write_whole
from fewshot_i2v.utils.yaml import parse_yaml

__all__ = [
    "COLUMNS",
    "Listing",
    "Share",
    "choose_classes",
    "from_annotations",
    "from_csv",
    "from_folders",
    "from_kinetics",
    "make_split",
    "missing_files",
    "read_labels",
    "write_new",
]


def make_split(
    listing: Listing,
    chosen: Mapping[str, Sequence[str]] | None,
    *,
    name: str,
    group: str | None = None,
    group_scope: GroupScope = "class",
    source: str = "",
    licence: str = "",
    description: str = "",
) -> Split:
    """A split of what a source lists.

    Args:
        listing: classes and clips.
        chosen: subset -> classes, as `choose_classes` gives them; None: an all-way split, in which
            support clips come from the listing's train clips and query clips from its test clips,
            or its val clips where it has no test clips.
        name: what the split is called.
        group: regular expression whose first capture group in a clip's name is its group, for clips
            that have none in the listing.
        group_scope: "class" or "global": whether equal groups of two classes are one.
        source: where the clips are from.
        licence: on what terms they may be used.
        description: what they are.

    Raises:
        SplitError: when names or the pattern cannot be used, or train and test do not have the same
            classes.
    """
    wrong = text_problem(name)
    if wrong:
        raise SplitError(f"name: {wrong}")
    if chosen is None:
        members = {subset: listing.parts[part] for subset, part in _all_way(listing).items()}
    else:
        every = listing.classes()
        members = {subset: {c: every[c] for c in names} for subset, names in chosen.items()}
    plain = {s: {c: list(map(_plain, v)) for c, v in row.items()} for s, row in members.items()}
    problems = Problems(listing.source)
    # through the reader of split files, so that whatever it refuses is refused here
    read = read_subsets(plain, Origin(Path(), None, None, _pattern(group)), problems, ClassNotes())
    problems.stop()
    kept = {c for classes in read.values() for c in classes}
    return Split(
        name=name,
        subsets={s: {c: tuple(v) for c, v in classes.items()} for s, classes in read.items()},
        source=source,
        licence=licence,
        description=description,
        class_ids={c: text for c, text in listing.class_ids.items() if c in kept},
        group_pattern=group,
        group_scope=group_scope,
        find=listing.find,
    )


def _all_way(listing: Listing) -> dict[str, str]:
    """The subsets of an all-way split, with the part of the listing that each one is."""
    test = next((part for part in ("test", "val") if part in listing.parts), None)
    if "train" not in listing.parts or test is None:
        found = ", ".join(part for part in listing.parts if part) or "no such word"
        raise SplitError(
            f"{listing.source}: an all-way split needs clips for train and for test; found {found}"
        )
    if test == "val":
        listing.notes.append("the clips to test on are those of val: there are none of test")
    elif "val" in listing.parts:
        count = sum(map(len, listing.parts["val"].values()))
        listing.notes.append(f"{count} clips of val are left out: an all-way split has none")
    return {"train": "train", "test": test}


def _plain(clip: Clip) -> object:
    return clip.name if clip.group is None else {"clip": clip.name, "group": clip.group}


def _pattern(group: str | None) -> re.Pattern[str] | None:
    if group is None:
        return None
    try:
        pattern = re.compile(group)
    except (re.error, OverflowError, RecursionError) as error:
        raise SplitError(f"group: {group!r} is not a regular expression: {error}") from error
    if not pattern.groups:
        raise SplitError(f"group: {group!r} has no ( ) around the part that names the group")
    return pattern


def missing_files(split: Split) -> list[str]:
    """Names of clips for which there is nothing, or too much, below the split's root.

    Raises:
        SplitError: when the split has no root.
    """
    if split.root is None:
        raise SplitError(f"split {split.name!r} has no root")
    if split.find != "path":
        return [name for name in split.names() if name not in split.matches.files]
    return [name for name in split.names() if not (split.root / name).exists()]


def write_new(split: Split, path: Path, made_from: str, *, overwrite: bool = False) -> list[Path]:
    """Writes a new split file, with comments on what can be changed in it.

    Lists too long for a split file go into a CSV for each subset beside it. All files are written
    whole or not at all.

    Args:
        split: the split.
        path: the file, which ends in .yaml or .yml.
        made_from: words for the comments: what it was made from, and how.
        overwrite: whether files that are there are replaced.

    Returns:
        The files, the split file last.

    Raises:
        SplitError: when a file is there, or cannot be written.
    """
    if path.suffix not in {".yaml", ".yml"}:
        raise SplitError(f"{path}: expected a name that ends in .yaml")
    if path.is_dir():
        raise SplitError(f"{path}: is a folder; expected the name of a file")
    comments = comments_for(split, made_from, in_tables=False)
    text = split_text(split, comments=comments)
    try:
        parse_yaml(text, str(path))
    except ConfigError:
        return _write_tables(split, path, made_from, overwrite=overwrite)
    write_split(split, path, comments=comments, overwrite=overwrite)
    return [path]


def _write_tables(split: Split, path: Path, made_from: str, *, overwrite: bool) -> list[Path]:
    files = {subset: path.with_name(f"{path.stem}.{subset}.csv") for subset in split.subsets}
    comments = comments_for(split, made_from, in_tables=True)
    head = split_text(dataclasses.replace(split, subsets={}), comments=comments)
    lines = [f"  {subset}: {{csv: '{_quoted(file.name)}'}}\n" for subset, file in files.items()]
    there = next((file for file in (*files.values(), path) if file.exists()), None)
    if there is not None and not overwrite:
        raise SplitError(f"{there}: is already there; give another name or say to overwrite it")
    for subset, file in files.items():
        write_whole(file, _table(split, subset))
    write_whole(path, head + "".join(lines))
    return [*files.values(), path]


def _quoted(text: str) -> str:
    return text.replace("'", "''")


def _table(split: Split, subset: str) -> str:
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    grouped = any(clip.group for clips in split.subsets[subset].values() for clip in clips)
    rows.writerow(("path", "class", "group") if grouped else ("path", "class"))
    for name, clips in split.subsets[subset].items():
        for clip in clips:
            if (clip.name, name) != (clip.name.strip(), name.strip()):
                raise SplitError(f"{clip.name!r} of {name!r}: a CSV keeps no spaces at the ends")
            rows.writerow((clip.name, name, clip.group or "") if grouped else (clip.name, name))
    return text.getvalue()
