"""Makes new splits from class folders, a CSV or the annotation files of other toolboxes.

    clip_list = import_folders(Path("clips"))
    classes = select_classes(list(clip_list.classes()), base=0.6, seed=0)
    split = make_split(clip_list, classes, name="gestures", group="_p([0-9]+)_")
    write_new_split(split, Path("gestures.yaml"), "class folders")

Selecting classes and writing are pure functions of the clip list: the same on every machine.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from fewshot_i2v.data.splits.builder.clip_list import ClipList
from fewshot_i2v.data.splits.problems import ProblemList, text_problem
from fewshot_i2v.data.splits.split import GroupScope, Split
from fewshot_i2v.data.splits.split_writer import format_split, split_comments, write_split
from fewshot_i2v.data.splits.subsets import ClipsByClass, SubsetReader
from fewshot_i2v.errors import ConfigError, SplitError
from fewshot_i2v.utils.files import write_atomic
from fewshot_i2v.utils.text_table import count_text
from fewshot_i2v.utils.yaml import parse_yaml


def make_split(
    clip_list: ClipList,
    classes_by_subset: Mapping[str, Sequence[str]] | None,
    *,
    name: str,
    group: str | None = None,
    group_scope: GroupScope = "class",
    source: str = "",
    licence: str = "",
    description: str = "",
) -> Split:
    """Make a split from a clip list.

    Args:
        clip_list: classes and clips.
        classes_by_subset: subset -> classes, from `select_classes`; None: an all-way split, in
            which support clips come from the list's train clips and query clips from its test
            clips, or its val clips if it has no test clips.
        name: the name of the split.
        group: regular expression whose first capture group in a clip's name is its group, for clips
            that have none in the list.
        group_scope: "class" or "global": whether equal groups of two classes are one.
        source: where the clips are from.
        licence: on what terms they may be used.
        description: what they are.

    Raises:
        SplitError: when names or the pattern cannot be used, or train and test do not have the same
            classes.
    """
    problem = text_problem(name)
    if problem:
        raise SplitError(f"name: {problem}")
    if classes_by_subset is None:
        clips_by_subset = _all_way_subsets(clip_list)
    else:
        all_classes = clip_list.classes()
        clips_by_subset = {
            subset: {c: all_classes[c] for c in names}
            for subset, names in classes_by_subset.items()
        }
    plain_data = {subset: _to_plain(classes) for subset, classes in clips_by_subset.items()}
    problems = ProblemList(clip_list.source)
    # through the reader of split files, so that whatever it refuses is refused here
    reader = SubsetReader(problems, folder=Path(), pattern=_compile_group(group))
    parsed = reader.read(plain_data)
    problems.raise_if_any()
    used_classes = {c for classes in parsed.values() for c in classes}
    return Split(
        name=name,
        subsets={s: {c: tuple(v) for c, v in classes.items()} for s, classes in parsed.items()},
        source=source,
        licence=licence,
        description=description,
        class_ids={c: text for c, text in clip_list.class_ids.items() if c in used_classes},
        group_pattern=group,
        group_scope=group_scope,
        find=clip_list.find,
        links=clip_list.links,
    )


def _all_way_subsets(clip_list: ClipList) -> dict[str, ClipsByClass]:
    """Return the clips of train and of test, or of val if there are none of test."""
    by_role = clip_list.classes_by_role
    test_role = next((role for role in ("test", "val") if role in by_role), None)
    if "train" not in by_role or test_role is None:
        role_names = ", ".join(role for role in by_role if role) or "no such word"
        raise SplitError(
            f"{clip_list.source}: an all-way split needs clips for train and for test; found "
            f"{role_names}"
        )
    if test_role == "val":
        clip_list.notes.append("the clips to test on are those of val: there are none of test")
    elif "val" in by_role:
        count = sum(map(len, by_role["val"].values()))
        are = "is" if count == 1 else "are"
        clip_list.notes.append(
            f"{count_text(count, 'clip')} of val {are} left out: an all-way split has none"
        )
    return {"train": by_role["train"], "test": by_role[test_role]}


def _to_plain(classes: ClipsByClass) -> dict[str, list[str | dict[str, str]]]:
    """Return the clips of classes as a split file lists them."""
    return {
        name: [c.name if c.group is None else {"clip": c.name, "group": c.group} for c in clips]
        for name, clips in classes.items()
    }


def _compile_group(group: str | None) -> re.Pattern[str] | None:
    if group is None:
        return None
    try:
        pattern = re.compile(group)
    except (re.error, OverflowError, RecursionError) as error:
        raise SplitError(f"--group: {group!r} is not a regular expression: {error}") from error
    if not pattern.groups:
        raise SplitError(f"--group: {group!r} has no ( ) around the part that names the group")
    return pattern


def find_missing_clips(split: Split) -> list[str]:
    """Return names of clips with no file, or with several, below the split's root.

    Raises:
        SplitError: when the split has no root.
    """
    if split.root is None:
        raise SplitError(f"split {split.name!r} has no root")
    if split.find != "path":
        return [name for name in split.clip_names() if name not in split.file_matches.files]
    return [name for name in split.clip_names() if not (split.root / name).exists()]


def write_new_split(
    split: Split, path: Path, made_from: str, *, overwrite: bool = False
) -> list[Path]:
    """Write a new split file, with comments on what can be changed in it.

    Lists too long for a split file go into a CSV for each subset beside it. Each file is written
    atomically.

    Args:
        split: the split.
        path: the file, which ends in .yaml or .yml.
        made_from: words for the comments: what it was made from, and how.
        overwrite: whether existing files are replaced.

    Returns:
        The files, the split file last.

    Raises:
        SplitError: when a file exists, or cannot be written.
    """
    if path.suffix not in {".yaml", ".yml"}:
        raise SplitError(f"{path}: expected a name that ends in .yaml")
    if path.is_dir():
        raise SplitError(f"{path}: is a folder; expected the name of a file")
    made_from = f"`fewshot-i2v episodes new` from {made_from}"
    comments = split_comments(split, made_from, in_csv_files=False)
    text = format_split(split, comments=comments)
    try:
        parse_yaml(text, str(path))
    except ConfigError:
        return _write_csv_files(split, path, made_from, overwrite=overwrite)
    write_split(split, path, comments=comments, overwrite=overwrite)
    return [path]


def _write_csv_files(split: Split, path: Path, made_from: str, *, overwrite: bool) -> list[Path]:
    files = {subset: path.with_name(f"{path.stem}.{subset}.csv") for subset in split.subsets}
    comments = split_comments(split, made_from, in_csv_files=True)
    header = format_split(dataclasses.replace(split, subsets={}), comments=comments)
    lines = [
        "  {}: {{csv: '{}'}}\n".format(subset, file.name.replace("'", "''"))
        for subset, file in files.items()
    ]
    existing = next((file for file in (*files.values(), path) if file.exists()), None)
    if existing is not None and not overwrite:
        raise SplitError(f"{existing}: is already there; give another name or say to overwrite it")
    for subset, file in files.items():
        write_atomic(file, _csv_text(split, subset))
    write_atomic(path, header + "".join(lines))
    return [*files.values(), path]


def _csv_text(split: Split, subset: str) -> str:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    has_groups = any(clip.group for clips in split.subsets[subset].values() for clip in clips)
    writer.writerow(("path", "class", "group") if has_groups else ("path", "class"))
    for name, clips in split.subsets[subset].items():
        for clip in clips:
            if (clip.name, name) != (clip.name.strip(), name.strip()):
                raise SplitError(f"{clip.name!r} of {name!r}: a CSV loses spaces at the ends")
            writer.writerow(
                (clip.name, name, clip.group or "") if has_groups else (clip.name, name)
            )
    return buffer.getvalue()
