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

from fewshot_i2v.data.splits.problems import ProblemList, text_problem
from fewshot_i2v.data.splits.split import (
    Clip,
    Draw,
    FindMode,
    Generator,
    GroupScope,
    LinkPolicy,
    Split,
)
from fewshot_i2v.data.splits.subsets import ClassMetadata, ClipOrigin, read_clip_names, read_subsets
from fewshot_i2v.errors import SplitError
from fewshot_i2v.utils import resources
from fewshot_i2v.utils.yaml import load_yaml

ClassPrefixes = Mapping[str, str]


def read_draws(
    value: object,
    train_clips: Mapping[str, Sequence[Clip]],
    class_folders: ClassPrefixes,
    problems: ProblemList,
) -> dict[str, tuple[Draw, ...]]:
    """Read the draws by name and check them against the train clips.

    Args:
        value: the value of `draws` in the split file.
        train_clips: the clips of the train subset.
        class_folders: class -> the folder that is put before its clip names.
        problems: collects what is wrong.

    Returns:
        The draws by name; only valid when no problem was added.
    """
    if not isinstance(value, dict) or not value:
        problems.add("draws", f"got {value!r}; expected {{NAME: [{{class: clips}}, ...]}}")
        return {}
    if not train_clips:
        problems.add("draws", "there is no train subset for them to be taken from")
        return {}
    train_names = {name: {clip.name for clip in clips} for name, clips in train_clips.items()}
    draws_by_name = {}
    for name, draws in value.items():
        problem = text_problem(name)
        if problem:
            problems.add("draws", problem)
        if not isinstance(draws, list) or not draws:
            problems.add(f"draws.{name}", f"got {draws!r}; expected a list of {{class: clips}}")
            continue
        parsed = [
            _read_draw(draw, f"draws.{name}[{i}]", train_names, class_folders, problems)
            for i, draw in enumerate(draws)
        ]
        draws_by_name[name] = tuple(draw for draw in parsed if draw is not None)
    return draws_by_name


def _read_draw(
    value: object,
    location: str,
    train_names: Mapping[str, set[str]],
    class_folders: ClassPrefixes,
    problems: ProblemList,
) -> Draw | None:
    if not isinstance(value, dict):
        problems.add(location, f"got {value!r}; expected {{class: clips}}")
        return None
    problems.add_unknown(location, value, train_names)
    missing = [name for name in train_names if name not in value]
    if missing:
        problems.add(location, f"no clips of {', '.join(map(repr, missing))}; expected every class")
    clips: dict[str, tuple[str, ...]] = {}
    for name in train_names:
        if name in value:
            clips[name] = _read_draw_clips(
                value[name], name, f"{location}.{name}", train_names, class_folders, problems
            )
    counts = {len(names) for names in clips.values()}
    if len(counts) > 1 or 0 in counts:
        low, high = min(counts), max(counts)
        problems.add(location, f"{low} to {high} clips of a class; expected as many of every class")
    return Draw(max(counts, default=0), clips)


def _read_draw_clips(
    value: object,
    class_name: str,
    location: str,
    train_names: Mapping[str, set[str]],
    class_folders: ClassPrefixes,
    problems: ProblemList,
) -> tuple[str, ...]:
    clip_names = read_clip_names(value, class_folders.get(class_name), location, problems)
    unknown_names = [
        clip_name for clip_name in clip_names if clip_name not in train_names[class_name]
    ]
    if unknown_names:
        more_note = f" and {len(unknown_names) - 1} more" if len(unknown_names) > 1 else ""
        problems.add(
            location, f"{unknown_names[0]!r}{more_note} not among the train clips of the class"
        )
    if len(set(clip_names)) < len(clip_names):
        problems.add(location, "a clip is there twice")
    return tuple(clip_names)


TEXT_KEYS = ("source", "licence", "description")
SPLIT_KEYS = (
    *("name", "version", *TEXT_KEYS, "defects", "digest", "root", "find", "links"),
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
    path = _find_split_file(name_or_path)
    data = load_yaml(path)
    if not isinstance(data, dict):
        raise SplitError(
            f"{path}: expected the keys {', '.join(SPLIT_KEYS)}; found {str(data)[:80]!r}"
        )
    problems = ProblemList(path)
    generator = _read_generator(data["generator"], problems) if "generator" in data else None
    explicit_root = None if root is None else Path(root)
    clips_root = _read_root(
        data.get("root"), path, explicit_root, problems, exists=generator is None
    )
    has_problems = bool(
        problems.messages
    )  # where clips are not known, more would be said about them
    problems.add_unknown("split", data, SPLIT_KEYS)
    pattern = _read_group_pattern(data.get("group"), problems)
    origin, metadata = ClipOrigin(path.parent, clips_root, generator, pattern), ClassMetadata()
    subsets = {} if has_problems else read_subsets(data.get("subsets"), origin, problems, metadata)
    draws = {}
    if "draws" in data and not has_problems:
        draws = read_draws(data["draws"], subsets.get("train", {}), metadata.folders, problems)
    split = Split(
        name=_read_text(data, "name", problems),
        subsets={s: {c: tuple(v) for c, v in classes.items()} for s, classes in subsets.items()},
        version=_read_int(data.get("version", 1), "version", 1, problems),
        defects=_read_text_list(data.get("defects", []), problems),
        class_ids=metadata.ids,
        group_pattern=None if pattern is None else pattern.pattern,
        group_scope=_read_group_scope(data.get("group_scope", "class"), problems),
        find=_read_choice(data, "find", get_args(FindMode), problems),  # type: ignore[arg-type]
        links=_read_choice(data, "links", get_args(LinkPolicy), problems),  # type: ignore[arg-type]
        draws=draws,
        generator=generator,
        root=clips_root,
        path=path,
        **{key: _read_text(data, key, problems) for key in TEXT_KEYS},
    )
    problems.raise_if_any()
    _check_digest(data, split)
    return split


def _check_digest(data: Mapping[str, object], split: Split) -> None:
    """Raise SplitError when the file states another digest than that of its list."""
    stated = data.get("digest", split.digest)
    if stated != split.digest:
        raise SplitError(
            f"{split.path}: digest: got {stated!r}; this list's is {split.digest}. The list was "
            "changed since the digest was written: undo that, or take the line out and give the "
            "split another name"
        )


def _find_split_file(name_or_path: str | Path) -> Path:
    text = str(name_or_path)
    is_file = text.endswith((".yaml", ".yml")) or isinstance(name_or_path, Path)
    if not is_file and text in resources.data_names("episodes"):
        return resources.data_file("episodes", text)  # its name may contain a slash
    is_file = is_file or "/" in text or "\\" in text
    return Path(text) if is_file else resources.data_file("episodes", text)


def _read_text(data: Mapping[str, object], key: str, problems: ProblemList) -> str:
    value = data.get(key, "")
    if not isinstance(value, str):
        problems.add(key, f"got {value!r}; expected text (in quotes if it looks like a number)")
        return ""
    problem = text_problem(value) if key == "name" else None
    if problem:
        problems.add(key, problem if key in data else "missing; expected the split's name")
    return value


def _read_int(value: object, key: str, minimum: int, problems: ProblemList) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= minimum:
        return value
    problems.add(key, f"got {value!r}; expected a whole number from {minimum}")
    return minimum


def _read_text_list(value: object, problems: ProblemList) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
        problems.add("defects", f"got {value!r}; expected a list of text")
        return ()
    return tuple(value)


def _read_choice(
    data: Mapping[str, object], key: str, choices: tuple[str, ...], problems: ProblemList
) -> str:
    """Read one of some words; the first is the default."""
    value = data.get(key, choices[0])
    if isinstance(value, str) and value in choices:
        return value
    problems.add(key, f"got {value!r}; expected {', '.join(choices)}")
    return choices[0]


def _read_group_scope(value: object, problems: ProblemList) -> GroupScope:
    if value == "global":
        return "global"
    if value != "class":
        problems.add("group_scope", f"got {value!r}; expected class or global")
    return "class"


def _read_group_pattern(value: object, problems: ProblemList) -> re.Pattern[str] | None:
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


def _read_root(
    value: object, path: Path, explicit_root: Path | None, problems: ProblemList, *, exists: bool
) -> Path | None:
    if not isinstance(value, str | None):
        problems.add("root", f"got {value!r}; expected a folder")
        return None
    root = explicit_root if explicit_root is not None or value is None else path.parent / value
    if root is not None and exists and not root.is_dir():
        location = "--root" if explicit_root is not None else "root"
        problems.add(location, f"no folder {root}; expected the folder of the clips (see --root)")
    return root


def _read_generator(value: object, problems: ProblemList) -> Generator | None:
    fields = {field.name: field.default for field in dataclasses.fields(Generator)}
    if not isinstance(value, dict):
        problems.add("generator", f"got {value!r}; expected a mapping with {', '.join(fields)}")
        return None
    problems.add_unknown("generator", value, fields)
    name = value.get("name")
    if not isinstance(name, str) or not name:
        problems.add("generator.name", f"got {name!r}; expected a generator's name")
        return None
    minimums = {"seed": 0, "size": 1, "frames": 1, "fps": 1, "clips": 1}
    numbers = {
        key: _read_int(value.get(key, fields[key]), f"generator.{key}", minimum, problems)
        for key, minimum in minimums.items()
    }
    return Generator(name=name, **numbers)
