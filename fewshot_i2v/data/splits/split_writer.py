"""Writes split files that people can read and edit."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from fewshot_i2v.data.splits.split import Clip, Split
from fewshot_i2v.data.splits.subsets import POOLS
from fewshot_i2v.errors import SplitError
from fewshot_i2v.utils.files import write_whole
from fewshot_i2v.utils.yaml import dump_yaml

_WIDTH = 96
_PLAIN = re.compile(r"[A-Za-z_](?:[\w .(),&+-]*[\w).])?", re.ASCII)
_WORDS = frozenset(("null", "true", "false"))


def split_text(split: Split, *, comments: Sequence[str] = (), with_digest: bool = False) -> str:
    """A split as the text of a split file.

    Args:
        split: what is to be written; its root is left out, since it is a place on one machine.
        comments: paragraphs to put at the top, each wrapped; one with line ends is kept as it is.
        with_digest: also write the digest, so that a changed list is refused.

    Returns:
        YAML which reads back as a split of the same digest.
    """
    head: dict[str, object] = {"name": split.name, "version": split.version}
    for key in ("source", "licence", "description"):
        if getattr(split, key):
            head[key] = getattr(split, key)
    if split.defects:
        head["defects"] = list(split.defects)
    if with_digest:
        head["digest"] = split.digest
    if split.find != "path":
        head["find"] = split.find
    if split.links != "inside":
        head["links"] = split.links
    if split.group_pattern is not None:
        head["group"] = split.group_pattern
    if split.group_scope != "class":
        head["group_scope"] = split.group_scope
    if split.generator is not None:
        head["generator"] = vars(split.generator)
    return "".join([*_comments(comments), dump_yaml(head), *_subsets(split), *_draws(split)])


def write_split(
    split: Split,
    path: Path,
    *,
    comments: Sequence[str] = (),
    with_digest: bool = False,
    overwrite: bool = False,
) -> None:
    """Writes a split file, whole or not at all.

    Args:
        split: what is to be written.
        path: the file.
        comments: see `split_text`.
        with_digest: see `split_text`.
        overwrite: whether a file that is there is replaced.

    Raises:
        SplitError: when the file is there, or cannot be written.
    """
    if path.exists() and not overwrite:
        raise SplitError(f"{path}: is already there; give another name or say to overwrite it")
    write_whole(path, split_text(split, comments=comments, with_digest=with_digest))


def _comments(comments: Sequence[str]) -> Iterator[str]:
    for i, paragraph in enumerate(comments):
        if i:
            yield "#\n"
        lines = paragraph.splitlines() if "\n" in paragraph else textwrap.wrap(paragraph, _WIDTH)
        yield from (f"# {line}".rstrip() + "\n" for line in lines)


def _subsets(split: Split) -> Iterator[str]:
    pattern = re.compile(split.group_pattern) if split.group_pattern is not None else None
    yield "subsets:\n"
    for subset, classes in split.subsets.items():
        yield f"  {subset}:\n"
        for name, clips in classes.items():
            if split.generator is not None:
                yield f"    - {_scalar(name)}\n"
                continue
            given = [_own_group(clip, pattern) for clip in clips]
            yield from _class(split, name, clips, given, with_id=subset != "test")


def _own_group(clip: Clip, pattern: re.Pattern[str] | None) -> str | None:
    """The group that must be written beside a clip: the one that its name does not give."""
    match = None if pattern is None else pattern.search(clip.name)
    return None if match is not None and match.group(1) == clip.group else clip.group


def _class(
    split: Split, name: str, clips: Sequence[Clip], groups: Sequence[str | None], *, with_id: bool
) -> Iterator[str]:
    yield f"    {_scalar(name)}:\n"
    if with_id and name in split.class_ids:
        yield f"      id: {_quoted(split.class_ids[name])}\n"
    names = [clip.name for clip in clips]
    folder = _folder(split, name)
    if folder:
        yield f"      folder: {_scalar(folder)}\n"
        names = [text[len(folder) + 1 :] for text in names]
    if any(groups) or any(re.search(r"\s", text) for text in names):
        yield "      clips:\n"
        for text, group in zip(names, groups, strict=True):
            if group is None:
                yield f"        - {_quoted(text)}\n"
            else:
                yield f"        - {{clip: {_quoted(text)}, group: {_quoted(group)}}}\n"
        return
    yield from _block(names, "      clips: |\n", 8)


def _block(names: Sequence[str], start: str, indent: int) -> Iterator[str]:
    """Names as a block of text: short ones fill lines, long ones have a line each."""
    yield start
    short = max(map(len, names)) * 3 < _WIDTH
    lines = _filled(names, _WIDTH - indent) if short else names
    yield from (" " * indent + line + "\n" for line in lines)


def _filled(words: Sequence[str], width: int) -> list[str]:
    return textwrap.wrap(" ".join(words), width, break_long_words=False, break_on_hyphens=False)


def _folder(split: Split, name: str) -> str:
    """The folder of all clips of a class in all subsets, or ""."""
    classes = [members[name] for members in split.subsets.values() if name in members]
    folders = {clip.name.rpartition("/")[0] for clips in classes for clip in clips}
    return folders.pop() if len(folders) == 1 else ""


def _draws(split: Split) -> Iterator[str]:
    if not split.draws:
        return
    yield "draws:\n"
    for key, draws in split.draws.items():
        yield f"  {_scalar(key)}:\n"
        for draw in draws:
            start = "    - "
            for name, clips in sorted(draw.clips.items()):
                yield from _draw_class(start, name, clips, _folder(split, name))
                start = "      "


def _draw_class(start: str, name: str, clips: Sequence[str], folder: str) -> Iterator[str]:
    names = [text[len(folder) + 1 :] if folder else text for text in clips]
    if any(re.search(r"\s", text) for text in names):
        yield f"{start}{_scalar(name)}:\n"
        yield from (f"        - {_quoted(text)}\n" for text in names)
    else:
        yield from _block(names, f"{start}{_scalar(name)}: |\n", 8)


def _scalar(text: str) -> str:
    """A text as a key or value: plain where that is safe, else quoted."""
    return text if _PLAIN.fullmatch(text) and text.casefold() not in _WORDS else _quoted(text)


def _quoted(text: str) -> str:
    if not text.isprintable():
        return _double_quoted(text)
    return "'" + text.replace("'", "''") + "'"


def _double_quoted(text: str) -> str:
    """Unusual spaces survive only as escapes."""
    shown = (c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in text)
    return '"' + "".join(shown) + '"'


_KEY = 13
_COMMENT_WIDTH = 94

_FIND = {
    "path": "may be added. path: clip names are paths below the root (as now); name: they say "
    "which clip, while folders, extension, case and underscores on disk may differ",
    "name": "name: clip names say which clip, while folders, extension, case and underscores on "
    "disk may differ; path: they are paths below the root",
    "youtube": "youtube: clip names say which video, while folders, extension and times on disk "
    "may differ; path: they are paths below the root",
}


def comments_for(split: Split, made_from: str, *, in_tables: bool) -> list[str]:
    """Paragraphs for the top of a new split file.

    Args:
        split: the split.
        made_from: what it was made from, and how.
        in_tables: whether its clips are listed in CSV files beside it.
    """
    first = (
        f"Made by `fewshot-i2v episodes new` from {made_from}. Change it as you like: "
        "`fewshot-i2v episodes show` says what it then holds, or what is wrong and where."
    )
    lines = [line for key, text in _keys(split, in_tables=in_tables) for line in _key(key, text)]
    return [first, "\n".join(lines) + "\n"]


def _key(key: str, text: str) -> list[str]:
    wrapped = textwrap.wrap(text, _COMMENT_WIDTH - _KEY, break_on_hyphens=False)
    return [f"{key if i == 0 else '':<{_KEY}}{line}" for i, line in enumerate(wrapped)]


def _keys(split: Split, *, in_tables: bool) -> Iterator[tuple[str, str]]:
    yield "name", "what tables and records call the split"
    yield "version", "raise it when the list changes, so that older numbers can be told apart"
    yield "source", "where the clips are from; licence: on what terms; description: what they are"
    yield (
        "root",
        "may be added: the folder of the clips, relative to this file; --root is then not needed",
    )
    yield "find", _FIND[split.find]
    groups = "" if split.group_pattern is not None else "may be added: "
    yield (
        "group",
        f"{groups}a regular expression whose first ( ) in a clip's name says which recording it is "
        "from (or person, or day): with --disjoint-groups support and query clips share none",
    )
    yield "group_scope", "class: equal groups of two classes are two groups; global: one"
    yield "subsets", _subsets_comment(split, in_tables=in_tables)


def _subsets_comment(split: Split, *, in_tables: bool) -> str:
    if set(split.subsets) <= set(POOLS):
        what = (
            "train: clips to learn from; test: clips of the same classes to be recognised. Clips "
            "can be taken out or moved from one to the other; both need all classes"
        )
    else:
        what = (
            "base: classes to train on; val: to choose settings on; novel: to evaluate on. Move a "
            "class with its clips from one to another, or take clips out; rename a class freely, "
            "since methods that read names see this one"
        )
    where = " The clips are in the CSV files, a line each with path and class" if in_tables else ""
    return f"{what}.{where}"
