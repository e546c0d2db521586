"""The comments of a new split file: what each key means, and what can be changed."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from fewshot_i2v.episodes._subsets import POOLS
from fewshot_i2v.episodes.split import Split

_KEY = 13
_WIDTH = 94

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
    wrapped = textwrap.wrap(text, _WIDTH - _KEY, break_on_hyphens=False)
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
    yield "subsets", _subsets(split, in_tables=in_tables)


def _subsets(split: Split, *, in_tables: bool) -> str:
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
