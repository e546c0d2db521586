"""Texts of classes for heads that read class names: of a file, or of a mapping."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from fewshot_i2v.config.base import ValueForm
from fewshot_i2v.config.file_names import FILE
from fewshot_i2v.errors import ConfigError, suggest_names
from fewshot_i2v.utils.input_files import parse_json, read_text
from fewshot_i2v.utils.text_table import count_text
from fewshot_i2v.utils.yaml import MAX_BYTES, load_yaml

_MAX_CHARACTERS = 2_000
"""Of a text. Towers read a few hundred at most, and splitting a long word into tokens is slow."""
_MAX_LISTED, _MAX_SHOWN = 10, 60
_KEYS = ("names", "prompts")
_EXPECTED = "a text, a list of texts, or a mapping with names, prompts or both"
_EXAMPLE = "expected a mapping of class names to texts, such as class_07: waving with one hand"
_JSON_SCHEMA: dict[str, Any] = {"anyOf": [{"type": t} for t in ("string", "object", "null")]}


@dataclass(frozen=True)
class TextsOfClass:
    """Texts of one class, white space collapsed.

    Attributes:
        names: texts that stand in place of the class name in every template of a head.
        prompts: complete prompts, used as they are.
    """

    names: tuple[str, ...]
    prompts: tuple[str, ...] = ()

    def fill(self, templates: Sequence[str]) -> list[str]:
        """Returns all prompts of the class: each name in each template, then the complete ones.

        Args:
            templates: with one {} each, where a name goes.
        """
        named = [template.replace("{}", name) for name in self.names for template in templates]
        return [*named, *self.prompts]

    def to_plain(self) -> list[str] | dict[str, list[str]]:
        """Returns the entry of a file that reads back as the same."""
        if not self.prompts:
            return list(self.names)
        entry = {"names": list(self.names), "prompts": list(self.prompts)}
        return {key: texts for key, texts in entry.items() if texts}


@dataclass(frozen=True)
class TextsByClass:
    """Texts of classes.

    Attributes:
        by_class: texts by the class name of the split.
        file: that they were read from; None: they were given as a mapping.
    """

    by_class: Mapping[str, TextsOfClass]
    file: Path | None = None

    @property
    def origin(self) -> str:
        """Where they are from, for messages."""
        return "class_texts" if self.file is None else str(self.file)

    def counts(self) -> dict[str, int]:
        """Counts the `classes`, the `names` that go into templates, and the complete `prompts`."""
        texts = self.by_class.values()
        return {
            "classes": len(texts),
            "names": sum(len(of_class.names) for of_class in texts),
            "prompts": sum(len(of_class.prompts) for of_class in texts),
        }

    def of_classes(self, names: Iterable[str]) -> TextsByClass:
        """Returns the texts of some classes, which must all have some, sorted by name."""
        return TextsByClass({name: self.by_class[name] for name in sorted(names)}, self.file)

    def to_plain(self) -> dict[str, Any]:
        """Returns the content of a file that reads back as the same."""
        return {name: texts.to_plain() for name, texts in self.by_class.items()}

    def __str__(self) -> str:
        classes = count_text(len(self.by_class), "class", "classes")
        return f"of {classes}" if self.file is None else str(self.file)


def read_class_texts(value: object) -> TextsByClass | None:
    """Reads texts of classes, of a YAML or JSON file or of a mapping.

    An entry is a text, a list of texts, or a mapping with `names`, `prompts` or both, each a text
    or a list. A text alone is a name.

    Args:
        value: path of the file, a mapping, or what this function returned.

    Raises:
        ConfigError: naming the file, what is wrong in it, and what was expected.
        ValueError: likewise for a mapping, whose origin the caller knows.
    """
    if value is None or isinstance(value, TextsByClass):
        return value
    if isinstance(value, str | Path) and str(value).strip():
        path = Path(value).expanduser()
        content = _load_json(path) if path.suffix.lower() == ".json" else load_yaml(path)
        try:
            return TextsByClass(_parse(content), path)
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from error
    if not isinstance(value, Mapping):
        raise ValueError("expected the path of a YAML or JSON file, or a mapping of class names")
    return TextsByClass(_parse(value))


ClassTextsKey = Annotated[
    TextsByClass | None,
    BeforeValidator(read_class_texts),
    PlainSerializer(lambda texts: texts and (str(texts.file) if texts.file else texts.to_plain())),
    WithJsonSchema(_JSON_SCHEMA),
    FILE,
    ValueForm("FILE"),
]
"""Type of the key `class_texts`: written as the path that it was read from, or as a mapping."""


def _load_json(path: Path) -> object:
    try:
        return parse_json(read_text(path, MAX_BYTES), object_pairs_hook=_unique_keys)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}; expected a JSON file") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not valid JSON: {error}") from error


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entries: dict[str, object] = {}
    for key, value in pairs:
        if key in entries:
            raise ValueError(f"key {key!r} is there twice; give each class once, with a list")
        entries[key] = value
    return entries


def _parse(content: object) -> dict[str, TextsOfClass]:
    """Parses the entries of all classes; ValueError with a line on each bad one."""
    if not isinstance(content, Mapping):
        got = "is empty" if content is None else f"got {_shown(content)}"
        raise ValueError(f"{got}; {_EXAMPLE}")
    if not content:
        raise ValueError(f"has no class; {_EXAMPLE}")
    texts, problems = {}, []
    for name, entry in content.items():
        try:
            texts[name] = _parse_entry(name, entry)
        except ValueError as error:
            problems.append(f"class {_shown(name)}: {error}")
    if len(problems) > _MAX_LISTED:
        problems[_MAX_LISTED:] = [f"... and {len(problems) - _MAX_LISTED} more"]
    if problems:
        raise ValueError("\n  ".join(problems))
    return texts


def _parse_entry(name: object, entry: object) -> TextsOfClass:
    if not isinstance(name, str):
        raise ValueError("expected the name of a class as text")
    if not isinstance(entry, Mapping):
        return TextsOfClass(_parse_texts(entry))
    for key in entry:
        if key not in _KEYS:
            hint = suggest_names(str(key), _KEYS)
            clauses = filter(None, (f"unknown key {_shown(key)}", hint))
            raise ValueError("; ".join(clauses) + f" expected {_EXPECTED}")
    if not entry:
        raise ValueError(f"has no text; expected {_EXPECTED}")
    names, prompts = (_parse_texts(entry[key]) if key in entry else () for key in _KEYS)
    return TextsOfClass(names, prompts)


def _parse_texts(value: object) -> tuple[str, ...]:
    """Parses a text or a list of texts, at least one."""
    texts = list(value) if isinstance(value, list | tuple) else [value]
    if value is None or not texts:
        raise ValueError(f"has no text; expected {_EXPECTED}")
    return tuple(map(_parse_text, texts))


def _parse_text(text: object) -> str:
    """Checks a text and collapses its white space."""
    if not isinstance(text, str):
        is_plain = isinstance(text, int | float)
        advice = " (a number or a word such as true needs quotes to be text)" if is_plain else ""
        raise ValueError(f"got {_shown(text)}; expected {_EXPECTED}{advice}")
    collapsed = " ".join(text.split())
    if not collapsed:
        raise ValueError("got an empty text; write one, or leave it out")
    if len(collapsed) > _MAX_CHARACTERS:
        raise ValueError(
            f"got a text of {len(collapsed)} characters, {_shown(collapsed)}; expected at most "
            f"{_MAX_CHARACTERS}: text towers read less than that"
        )
    if "{}" in collapsed:
        raise ValueError(
            f"got {_shown(collapsed)}; expected a text without {{}}. Templates are an option of "
            "the head; a text stands for its {}, and a complete prompt is used as it is"
        )
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in collapsed):
        raise ValueError(f"got {_shown(collapsed)}; expected a text without control characters")
    return collapsed


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."
