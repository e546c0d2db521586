"""A JSON schema of split files, with which editors complete keys and mark mistakes.

It knows the form of a split file. What a form cannot say is checked when a split is loaded: that
classes and clips do not overlap, that folders exist, that a digest is right.
"""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

from fewshot_i2v.data.splits.split import Find, Generator, GroupScope, Links
from fewshot_i2v.data.splits.subsets import POOLS, SUBSETS

Schema = dict[str, Any]

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_LEAST = {"seed": 0, "size": 1, "frames": 1, "fps": 1, "clips": 1}
_GENERATOR_TEXTS = {
    "seed": "Of all that is random.",
    "size": "Height and width in pixels.",
    "frames": "Frames of a clip.",
    "fps": "Frames per second.",
    "clips": "Clips of each class.",
}
_FIND = (
    "path: clip names are paths below the root. name: they say which clip, while folders, "
    "extension, case and underscores on disk may differ. youtube: so may the times."
)
_LINKS = (
    "inside: links that lead out of the root are refused. follow: they are read like other files."
)


def split_schema() -> Schema:
    """The JSON schema (draft 2020-12) of a split file, as plain data."""
    return {
        "$schema": _DRAFT,
        "title": "Split file of fewshot-i2v",
        "description": "Which classes and clips there are, and what each is for.",
        "type": "object",
        "required": ["name", "subsets"],
        "additionalProperties": False,
        "properties": _properties(),
        "if": {"required": ["generator"]},
        "then": {"properties": {"subsets": {"additionalProperties": _ref("classNames")}}},
        "$defs": _definitions(),
    }


def _properties() -> Schema:
    return {
        "name": _name("What tables and records call the split."),
        "version": {
            "description": "Raised when the list changes; 1 if left out.",
            "type": "integer",
            "minimum": 1,
        },
        "source": _text("Where the list is from."),
        "licence": _text("On what terms it may be used."),
        "description": _text("What it is; `fewshot-i2v list splits` shows the first sentence."),
        "defects": {
            "description": "What is known to be wrong with the list.",
            "type": "array",
            "items": {"type": "string"},
        },
        "digest": {
            "description": "Refuses the file if its list is another one.",
            "type": "string",
            "pattern": "^[0-9a-f]{64}$",
        },
        "root": {
            "description": "Folder of the clips, relative to this file; else give --root.",
            "type": ["string", "null"],
        },
        "find": {"description": _FIND, "enum": list(get_args(Find))},
        "links": {"description": _LINKS, "enum": list(get_args(Links))},
        "group": {
            "description": "Regular expression; its first ( ) in a clip's name is its group.",
            "type": ["string", "null"],
        },
        "group_scope": {
            "description": "Whether equal groups of two classes are two (class) or one (global).",
            "enum": list(get_args(GroupScope)),
        },
        "generator": _generator(),
        "subsets": _subsets(),
        "draws": _draws(),
    }


def _generator() -> Schema:
    numbers = {
        field.name: {
            "description": f"{_GENERATOR_TEXTS[field.name]} {field.default} if left out.",
            "type": "integer",
            "minimum": _LEAST[field.name],
        }
        for field in dataclasses.fields(Generator)
        if field.name != "name"
    }
    return {
        "description": "Clips are generated, not read; subsets are then lists of class names.",
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": {"name": _name("The generator, such as motions."), **numbers},
    }


def _subsets() -> Schema:
    return {
        "description": "base, val and novel with different classes; or train and test with the "
        "same ones: support clips then come from train and query clips from test.",
        "type": "object",
        "minProperties": 1,
        "anyOf": [
            {"additionalProperties": False, "properties": dict.fromkeys(SUBSETS, True)},
            {
                "additionalProperties": False,
                "properties": dict.fromkeys(POOLS, True),
                "required": list(POOLS),
            },
        ],
        "properties": dict.fromkeys((*SUBSETS, *POOLS), _ref("subset")),
    }


def _draws() -> Schema:
    return {
        "description": "Published choices of clips of train, by name: a list of draws each.",
        "type": "object",
        "minProperties": 1,
        "propertyNames": _ref("name"),
        "additionalProperties": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {"anyOf": [_filled_text(), _array({"type": "string"})]},
            },
        },
    }


def _definitions() -> Schema:
    return {
        "name": _name("A name without control characters."),
        "path": {
            "description": "Relative, with / between folders; no . or .. parts.",
            "type": "string",
            "minLength": 1,
            "not": {"pattern": r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.{0,2}([/\\]|$)"},
        },
        "classNames": _array(_ref("name"), uniqueItems=True),
        "subset": {
            "anyOf": [
                {**_ref("classNames"), "description": "Classes with a folder each, or generated."},
                {
                    "description": "Class folders below root/FOLDER: all, or those in classes.",
                    "type": "object",
                    "required": ["folder"],
                    "additionalProperties": False,
                    "properties": {"folder": {"type": "string"}, "classes": _folder_classes()},
                },
                {
                    "description": "A table with the columns path, class and, if wanted, group.",
                    "type": "object",
                    "required": ["csv"],
                    "additionalProperties": False,
                    "properties": {"csv": _ref("path")},
                },
                {
                    "description": "Clips by class.",
                    "type": "object",
                    "minProperties": 1,
                    "propertyNames": _ref("name"),
                    "additionalProperties": _ref("class"),
                },
            ]
        },
        "class": {
            "anyOf": [
                _array(_ref("clip")),
                {
                    "type": "object",
                    "required": ["clips"],
                    "additionalProperties": False,
                    "properties": {
                        "id": _name("What the source of the list calls the class."),
                        "folder": {**_ref("path"), "description": "Put before each clip's name."},
                        "clips": {
                            "description": "A list, or names with white space between them.",
                            "anyOf": [_filled_text(), _array(_ref("clip"))],
                        },
                    },
                },
            ]
        },
        "clip": {
            "anyOf": [
                _ref("path"),
                {
                    "type": "object",
                    "required": ["clip"],
                    "additionalProperties": False,
                    "properties": {
                        "clip": _ref("path"),
                        "group": {
                            "description": "The recording it comes from.",
                            "type": ["string", "integer", "null"],
                        },
                    },
                },
            ]
        },
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _text(description: str) -> Schema:
    return {"description": description, "type": "string"}


def _name(description: str) -> Schema:
    return {"description": description, "type": "string", "pattern": r"\S"}


def _filled_text() -> Schema:
    return {"type": "string", "pattern": r"\S"}


def _array(items: Schema, **more: object) -> Schema:
    return {"type": "array", "minItems": 1, "items": items, **more}


def _folder_classes() -> Schema:
    return {"anyOf": [_ref("classNames"), {"type": "null"}]}
