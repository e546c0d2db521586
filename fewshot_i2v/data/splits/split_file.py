"""Reading split files: one YAML file is one split.

| key | value |
|---|---|
| name | the split's name (required) |
| version | 1, 2, ...: raised when the list changes (1) |
| source, licence, description | text: where the list is from, on what terms, what it is |
| defects | list of text: what is known to be wrong with the list |
| digest | 64 hexadecimal digits: refuse the file if its list is another one |
| root | folder of the clips, relative to the file; can be given when loading instead |
| find | `path` (default): clip names are paths below the root; `name`: they say which clip, while
  folders, extension, case and underscores on disk may differ; `youtube`: so may the times |
| links | `inside` (default): links that lead out of the root are refused; `follow`: they are read |
| group | regular expression: its first capture group in a clip's name is the clip's group |
| group_scope | `class` (default): equal group names in two classes are two groups; `global`: one |
| generator | {name, seed, size, frames, fps, clips}: clips are generated, not read |
| subsets | some of base, val and novel, whose classes differ; or train and test, whose classes are
  the same: support clips then come from train and query clips from test (required) |
| draws | published choices of clips of train: name -> list of {class: clips} |

A subset is a mapping of class names to clips, a list of class names (one folder each below the
root, or generated clips), `{folder: FOLDER, classes: [...]}` (class folders below root/FOLDER; all
of them without `classes`) or `{csv: FILE}` (columns path, class and, if wanted, group).

The clips of a class are a list of names (each may be written `{clip: NAME, group: GROUP}`), or
`{clips: ..., folder: FOLDER, id: ID}`: names in a list, or in one text with white space between
them; a folder that is put before each; and what the source of the list calls the class.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from fewshot_i2v.data.splits.problems import Problems, text_problem
from fewshot_i2v.data.splits.split import Clip, Draw, Find, Generator, GroupScope, Links, Split
from fewshot_i2v.data.splits.subsets import ClassNotes, Origin, clip_texts, read_subsets
from fewshot_i2v.errors import SplitError
from fewshot_i2v.utils import resources
from fewshot_i2v.utils.yaml import load_yaml

Folders = Mapping[str, str]


def read_draws(
    value: object,
    train: Mapping[str, Sequence[Clip]],
    folders: Folders,
    problems: Problems,
) -> dict[str, tuple[Draw, ...]]:
    """The draws by name, checked against the clips they are taken from.

    Args:
        value: what stands under `draws` in the split file.
        train: the clips of the train subset.
        folders: class -> the folder that is put before its clip names.
        problems: takes what is wrong.

    Returns:
        Only to be used when no problem was noted.
    """
    if not isinstance(value, dict) or not value:
        problems.add("draws", f"got {value!r}; expected {{NAME: [{{class: clips}}, ...]}}")
        return {}
    if not train:
        problems.add("draws", "there is no train subset for them to be taken from")
        return {}
    known = {name: {clip.name for clip in clips} for name, clips in train.items()}
    result = {}
    for name, draws in value.items():
        wrong = text_problem(name)
        if wrong:
            problems.add("draws", wrong)
        if not isinstance(draws, list) or not draws:
            problems.add(f"draws.{name}", f"got {draws!r}; expected a list of {{class: clips}}")
            continue
        read = [
            _draw(draw, f"draws.{name}[{i}]", known, folders, problems)
            for i, draw in enumerate(draws)
        ]
        result[name] = tuple(draw for draw in read if draw is not None)
    return result


def _draw(
    value: object, where: str, known: Mapping[str, set[str]], folders: Folders, problems: Problems
) -> Draw | None:
    if not isinstance(value, dict):
        problems.add(where, f"got {value!r}; expected {{class: clips}}")
        return None
    problems.unknown(where, value, known)
    absent = [name for name in known if name not in value]
    if absent:
        problems.add(where, f"no clips of {', '.join(map(repr, absent))}; expected every class")
    clips: dict[str, tuple[str, ...]] = {}
    for name in known:
        if name in value:
            clips[name] = _clips(value[name], name, f"{where}.{name}", known, folders, problems)
    counts = {len(names) for names in clips.values()}
    if len(counts) > 1 or 0 in counts:
        low, high = min(counts), max(counts)
        problems.add(where, f"{low} to {high} clips of a class; expected as many of every class")
    return Draw(max(counts, default=0), clips)


def _clips(
    value: object,
    name: str,
    where: str,
    known: Mapping[str, set[str]],
    folders: Folders,
    problems: Problems,
) -> tuple[str, ...]:
    texts = clip_texts(value, folders.get(name), where, problems)
    foreign = [text for text in texts if text not in known[name]]
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        problems.add(where, f"{foreign[0]!r}{more} not among the train clips of the class")
    if len(set(texts)) < len(texts):
        problems.add(where, "a clip is there twice")
    return tuple(texts)


TEXTS = ("source", "licence", "description")
KEYS = (
    *("name", "version", *TEXTS, "defects", "digest", "root", "find", "links"),
    *("group", "group_scope", "generator", "subsets", "draws"),
)
"""All keys of a split file."""


def load_split(name_or_path: str | Path, *, root: str | Path | None = None) -> Split:
    """Read and check a split.

    Args:
        name_or_path: a shipped split's name, or the path of a split file: what ends in .yaml or
            .yml or contains a path separator.
        root: the folder that clip names are relative to, in place of the file's own `root`.

    Raises:
        UnknownNameError: for a name that is not shipped.
        ConfigError: when the file cannot be read, or is not YAML by the project's rules.
        SplitError: with the file and all that is wrong in it.
    """
    path = _find(name_or_path)
    data = load_yaml(path)
    if not isinstance(data, dict):
        raise SplitError(f"{path}: expected the keys {', '.join(KEYS)}; found {str(data)[:80]!r}")
    problems = Problems(path)
    generator = _generator(data["generator"], problems) if "generator" in data else None
    given = None if root is None else Path(root)
    home = _root(data.get("root"), path, given, problems, exists=generator is None)
    blocked = bool(problems.found)  # where clips are not known, more would be said about them
    problems.unknown("split", data, KEYS)
    pattern = _pattern(data.get("group"), problems)
    origin, notes = Origin(path.parent, home, generator, pattern), ClassNotes()
    subsets = {} if blocked else read_subsets(data.get("subsets"), origin, problems, notes)
    draws = {}
    if "draws" in data and not blocked:
        draws = read_draws(data["draws"], subsets.get("train", {}), notes.folders, problems)
    split = Split(
        name=_text(data, "name", problems),
        subsets={s: {c: tuple(v) for c, v in classes.items()} for s, classes in subsets.items()},
        version=_whole(data.get("version", 1), "version", 1, problems),
        defects=_lines(data.get("defects", []), problems),
        class_ids=notes.ids,
        group_pattern=None if pattern is None else pattern.pattern,
        group_scope=_scope(data.get("group_scope", "class"), problems),
        find=_one_of(data, "find", get_args(Find), problems),  # type: ignore[arg-type]
        links=_one_of(data, "links", get_args(Links), problems),  # type: ignore[arg-type]
        draws=draws,
        generator=generator,
        root=home,
        path=path,
        **{key: _text(data, key, problems) for key in TEXTS},
    )
    problems.stop()
    _check_digest(data, split)
    return split


def _check_digest(data: Mapping[str, object], split: Split) -> None:
    """Raises SplitError when the file gives another digest than that of its list."""
    given = data.get("digest", split.digest)
    if given != split.digest:
        raise SplitError(
            f"{split.path}: digest: got {given!r}; this list's is {split.digest}. The list was "
            "changed since the digest was written: undo that, or take the line out and give the "
            "split another name"
        )


def _find(name_or_path: str | Path) -> Path:
    text = str(name_or_path)
    is_file = text.endswith((".yaml", ".yml")) or isinstance(name_or_path, Path)
    if not is_file and text in resources.data_names("episodes"):
        return resources.data_file("episodes", text)  # its name may contain a slash
    is_file = is_file or "/" in text or "\\" in text
    return Path(text) if is_file else resources.data_file("episodes", text)


def _text(data: Mapping[str, object], key: str, problems: Problems) -> str:
    value = data.get(key, "")
    if not isinstance(value, str):
        problems.add(key, f"got {value!r}; expected text (in quotes if it looks like a number)")
        return ""
    wrong = text_problem(value) if key == "name" else None
    if wrong:
        problems.add(key, wrong if key in data else "missing; expected the split's name")
    return value


def _whole(value: object, key: str, least: int, problems: Problems) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    problems.add(key, f"got {value!r}; expected a whole number from {least}")
    return least


def _lines(value: object, problems: Problems) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
        problems.add("defects", f"got {value!r}; expected a list of text")
        return ()
    return tuple(value)


def _one_of(
    data: Mapping[str, object], key: str, words: tuple[str, ...], problems: Problems
) -> str:
    """One of some words; the first of them where the key is not there."""
    value = data.get(key, words[0])
    if isinstance(value, str) and value in words:
        return value
    problems.add(key, f"got {value!r}; expected {', '.join(words)}")
    return words[0]


def _scope(value: object, problems: Problems) -> GroupScope:
    if value == "global":
        return "global"
    if value != "class":
        problems.add("group_scope", f"got {value!r}; expected class or global")
    return "class"


def _pattern(value: object, problems: Problems) -> re.Pattern[str] | None:
    if value is None:
        return None
    if not isinstance(value, str):
        problems.add("group", f"got {value!r}; expected a regular expression")
        return None
    try:
        pattern = re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        problems.add("group", f"{value!r} is not a regular expression: {error}")
        return None
    if pattern.groups == 0:
        problems.add("group", f"{value!r} has no capture group; put ( ) around the group's name")
        return None
    return pattern


def _root(
    value: object, path: Path, given: Path | None, problems: Problems, *, exists: bool
) -> Path | None:
    if not isinstance(value, str | None):
        problems.add("root", f"got {value!r}; expected a folder")
        return None
    root = given if given is not None or value is None else path.parent / value
    if root is not None and exists and not root.is_dir():
        where = "--root" if given is not None else "root"
        problems.add(where, f"no folder {root}; expected the folder of the clips (see --root)")
    return root


def _generator(value: object, problems: Problems) -> Generator | None:
    fields = {field.name: field.default for field in dataclasses.fields(Generator)}
    if not isinstance(value, dict):
        problems.add("generator", f"got {value!r}; expected a mapping with {', '.join(fields)}")
        return None
    problems.unknown("generator", value, fields)
    name = value.get("name")
    if not isinstance(name, str) or not name:
        problems.add("generator.name", f"got {name!r}; expected a generator's name")
        return None
    least = {"seed": 0, "size": 1, "frames": 1, "fps": 1, "clips": 1}
    numbers = {
        key: _whole(value.get(key, fields[key]), f"generator.{key}", low, problems)
        for key, low in least.items()
    }
    return Generator(name=name, **numbers)
