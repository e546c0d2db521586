"""The JSON schema of split files, with which editors complete keys and mark mistakes.

It describes the form of a split file. Further checks are made when a split is loaded: that
classes and clips do not overlap, that folders exist, that a digest is right.
"""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

from fewshot_i2v.data.splits.split import FindMode, Generator, GroupScope, LinkPolicy
from fewshot_i2v.data.splits.subsets import CLASS_SUBSETS, TRAIN_TEST_SUBSETS

JsonSchema = dict[str, Any]

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_MINIMUMS = {"seed": 0, "size": 1, "frames": 1, "fps": 1, "clips": 1}
_GENERATOR_DESCRIPTIONS = {
    "seed": "Of all that is random.",
    "size": "Height and width in pixels.",
    "frames": "Frames of a clip.",
    "fps": "Frames per second.",
    "clips": "Clips of each class.",
}
_FIND_DESCRIPTION = (
    "path: clip names are paths below the root. name: they say which clip, while folders, "
    "extension, case and underscores on disk may differ. youtube: so may the times."
)
_LINKS_DESCRIPTION = (
    "inside: links that lead out of the root are refused. follow: they are read like other files."
)


def split_schema() -> JsonSchema:
    """Return the JSON schema (draft 2020-12) of a split file, as plain data."""
    return {
        "$schema": _DRAFT,
        "title": "Split file of fewshot-i2v",
        "description": "Which classes and clips there are, and what each is for.",
        "type": "object",
        "required": ["name", "subsets"],
        "additionalProperties": False,
        "properties": _split_properties(),
        "if": {"required": ["generator"]},
        "then": {"properties": {"subsets": {"additionalProperties": _reference("classNames")}}},
        "$defs": _definitions(),
    }


def _split_properties() -> JsonSchema:
    return {
        "name": _name_property("What tables and records call the split."),
        "version": {
            "description": "Raised when the list changes; 1 if left out.",
            "type": "integer",
            "minimum": 1,
        },
        "source": _text_property("Where the list is from."),
        "licence": _text_property("On what terms it may be used."),
        "description": _text_property(
            "What it is; `fewshot-i2v list splits` shows the first sentence."
        ),
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
        "find": {"description": _FIND_DESCRIPTION, "enum": list(get_args(FindMode))},
        "links": {"description": _LINKS_DESCRIPTION, "enum": list(get_args(LinkPolicy))},
        "group": {
            "description": "Regular expression; its first ( ) in a clip's name is its group.",
            "type": ["string", "null"],
        },
        "group_scope": {
            "description": "Whether equal groups of two classes are two (class) or one (global).",
            "enum": list(get_args(GroupScope)),
        },
        "generator": _generator_schema(),
        "subsets": _subsets_schema(),
        "draws": _draws_schema(),
    }


def _generator_schema() -> JsonSchema:
    numbers = {
        field.name: {
            "description": f"{_GENERATOR_DESCRIPTIONS[field.name]} {field.default} if left out.",
            "type": "integer",
            "minimum": _MINIMUMS[field.name],
        }
        for field in dataclasses.fields(Generator)
        if field.name != "name"
    }
    return {
        "description": "Clips are generated, not read; subsets are then lists of class names.",
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": {"name": _name_property("The generator, such as motions."), **numbers},
    }


def _subsets_schema() -> JsonSchema:
    return {
        "description": "base, val and novel with different classes; or train and test with the "
        "same ones: support clips then come from train and query clips from test.",
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
        "properties": dict.fromkeys((*CLASS_SUBSETS, *TRAIN_TEST_SUBSETS), _reference("subset")),
    }


def _draws_schema() -> JsonSchema:
    return {
        "description": "Published choices of clips of train, by name: a list of draws each.",
        "type": "object",
        "minProperties": 1,
        "propertyNames": _reference("name"),
        "additionalProperties": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {
                    "anyOf": [_nonempty_text(), _nonempty_array({"type": "string"})]
                },
            },
        },
    }


def _definitions() -> JsonSchema:
    return {
        "name": _name_property("A name without control characters."),
        "path": {
            "description": "Relative, with / between folders; no . or .. parts.",
            "type": "string",
            "minLength": 1,
            "not": {"pattern": r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.{0,2}([/\\]|$)"},
        },
        "classNames": _nonempty_array(_reference("name"), uniqueItems=True),
        "subset": {
            "anyOf": [
                {
                    **_reference("classNames"),
                    "description": "Classes with a folder each, or generated.",
                },
                {
                    "description": "Class folders below root/FOLDER: all, or those in classes.",
                    "type": "object",
                    "required": ["folder"],
                    "additionalProperties": False,
                    "properties": {
                        "folder": {"type": "string"},
                        "classes": _optional_class_names(),
                    },
                },
                {
                    "description": "A table with the columns path, class and, if wanted, group.",
                    "type": "object",
                    "required": ["csv"],
                    "additionalProperties": False,
                    "properties": {"csv": _reference("path")},
                },
                {
                    "description": "Clips by class.",
                    "type": "object",
                    "minProperties": 1,
                    "propertyNames": _reference("name"),
                    "additionalProperties": _reference("class"),
                },
            ]
        },
        "class": {
            "anyOf": [
                _nonempty_array(_reference("clip")),
                {
                    "type": "object",
                    "required": ["clips"],
                    "additionalProperties": False,
                    "properties": {
                        "id": _name_property("What the source of the list calls the class."),
                        "folder": {
                            **_reference("path"),
                            "description": "Put before each clip's name.",
                        },
                        "clips": {
                            "description": "A list, or names with white space between them.",
                            "anyOf": [_nonempty_text(), _nonempty_array(_reference("clip"))],
                        },
                    },
                },
            ]
        },
        "clip": {
            "anyOf": [
                _reference("path"),
                {
                    "type": "object",
                    "required": ["clip"],
                    "additionalProperties": False,
                    "properties": {
                        "clip": _reference("path"),
                        "group": {
                            "description": "The recording it comes from.",
                            "type": ["string", "integer", "null"],
                        },
                    },
                },
            ]
        },
    }


def _reference(name: str) -> JsonSchema:
    return {"$ref": f"#/$defs/{name}"}


def _text_property(description: str) -> JsonSchema:
    return {"description": description, "type": "string"}


def _name_property(description: str) -> JsonSchema:
    return {"description": description, "type": "string", "pattern": r"\S"}


def _nonempty_text() -> JsonSchema:
    return {"type": "string", "pattern": r"\S"}


def _nonempty_array(items: JsonSchema, **extra_keys: object) -> JsonSchema:
    return {"type": "array", "minItems": 1, "items": items, **extra_keys}


def _optional_class_names() -> JsonSchema:
    return {"anyOf": [_reference("classNames"), {"type": "null"}]}
