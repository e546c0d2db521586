"""Reads split files: one YAML file is one split. `split_fields.py` has the keys.

A subset is a mapping of class names to clips, a list of class names (one folder each below the
root, or generated clips), `{folder: FOLDER, classes: [...]}` (class folders below root/FOLDER; all
of them without `classes`) or `{csv: FILE}` (columns path, class and, if wanted, group).

The clips of a class are a list of names (each may be written `{clip: NAME, group: GROUP}`), or
`{clips: ..., folder: FOLDER, id: ID}`: names in a list, or in one text with white space between
them; a folder that is put before each; and what the source of the list calls the class.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fewshot_i2v.data.splits.problems import ProblemList, text_problem
from fewshot_i2v.data.splits.split import Clip, Draw, Generator, Split
from fewshot_i2v.data.splits.split_fields import GENERATOR_FIELDS, SPLIT_FIELDS
from fewshot_i2v.data.splits.subsets import SubsetReader
from fewshot_i2v.errors import ConfigError, SplitError, UnknownNameError, suggest_names
from fewshot_i2v.utils import resources
from fewshot_i2v.utils.bibtex import parse_entries
from fewshot_i2v.utils.misplaced_paths import explain_folder
from fewshot_i2v.utils.text_table import join_names
from fewshot_i2v.utils.yaml import load_yaml

_PLAIN_KEYS = (
    *("version", "defects", "group_scope", "find", "links"),
    *("source", "licence", "description"),
)
"""Keys whose values enter a split as they are."""
_SHOWN = 60
"""Characters of a text that a message shows."""


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
    if not path.exists():
        neighbours = [str(path.with_name(other.name)) for other in path.parent.glob("*.y*ml")]
        names = [*neighbours, *resources.data_names("episodes")]
        problem = " ".join(filter(None, ("no such file;", suggest_names(str(path), names))))
        raise ConfigError(
            f"{path}: {problem} expected a split file, or a name from `fewshot-i2v list splits`. "
            "Make a split of clips in one folder per class with "
            f"`fewshot-i2v episodes new {shlex.quote(str(path))} --root CLIPS`"
        )
    data = load_yaml(path)
    if not isinstance(data, dict):
        raise SplitError(
            f"{path}: expected the keys {', '.join(SPLIT_FIELDS)}; found {str(data)[:80]!r}"
        )
    problems = ProblemList(path)
    generator = _read_generator(data, problems)
    clips_root = _read_root(data, path, root, problems, exists=generator is None)
    # without these, every clip would be said to be missing
    clips_known = not problems.messages
    problems.add_unknown("split", data, SPLIT_FIELDS)
    pattern = _read_group_pattern(data, problems)
    reader = SubsetReader(
        problems, folder=path.parent, root=clips_root, generator=generator, pattern=pattern
    )
    subsets, draws = {}, {}
    if clips_known:
        subsets = reader.read(SPLIT_FIELDS["subsets"].read(data, problems))
        value = SPLIT_FIELDS["draws"].read(data, problems)
        if value:
            draws = _read_draws(value, subsets.get("train", {}), reader, problems)
    name = _read_name(data, problems)
    values = {key: SPLIT_FIELDS[key].read(data, problems) for key in _PLAIN_KEYS}
    split = Split(
        name=name,
        subsets={s: {c: tuple(v) for c, v in classes.items()} for s, classes in subsets.items()},
        class_ids=reader.class_ids,
        group_pattern=None if pattern is None else pattern.pattern,
        draws=draws,
        citation=_read_citation(data, problems),
        generator=generator,
        root=clips_root,
        path=path,
        **values | {"defects": tuple(values["defects"])},
    )
    problems.raise_if_any()
    _check_digest(data, split)
    return split


class SplitOrigin(NamedTuple):
    """What a split file says about where its clips and its list are from.

    Attributes:
        citation: BibTeX entries of the data set and of the list; or empty.
        source: the same in words; or empty.
        generated: whether the clips are generated.
    """

    citation: str
    source: str
    generated: bool


def read_split_origin(name_or_path: str | Path) -> SplitOrigin:
    """Read where a split is from; its clips are not looked at, and need not be there.

    Raises:
        UnknownNameError: for a name that is not shipped.
        ConfigError: when the file cannot be read, or is not YAML by the project's rules.
        SplitError: with what is wrong in these keys.
    """
    path = _find_split_file(name_or_path)
    data = load_yaml(path)
    problems = ProblemList(path)
    if not isinstance(data, dict):
        raise SplitError(f"{path}: expected the keys {', '.join(SPLIT_FIELDS)}")
    citation = _read_citation(data, problems)
    source = SPLIT_FIELDS["source"].read(data, problems)
    problems.raise_if_any()
    return SplitOrigin(citation, source, "generator" in data)


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
    if Path(text).is_dir():
        raise SplitError(f"{text}: {explain_folder(Path(text))}")
    is_file = is_file or "/" in text or "\\" in text
    return Path(text) if is_file else resources.data_file("episodes", text)


def _read_name(data: Mapping[str, object], problems: ProblemList) -> str:
    if "name" not in data:
        problems.add("name", "missing; expected the split's name")
        return ""
    name: str = SPLIT_FIELDS["name"].read(data, problems)
    problem = text_problem(name) if name is data["name"] else None
    if problem:
        problems.add("name", problem)
    return name


def _read_citation(data: Mapping[str, object], problems: ProblemList) -> str:
    text: str = SPLIT_FIELDS["citation"].read(data, problems)
    try:
        parse_entries(text)
    except ValueError as error:
        problems.add("citation", f"got {text.strip()[:_SHOWN]!r}; expected BibTeX entries: {error}")
        return ""
    return text


def _read_group_pattern(
    data: Mapping[str, object], problems: ProblemList
) -> re.Pattern[str] | None:
    text = SPLIT_FIELDS["group"].read(data, problems)
    if text is None:
        return None
    try:
        pattern = re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        problems.add("group", f"{text!r} is not a regular expression: {error}")
        return None
    if pattern.groups == 0:
        problems.add("group", f"{text!r} has no capture group; put ( ) around the group's name")
        return None
    return pattern


def _read_root(
    data: Mapping[str, object],
    path: Path,
    explicit_root: str | Path | None,
    problems: ProblemList,
    *,
    exists: bool,
) -> Path | None:
    """Return the folder of the clips: `explicit_root`, or the file's own."""
    text: str | None = SPLIT_FIELDS["root"].read(data, problems)
    if data.get("root") is not text:
        return None  # it was refused
    location, root = "--root", None if explicit_root is None else Path(explicit_root)
    if root is None and text is not None:
        location, root = "root", path.parent / text
    if root is not None and exists and not root.is_dir():
        problems.add(location, f"no folder {root}; expected the folder of the clips (see --root)")
    return root


def _read_generator(data: Mapping[str, object], problems: ProblemList) -> Generator | None:
    section = SPLIT_FIELDS["generator"].read(data, problems)
    if section is None:
        return None
    problems.add_unknown("generator", section, GENERATOR_FIELDS)
    name = GENERATOR_FIELDS["name"].read(section, problems, "generator.")
    if name is None:
        return None
    from fewshot_i2v.data.synthetic.generate import GENERATORS  # with numpy: only where needed

    if name not in GENERATORS:
        problems.add("generator.name", str(UnknownNameError("generator", name, GENERATORS)))
    numbers = [field for key, field in GENERATOR_FIELDS.items() if key != "name"]
    generator = Generator(name, *(field.read(section, problems, "generator.") for field in numbers))
    if generator.size % 2:
        message = f"got {generator.size}; expected an even number, which video files need"
        problems.add("generator.size", message)
    return generator


def _read_draws(
    value: Mapping[str, object],
    train_clips: Mapping[str, Sequence[Clip]],
    reader: SubsetReader,
    problems: ProblemList,
) -> dict[str, tuple[Draw, ...]]:
    """Read draws by name and check them against the train clips."""
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
            _read_draw(draw, f"draws.{name}[{i}]", train_names, reader, problems)
            for i, draw in enumerate(draws)
        ]
        draws_by_name[name] = tuple(draw for draw in parsed if draw is not None)
    return draws_by_name


def _read_draw(
    value: object,
    location: str,
    train_names: Mapping[str, set[str]],
    reader: SubsetReader,
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
    for name, class_clips in train_names.items():
        if name in value:
            key = f"{location}.{name}"
            names = reader.read_clip_names(value[name], name, key)
            _check_draw_clips(names, key, class_clips, problems)
            clips[name] = tuple(names)
    counts = {len(names) for names in clips.values()}
    if len(counts) > 1 or 0 in counts:
        low, high = min(counts), max(counts)
        problems.add(location, f"{low} to {high} clips of a class; expected as many of every class")
    return Draw(max(counts, default=0), clips)


def _check_draw_clips(
    names: Sequence[str], location: str, train_names: set[str], problems: ProblemList
) -> None:
    unknown_names = [name for name in names if name not in train_names]
    if unknown_names:
        names_text = join_names(list(map(repr, unknown_names)), 1)
        problems.add(location, f"{names_text} not among the train clips of the class")
    if len(set(names)) < len(names):
        problems.add(location, "a clip is there twice")
