"""A split: which classes and clips there are, and which of them are base, val and novel.

One YAML file is one split. Its keys:

| key | value |
|---|---|
| name | the split's name (required) |
| version | 1, 2, ...: raised when the list changes (1) |
| source, licence, description | text: where the list is from, on what terms, what it is |
| root | folder of the clips, relative to the file; can be given when loading instead |
| group | regular expression: its first capture group in a clip's name is the clip's group |
| group_scope | `class` (default): equal group names in two classes are two groups; `global`: one |
| generator | {name, seed, size, frames, fps, clips}: clips are generated, not read |
| subsets | at least one of base, val and novel (required) |

A subset is a mapping of class names to lists of clip names (each may be written
`{clip: NAME, group: GROUP}`), a list of class names (one folder each below the root, or generated
clips), `{folder: FOLDER, classes: [...]}` (class folders below root/FOLDER; all of them without
`classes`) or `{csv: FILE}` (columns path, class and, if wanted, group).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from fewshot_i2v import plugins
from fewshot_i2v.episodes._problems import Problems, path_problem, text_problem
from fewshot_i2v.episodes._subsets import SUBSETS, Origin, read_subsets
from fewshot_i2v.episodes.catalog import Clip, Generator
from fewshot_i2v.errors import SplitError, UnknownNameError
from fewshot_i2v.yaml_loader import load_yaml

__all__ = ["SUBSETS", "Clip", "Generator", "GroupScope", "Split", "load_split"]

GroupScope = Literal["class", "global"]
_TEXTS = ("source", "licence", "description")
_KEYS = ("name", "version", *_TEXTS, "root", "group", "group_scope", "generator", "subsets")


@dataclass(frozen=True)
class Split:
    """Classes and clips by subset, in one order whatever the order of the file.

    Attributes:
        name: the split's name.
        subsets: "base", "val", "novel" -> class -> clips; classes and clips are sorted by name.
        version: 1 or more.
        source: where the list is from.
        licence: on what terms it may be used.
        description: what it is.
        group_scope: "class" or "global": whether equal group names of two classes are one group.
        generator: makes the clips, where they are not files.
        root: the folder that clip names are relative to, where one is known.
        path: the split file.
    """

    name: str
    subsets: Mapping[str, Mapping[str, tuple[Clip, ...]]]
    version: int = 1
    source: str = ""
    licence: str = ""
    description: str = ""
    group_scope: GroupScope = "class"
    generator: Generator | None = None
    root: Path | None = None
    path: Path | None = None

    def __post_init__(self) -> None:
        ordered = {
            subset: {c: tuple(sorted(clips, key=_by_name)) for c, clips in sorted(classes.items())}
            for subset, classes in self.subsets.items()
        }
        object.__setattr__(self, "subsets", ordered)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of what an episode can depend on.

        That is subsets, classes, clip names, groups, their scope and the generator. Name, texts,
        version, root and the order of the file do not change it.
        """
        content = {
            "subsets": {
                subset: {c: [[clip.name, clip.group] for clip in v] for c, v in classes.items()}
                for subset, classes in self.subsets.items()
            },
            "group_scope": self.group_scope,
            "generator": None if self.generator is None else dataclasses.asdict(self.generator),
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def classes(self, subset: str) -> tuple[str, ...]:
        """Class names of a subset, sorted.

        Raises:
            UnknownNameError: naming the subsets that exist.
        """
        return tuple(self._subset(subset))

    def clips(self, subset: str, name: str) -> tuple[Clip, ...]:
        """The clips of a class, sorted by name.

        Raises:
            UnknownNameError: naming the subsets, or the classes, that exist.
        """
        classes = self._subset(subset)
        if name not in classes:
            raise UnknownNameError("class", name, classes, f"In {subset!r} of split {self.name!r}.")
        return classes[name]

    def file(self, clip_name: str) -> Path:
        """Path of a clip below the root.

        Raises:
            SplitError: when the split has no root, or the name would lead out of it.
        """
        if self.root is None:
            how = "its clips are generated" if self.generator else "give one with --root FOLDER"
            raise SplitError(f"split {self.name!r} has no root for clip {clip_name!r}; {how}")
        wrong = path_problem(clip_name)
        if wrong:
            raise SplitError(f"split {self.name!r}: {wrong}")
        return self.root / clip_name

    def _subset(self, subset: str) -> Mapping[str, tuple[Clip, ...]]:
        if subset not in self.subsets:
            raise UnknownNameError("subset", subset, self.subsets, f"In split {self.name!r}.")
        return self.subsets[subset]


def _by_name(clip: Clip) -> str:
    return clip.name


def load_split(name_or_path: str | Path, *, root: Path | None = None) -> Split:
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
        raise SplitError(f"{path}: expected the keys {', '.join(_KEYS)}; found {str(data)[:80]!r}")
    problems = Problems(path)
    generator = _generator(data["generator"], problems) if "generator" in data else None
    home = _root(data.get("root"), path, root, problems, exists=generator is None)
    blocked = bool(problems.found)  # where clips are not known, more would be said about them
    problems.unknown("split", data, _KEYS)
    origin = Origin(path.parent, home, generator, _pattern(data.get("group"), problems))
    subsets = {} if blocked else read_subsets(data.get("subsets"), origin, problems)
    split = Split(
        name=_text(data, "name", problems),
        subsets={s: {c: tuple(v) for c, v in classes.items()} for s, classes in subsets.items()},
        version=_whole(data.get("version", 1), "version", 1, problems),
        group_scope=_scope(data.get("group_scope", "class"), problems),
        generator=generator,
        root=home,
        path=path,
        **{key: _text(data, key, problems) for key in _TEXTS},
    )
    problems.stop()
    return split


def _find(name_or_path: str | Path) -> Path:
    text = str(name_or_path)
    is_file = text.endswith((".yaml", ".yml")) or isinstance(name_or_path, Path)
    if not is_file and text in plugins.data_names("episodes"):
        return plugins.data_file("episodes", text)  # its name may contain a slash
    is_file = is_file or "/" in text or "\\" in text
    return Path(text) if is_file else plugins.data_file("episodes", text)


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
