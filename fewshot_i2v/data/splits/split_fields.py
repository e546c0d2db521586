"""The keys of a split file: one table with type, default, allowed values and text of each.

The reader checks values with it. The JSON schema, the comments of new split files and the table of
keys in episodes/README.md are made from it. Clips can be 100,000: `subsets.py` reads them by hand,
and takes only names and forms of their keys from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from fewshot_i2v.data.splits.problems import BAD_PATH_PATTERN, ProblemList
from fewshot_i2v.data.splits.split import FindMode, Generator, GroupScope, LinkPolicy

JsonSchema = dict[str, Any]

CLASS_SUBSETS = ("base", "val", "novel")
"""Subsets whose classes differ."""
TRAIN_TEST_SUBSETS = ("train", "test")
"""Subsets of the same classes: support clips from the first, query clips from the second."""
CLASS_SUBSETS_TEXT = "base: classes to train on; val: to choose settings on; novel: to evaluate on"
TRAIN_TEST_TEXT = "train: clips to learn from; test: clips of the same classes to be recognised"
FIND_TEXTS: Mapping[FindMode, str] = {
    "path": "are paths below the root",
    "name": "say which clip, while folders, extension, case and underscores on disk may differ",
    "youtube": "say which video, while folders, extension and times on disk may differ",
}
"""What clip names do, by the value of `find`."""
MAX_GENERATED_CLIPS = 100_000
"""Of a class: a split holds the name of every clip in memory, generated or not."""


@dataclass(frozen=True)
class FieldSpec:
    """A key of a split file, or of a section of one.

    Attributes:
        key: its name.
        text: what it is for.
        schema: JSON schema of its values.
        expected: the allowed values, in words; empty for keys that are read by hand.
        accepts: whether a value is allowed.
        default: the value where the key is absent.
        required: whether the key must be there.
    """

    key: str
    text: str
    schema: JsonSchema
    expected: str = ""
    accepts: Callable[[object], bool] = lambda value: True
    default: object = None
    required: bool = False

    def read(self, section: Mapping[str, object], problems: ProblemList, prefix: str = "") -> Any:  # noqa: ANN401 - the key's type
        """Return the value in a section; the default where it is absent, or refused as a problem.

        Args:
            section: the mapping that the key is in.
            problems: collects what is wrong.
            prefix: put before the key, such as "generator.".
        """
        if self.key not in section and not self.required:
            return self.default
        value = section.get(self.key)
        if self.accepts(value):
            return value
        problems.add(prefix + self.key, f"got {value!r}; expected {self.expected}")
        return self.default


def _is_optional_text(value: object) -> bool:
    return isinstance(value, str | None)


def _is_filled_mapping(value: object) -> bool:
    return isinstance(value, dict) and bool(value)


def _is_text_list(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _text(key: str, text: str) -> FieldSpec:
    expected = "text (in quotes if it looks like a number)"
    return FieldSpec(key, text, {"type": "string"}, expected, lambda v: isinstance(v, str), "")


def _integer(
    key: str, text: str, minimum: int, default: int, maximum: int | None = None
) -> FieldSpec:
    limit = {} if maximum is None else {"maximum": maximum}
    return FieldSpec(
        key,
        text,
        {"type": "integer", "minimum": minimum, **limit},
        f"a whole number from {minimum}" + (f" to {maximum:,}" if limit else ""),
        lambda n: isinstance(n, int) and not isinstance(n, bool) and minimum <= n <= (maximum or n),
        default,
    )


def _choice(key: str, text: str, words: tuple[str, ...], expected: str = "") -> FieldSpec:
    """One of some words; the first is the default."""
    return FieldSpec(
        key,
        text,
        {"enum": list(words)},
        expected or ", ".join(words),
        lambda value: isinstance(value, str) and value in words,
        words[0],
    )


def _list_of(items: JsonSchema, **more: object) -> JsonSchema:
    return {"type": "array", "minItems": 1, "items": items, **more}


def _fields(*fields: FieldSpec) -> dict[str, FieldSpec]:
    return {field.key: field for field in fields}


def _section(description: str, fields: Mapping[str, FieldSpec]) -> JsonSchema:
    """The schema of a mapping with these keys and no other ones."""
    return {
        "description": description,
        "type": "object",
        "required": [key for key, field in fields.items() if field.required],
        "additionalProperties": False,
        "properties": {
            key: {
                **field.schema,
                **({} if field.default in (None, "", [], {}) else {"default": field.default}),
                "description": field.text,
            }
            for key, field in fields.items()
        },
    }


def _mapping_of(values: JsonSchema) -> JsonSchema:
    """The schema of a mapping of any names to values of one kind."""
    return {
        "type": "object",
        "minProperties": 1,
        "propertyNames": _NAME,
        "additionalProperties": values,
    }


_NAME: JsonSchema = {"type": "string", "pattern": r"\S"}
_PATH: JsonSchema = {
    "description": "Relative, with / between folders; no . or .. parts.",
    "type": "string",
    "minLength": 1,
    "not": {"pattern": BAD_PATH_PATTERN},
}
_CLASS_NAMES = _list_of(_NAME, uniqueItems=True)
_OPTIONAL_TEXT: JsonSchema = {"type": ["string", "null"]}

CLIP_FIELDS = _fields(
    FieldSpec("clip", "its name", _PATH, required=True),
    FieldSpec("group", "the recording it comes from", {"type": ["string", "integer", "null"]}),
)
"""Keys of a clip that is more than a name."""
_CLIPS = _list_of({"anyOf": [_PATH, _section("A clip with its group.", CLIP_FIELDS)]})

CLASS_FIELDS = _fields(
    FieldSpec("id", "what the source of the list calls the class", _NAME),
    FieldSpec("folder", "put before each clip's name", _PATH),
    FieldSpec(
        "clips",
        "a list, or names with white space between them",
        {"anyOf": [_NAME, _CLIPS]},
        required=True,
    ),
)
"""Keys of a class that is more than a list of clips."""

FOLDER_FIELDS = _fields(
    FieldSpec("folder", "the parent of the class folders", {"type": "string"}, required=True),
    FieldSpec("classes", "those to take", {"anyOf": [_CLASS_NAMES, {"type": "null"}]}),
)
"""Keys of a subset of class folders."""
CSV_FIELDS = _fields(FieldSpec("csv", "the file, relative to this one", _PATH, required=True))
"""Keys of a subset in a table."""

_SUBSET: JsonSchema = {
    "anyOf": [
        {**_CLASS_NAMES, "description": "Classes with a folder each, or generated."},
        _section("Class folders below root/FOLDER: all, or those in classes.", FOLDER_FIELDS),
        _section("A table with the columns path, class and, if wanted, group.", CSV_FIELDS),
        {
            **_mapping_of({"anyOf": [_CLIPS, _section("A class with its clips.", CLASS_FIELDS)]}),
            "description": "Clips by class.",
        },
    ]
}
_SUBSETS: JsonSchema = {
    "type": "object",
    "minProperties": 1,
    "anyOf": [
        {"additionalProperties": False, "properties": dict.fromkeys(CLASS_SUBSETS, True)},
        {
            "additionalProperties": False,
            "properties": dict.fromkeys(TRAIN_TEST_SUBSETS, True),
            "required": list(TRAIN_TEST_SUBSETS),
        },
    ],
    "properties": {
        key: {"$ref": "#/$defs/subset"} for key in (*CLASS_SUBSETS, *TRAIN_TEST_SUBSETS)
    },
}
_DRAW = _mapping_of({"anyOf": [_NAME, _list_of({"type": "string"})]})

GENERATOR_FIELDS = _fields(
    FieldSpec(
        "name",
        "the generator, such as motions",
        _NAME,
        "a generator's name",
        lambda value: isinstance(value, str) and bool(value.strip()),
        required=True,
    ),
    _integer("seed", "of all that is random", 0, Generator.seed),
    _integer("size", "height and width in pixels", 1, Generator.size),
    _integer("frames", "frames of a clip", 1, Generator.frames),
    _integer("fps", "frames per second", 1, Generator.fps),
    _integer("clips", "clips of each class", 1, Generator.clips, MAX_GENERATED_CLIPS),
)
"""Keys of the settings of a generator."""

SPLIT_FIELDS = _fields(
    replace(_text("name", "what tables and records call the split"), schema=_NAME, required=True),
    _integer(
        "version",
        "raise it when the list changes, so that older numbers can be told apart",
        1,
        1,
    ),
    _text("source", "where the clips are from"),
    _text("licence", "on what terms"),
    _text("description", "what they are; `fewshot-i2v list splits` shows the first sentence"),
    _text(
        "citation", "BibTeX entries of the data set and of the list, for `report --out NAME.bib`"
    ),
    FieldSpec(
        "defects",
        "what is known to be wrong with the list",
        {"type": "array", "items": {"type": "string"}},
        "a list of text",
        _is_text_list,
        [],
    ),
    FieldSpec(
        "digest",
        "a list with another digest is refused",
        {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "64 hexadecimal digits",
    ),
    FieldSpec(
        "root",
        "the folder of the clips, relative to this file; --root is then not needed",
        _OPTIONAL_TEXT,
        "a folder",
        _is_optional_text,
    ),
    _choice(
        "find",
        "; ".join(
            f"{mode}: {'they' if i else 'clip names'} {text}"
            for i, (mode, text) in enumerate(FIND_TEXTS.items())
        ),
        get_args(FindMode),
    ),
    _choice(
        "links",
        "inside: links that lead out of the root are refused; follow: they are read",
        get_args(LinkPolicy),
    ),
    FieldSpec(
        "group",
        "a regular expression whose first ( ) in a clip's name says which recording it is from "
        "(or person, or day): with --disjoint-groups support and query clips share none",
        _OPTIONAL_TEXT,
        "a regular expression",
        _is_optional_text,
    ),
    _choice(
        "group_scope",
        "class: equal groups of two classes are two groups; global: one",
        get_args(GroupScope),
        "class or global",
    ),
    FieldSpec(
        "generator",
        "clips are generated, not read; subsets are then lists of class names",
        _section("Settings of a generator of clips.", GENERATOR_FIELDS),
        f"a mapping with {', '.join(GENERATOR_FIELDS)}",
        lambda value: isinstance(value, dict),
    ),
    FieldSpec(
        "subsets",
        f"{CLASS_SUBSETS_TEXT}. Or {TRAIN_TEST_TEXT}",
        _SUBSETS,
        f"some of {', '.join(CLASS_SUBSETS)}, or {' and '.join(TRAIN_TEST_SUBSETS)}",
        _is_filled_mapping,
        {},
        required=True,
    ),
    FieldSpec(
        "draws",
        "published choices of clips of train, by name",
        _mapping_of(_list_of(_DRAW)),
        "{NAME: [{class: clips}, ...]}",
        _is_filled_mapping,
        {},
    ),
)
"""All keys of a split file, by name."""


def split_schema() -> JsonSchema:
    """Return the JSON schema (draft 2020-12) of a split file, as plain data.

    Further checks are made when a split is loaded: that classes and clips do not overlap, that
    folders exist, that a digest is right.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Split file of fewshot-i2v",
        **_section("Which classes and clips there are, and what each is for.", SPLIT_FIELDS),
        "if": {"required": ["generator"]},
        "then": {"properties": {"subsets": {"additionalProperties": _CLASS_NAMES}}},
        "$defs": {"subset": _SUBSET},
    }
