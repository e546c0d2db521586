"""Writes split files that people can read and edit."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from fewshot_i2v.data.splits.split import Clip, Split
from fewshot_i2v.data.splits.split_fields import (
    CLASS_SUBSETS_TEXT,
    FIND_TEXTS,
    SPLIT_FIELDS,
    TRAIN_TEST_SUBSETS,
    TRAIN_TEST_TEXT,
)
from fewshot_i2v.errors import SplitError
from fewshot_i2v.utils.files import write_atomic
from fewshot_i2v.utils.yaml import dump_yaml

_LINE_WIDTH = 96
_PLAIN_SCALAR = re.compile(r"[A-Za-z_](?:[\w .(),&+-]*[\w).])?", re.ASCII)
_RESERVED_WORDS = frozenset(("null", "true", "false"))


def format_split(split: Split, *, comments: Sequence[str] = (), with_digest: bool = False) -> str:
    """Format a split as the text of a split file.

    Args:
        split: the split; its root is left out, since it is a path on one machine.
        comments: paragraphs for the top, each wrapped; one with line ends is not changed.
        with_digest: also write the digest, so that a changed list is refused.

    Returns:
        YAML which reads back as a split of the same digest.
    """
    values = {
        "name": split.name,
        "version": split.version,
        "source": split.source,
        "licence": split.licence,
        "description": split.description,
        "citation": split.citation,
        "defects": list(split.defects),
        "digest": split.digest if with_digest else None,
        "find": split.find,
        "links": split.links,
        "group": split.group_pattern,
        "group_scope": split.group_scope,
        "generator": None if split.generator is None else vars(split.generator),
    }
    header = {
        key: value
        for key, value in values.items()
        if key in ("name", "version") or value != SPLIT_FIELDS[key].default
    }
    return "".join(
        [*_comment_lines(comments), dump_yaml(header), *_subset_lines(split), *_draw_lines(split)]
    )


def write_split(
    split: Split,
    path: Path,
    *,
    comments: Sequence[str] = (),
    with_digest: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a split file atomically; comments and digest are those of `format_split`.

    Raises:
        SplitError: when the file exists, or cannot be written.
    """
    if path.exists() and not overwrite:
        raise SplitError(f"{path}: is already there; give another name or say to overwrite it")
    write_atomic(path, format_split(split, comments=comments, with_digest=with_digest))


def _comment_lines(comments: Sequence[str]) -> Iterator[str]:
    for i, paragraph in enumerate(comments):
        if i:
            yield "#\n"
        lines = (
            paragraph.splitlines() if "\n" in paragraph else textwrap.wrap(paragraph, _LINE_WIDTH)
        )
        yield from (f"# {line}".rstrip() + "\n" for line in lines)


def _subset_lines(split: Split) -> Iterator[str]:
    pattern = re.compile(split.group_pattern) if split.group_pattern is not None else None
    yield "subsets:\n"
    for subset, classes in split.subsets.items():
        yield f"  {subset}:\n"
        for name, clips in classes.items():
            if split.generator is not None:
                yield f"    - {_format_scalar(name)}\n"
                continue
            yield f"    {_format_scalar(name)}:\n"
            if subset != "test" and name in split.class_ids:
                yield f"      id: {_quote(split.class_ids[name])}\n"
            folder = _common_folder(split, name)
            if folder:
                yield f"      folder: {_format_scalar(folder)}\n"
            groups = [_explicit_group(clip, pattern) for clip in clips]
            yield from _clip_lines("      clips", [clip.name for clip in clips], folder, groups)


def _draw_lines(split: Split) -> Iterator[str]:
    if split.draws:
        yield "draws:\n"
    for key, draws in split.draws.items():
        yield f"  {_format_scalar(key)}:\n"
        for draw in draws:
            start = "    - "
            for name, clips in sorted(draw.clips.items()):
                folder = _common_folder(split, name)
                yield from _clip_lines(f"{start}{_format_scalar(name)}", clips, folder)
                start = "      "


def _common_folder(split: Split, name: str) -> str:
    """Return the common folder of all clips of a class in all subsets, or ""."""
    classes = [
        subset_classes[name] for subset_classes in split.subsets.values() if name in subset_classes
    ]
    folders = {clip.name.rpartition("/")[0] for clips in classes for clip in clips}
    return folders.pop() if len(folders) == 1 else ""


def _explicit_group(clip: Clip, pattern: re.Pattern[str] | None) -> str | None:
    """Return the group to write beside a clip: None if its name already gives it."""
    match = None if pattern is None else pattern.search(clip.name)
    return None if match is not None and match.group(1) == clip.group else clip.group


def _clip_lines(
    key: str, clips: Sequence[str], folder: str, groups: Sequence[str | None] = ()
) -> Iterator[str]:
    """Format the clips below a key: a list if there are groups or white space, else a text."""
    names = [clip.removeprefix(f"{folder}/") if folder else clip for clip in clips]
    if any(groups) or any(re.search(r"\s", name) for name in names):
        yield f"{key}:\n"
        for name, group in zip_longest(names, groups):
            item = _quote(name)
            if group is not None:
                item = f"{{clip: {item}, group: {_quote(group)}}}"
            yield f"        - {item}\n"
        return
    yield f"{key}: |\n"
    # short names fill lines, long ones have a line each
    if max(map(len, names)) * 3 < _LINE_WIDTH:
        names = textwrap.wrap(
            " ".join(names), _LINE_WIDTH - 8, break_long_words=False, break_on_hyphens=False
        )
    yield from (f"        {line}\n" for line in names)


def _format_scalar(text: str) -> str:
    """Format a text as a YAML key or value: plain if that is safe, else quoted."""
    return (
        text
        if _PLAIN_SCALAR.fullmatch(text) and text.casefold() not in _RESERVED_WORDS
        else _quote(text)
    )


def _quote(text: str) -> str:
    if text.isprintable():
        return "'" + text.replace("'", "''") + "'"
    # escapes are the only form in which unusual spaces survive
    escaped = (c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in text)
    return '"' + "".join(escaped) + '"'


_KEY_WIDTH = 13
_COMMENT_WIDTH = 94


def split_comments(split: Split, made_from: str, *, in_csv_files: bool) -> list[str]:
    """Return the paragraphs for the top of a new split file.

    Args:
        split: the split.
        made_from: the command that makes it, and from what.
        in_csv_files: whether its clips are listed in CSV files beside it.
    """
    introduction = (
        f"Made by {made_from}. Change it as you like: "
        "`fewshot-i2v episodes show` says what it then holds, or what is wrong and where."
    )
    lines = [
        f"{key if i == 0 else '':<{_KEY_WIDTH}}{line}"
        for key, text in _key_comments(split, in_csv_files=in_csv_files).items()
        for i, line in enumerate(
            textwrap.wrap(text, _COMMENT_WIDTH - _KEY_WIDTH, break_on_hyphens=False)
        )
    ]
    return [introduction, "\n".join(lines) + "\n"]


def _key_comments(split: Split, *, in_csv_files: bool) -> dict[str, str]:
    """The texts of keys, and what may be done with them in this split."""
    texts = {key: field.text for key, field in SPLIT_FIELDS.items()}
    about_clips = texts["description"].partition(";")[0]
    if split.find == "path":
        find = f"may be added. path: clip names {FIND_TEXTS['path']} (as now); name: they "
        find += FIND_TEXTS["name"]
    else:
        find = f"{split.find}: clip names {FIND_TEXTS[split.find]}; path: they {FIND_TEXTS['path']}"
    if set(split.subsets) <= set(TRAIN_TEST_SUBSETS):
        subsets = (
            f"{TRAIN_TEST_TEXT}. Clips can be taken out or moved from one to the other; both need "
            "all classes."
        )
    else:
        subsets = (
            f"{CLASS_SUBSETS_TEXT}. Move a class with its clips from one to another, or take clips "
            "out; rename a class freely, since methods that read names see this one."
        )
    if in_csv_files:
        subsets += " The clips are in the CSV files, a line each with path and class"
    return {
        "name": texts["name"],
        "version": texts["version"],
        "source": f"{texts['source']}; licence: {texts['licence']}; description: {about_clips}",
        "root": f"may be added: {texts['root']}",
        "find": find,
        "group": f"{'may be added: ' if split.group_pattern is None else ''}{texts['group']}",
        "group_scope": texts["group_scope"],
        "subsets": subsets,
    }
