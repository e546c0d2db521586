"""Load YAML as plain data, by the rules of YAML 1.2.

Every YAML file goes through `load_yaml`. It builds only dict, list, str, int, float, bool and None,
directly from the parser's events, so a file cannot name a type, refer to another section of itself
or grow while it is read. Differences from `yaml.safe_load`:

| in the file | here |
|---|---|
| tags, anchors, aliases, merge keys, `%` directives, several documents | refused |
| the same key twice in one mapping | refused |
| mapping keys | always text, as written: `1:` is the key "1", `no:` the key "no" |
| `yes`, `no`, `on`, `off` | text; only `true` and `false` are booleans |
| `1e-3` | a float |
| `010` | text, so that a serial number keeps its zeros; `0o10` and `0x8` are the integer 8 |
| `2020-01-01`, `1:30`, `1_000` | text |
| `.nan`, `.inf`, `1e999` | refused: no setting of this project may be infinite or undefined |

Bytes, nested levels and values of a file are limited; reading stops at the limit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, NoReturn, Protocol, TypeAlias, cast

import yaml

from fewshot_i2v.errors import ConfigError
from fewshot_i2v.utils.input_files import NotAFileError, open_regular

Scalar = str | int | float | bool | None

_KEYWORD_VALUES: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMBER_STARTS = frozenset("+-.0123456789")
_MAX_NUMBER_LENGTH = 40
# possessive repeats: a long text that is nearly a number is not tried twice
_INT = r"[-+]?(?:0|[1-9][0-9]*+)"
_INT_WITH_BASE = r"0o[0-7]++|0x[0-9a-fA-F]++"
_FLOAT = r"[-+]?(?:\.[0-9]++|(?:0|[1-9][0-9]*+)(?:\.[0-9]*+)?)(?:[eE][-+]?[0-9]++)?"
_NOT_FINITE = r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
_NUMBER = re.compile(
    f"(?P<int>{_INT}|{_INT_WITH_BASE})|(?P<float>{_FLOAT})|(?P<other>{_NOT_FINITE})",
)


def parse_scalar(text: str) -> Scalar:
    """Parse an unquoted YAML scalar.

    Raises:
        ValueError: for a number that is not finite, or too long to be meant as one.
    """
    if text in _KEYWORD_VALUES:
        return _KEYWORD_VALUES[text]
    match = _NUMBER.fullmatch(text) if text[0] in _NUMBER_STARTS else None
    if match is None:
        return text
    if match.lastgroup == "other":
        raise ValueError(f"{text} is not allowed; expected a finite number (quote it for text)")
    if len(text) > _MAX_NUMBER_LENGTH:
        raise ValueError(f"a number of {len(text)} characters; quote it if it is text")
    if match.lastgroup == "int":
        return int(text, 0)
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large for a number (quote it for text)")
    return number


class _Dumper(yaml.SafeDumper):
    """Writes repeated values in full, and quotes text that would read back as a number."""

    def ignore_aliases(self, data: object) -> bool:
        """Whether a repeated value is written in full: always."""
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # unusual spaces and line ends survive only as escapes
    style = None if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
# YAML 1.1, which the base class knows, has neither of these
for _tag, _pattern in (("float", _FLOAT), ("int", _INT_WITH_BASE)):
    _full_pattern = re.compile(f"(?:{_pattern})$")
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _full_pattern, list(_NUMBER_STARTS))


def dump_yaml(data: object) -> str:
    """Write YAML text that `parse_yaml` reads back as the same data.

    Args:
        data: mappings with text keys (in their order), sequences, text, paths (written as text),
            int, finite float, bool or None.

    Raises:
        ConfigError: for anything else, naming its location.
    """
    text: str = yaml.dump(
        _to_plain(data, "data"),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=100,
    )
    return text


def _to_plain(data: object, location: str) -> dict[str, object] | list[object] | Scalar:
    if isinstance(data, Mapping):
        for key in data:
            if not isinstance(key, str):
                raise ConfigError(f"{location}: key {key!r} cannot be written; expected text")
        return {key: _to_plain(value, f"{location}.{key}") for key, value in data.items()}
    if isinstance(data, str | PurePath):
        return str(data)
    if isinstance(data, Sequence) and not isinstance(data, bytes | bytearray):
        return [_to_plain(value, f"{location}[{i}]") for i, value in enumerate(data)]
    if data is None or isinstance(data, bool):
        return data
    if isinstance(data, int):
        return int(data)
    if isinstance(data, float) and math.isfinite(data):
        return float(data)
    raise ConfigError(
        f"{location}: {data!r} cannot be written as YAML; expected plain, finite data"
    )


__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_VALUES",
    "PlainData",
    "dump_yaml",
    "load_yaml",
    "parse_yaml",
]

PlainData: TypeAlias = Any
"""dict with text keys, list, str, int, float, bool or None."""

MAX_BYTES = 8 * 1024 * 1024
MAX_DEPTH = 50
MAX_VALUES = 200_000
_MAX_MESSAGE_LENGTH = 400

# libyaml's parser where it was compiled in: the same events, ten times as fast.
_Parser: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DIRECTIVE = re.compile(r"^%", re.MULTILINE)


class _Position(Protocol):
    """A position in the text; line and column from 0."""

    line: int
    column: int


def _start_position(event: yaml.Event) -> _Position:
    return cast(_Position, event.start_mark)  # None only for events made by hand


class _OpenCollection:
    """A mapping or sequence that is still open."""

    __slots__ = ("key", "lines", "values")

    def __init__(self, values: dict[str, Any] | list[Any]) -> None:
        self.values = values
        self.key: str | None = None
        self.lines: dict[str, int] = {}


class _Builder:
    """Builds plain data from the events of one document."""

    def __init__(self, origin: str, max_depth: int, max_values: int) -> None:
        self.origin, self.max_depth, self.max_values = origin, max_depth, max_values
        self.stack: list[_OpenCollection] = []
        self.result: Any = None
        self.count = 0
        self.documents = 0

    def fail(self, position: _Position, message: str) -> NoReturn:
        """Raise an error at a position of the file; a long message is cut."""
        message = (
            message if len(message) < _MAX_MESSAGE_LENGTH else message[:_MAX_MESSAGE_LENGTH] + "..."
        )
        raise ConfigError(f"{self.origin}:{position.line + 1}:{position.column + 1}: {message}")

    def feed(self, event: yaml.Event) -> None:
        """Take the next event."""
        if isinstance(event, yaml.ScalarEvent):
            self._add_scalar(event)
        elif isinstance(event, yaml.MappingStartEvent):
            self._open_collection(event, {})
        elif isinstance(event, yaml.SequenceStartEvent):
            self._open_collection(event, [])
        elif isinstance(event, yaml.CollectionEndEvent):
            self.stack.pop()
        elif isinstance(event, yaml.AliasEvent):
            self.fail(_start_position(event), f"alias *{event.anchor} is not allowed; write it out")
        elif isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                self.fail(
                    _start_position(event), "a second document starts here; expected one per file"
                )

    def _check_event(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        self.count += 1
        if self.count > self.max_values:
            self.fail(
                _start_position(event), f"more than {self.max_values} values; use a CSV for lists"
            )
        if event.anchor is not None:
            self.fail(
                _start_position(event), f"anchor &{event.anchor} is not allowed; write it out"
            )
        if event.tag is not None:
            self.fail(
                _start_position(event), f"tag {event.tag} is not allowed; expected plain data"
            )

    def _open_collection(
        self, event: yaml.CollectionStartEvent, values: dict[str, Any] | list[Any]
    ) -> None:
        self._check_event(event)
        if len(self.stack) >= self.max_depth:
            self.fail(_start_position(event), f"nested more than {self.max_depth} levels deep")
        collection = self.stack[-1] if self.stack else None
        if (
            collection is not None
            and isinstance(collection.values, dict)
            and collection.key is None
        ):
            self.fail(_start_position(event), "a mapping or list as key; expected text")
        self._add_value(values)
        self.stack.append(_OpenCollection(values))

    def _add_scalar(self, event: yaml.ScalarEvent) -> None:
        self._check_event(event)
        collection = self.stack[-1] if self.stack else None
        if (
            collection is not None
            and collection.key is None
            and isinstance(collection.values, dict)
        ):
            self._set_key(collection, event)
            return
        try:
            self._add_value(parse_scalar(event.value) if event.implicit[0] else event.value)
        except ValueError as error:
            self.fail(_start_position(event), str(error))

    def _set_key(self, collection: _OpenCollection, event: yaml.ScalarEvent) -> None:
        key, line = event.value, _start_position(event).line + 1
        if event.implicit[0] and key in {"", "<<"}:
            message = "merge key << is not allowed; write it out"
            self.fail(_start_position(event), message if key else "a key is missing before :")
        if key in collection.lines:
            first_line = collection.lines[key]
            self.fail(
                _start_position(event), f"key {key!r} is there twice (first in line {first_line})"
            )
        collection.lines[key] = line
        collection.key = key

    def _add_value(self, value: object) -> None:
        if not self.stack:
            self.result = value
            return
        collection = self.stack[-1]
        if isinstance(collection.values, list):
            collection.values.append(value)
        elif collection.key is not None:
            collection.values[collection.key] = value
            collection.key = None


def parse_yaml(
    text: str,
    origin: str,
    *,
    max_bytes: int = MAX_BYTES,
    max_depth: int = MAX_DEPTH,
    max_values: int = MAX_VALUES,
) -> PlainData:
    """Parse YAML into plain data; the rules are in the module's documentation.

    Args:
        text: the YAML; an empty text gives None, a byte order mark is ignored.
        origin: name of the file, for messages.
        max_bytes: refuse a longer text (counted in UTF-8).
        max_depth: refuse mappings and lists nested deeper.
        max_values: refuse more keys, values, mappings and lists together.

    Returns:
        dict (keys are str), list, str, int, float (finite), bool or None.

    Raises:
        ConfigError: naming origin, line, column and what was expected.
    """
    text = text.removeprefix("\ufeff")
    size = len(text.encode("utf-8", errors="replace"))
    if size > max_bytes:
        raise ConfigError(f"{origin}: {size} bytes; expected at most {max_bytes}")
    _check_characters(text, origin)
    builder = _Builder(origin, max_depth, max_values)
    parser = _Parser(text)
    try:
        while not isinstance(event := parser.get_event(), yaml.StreamEndEvent):
            builder.feed(event)
    except yaml.MarkedYAMLError as error:
        position = cast(_Position, error.problem_mark or error.context_mark)
        builder.fail(position, f"not valid YAML: {_describe_error(error, text, position)}")
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin}: not valid YAML: {error}") from error
    finally:
        parser.dispose()
    return builder.result


def _check_characters(text: str, origin: str) -> None:
    unprintable = _UNPRINTABLE.search(text)
    if unprintable:
        message = (
            f"character U+{ord(unprintable.group()):04X} is not allowed; write it as an escape in "
            "quotes"
        )
        raise ConfigError(f"{_format_position(text, unprintable.start(), origin)}: {message}")
    directive = _DIRECTIVE.search(text)
    if directive:
        # libyaml compares each %TAG line with all earlier ones: a file of them takes minutes
        message = "directives are not allowed: a line may not start with %"
        raise ConfigError(f"{_format_position(text, directive.start(), origin)}: {message}")


def _format_position(text: str, offset: int, origin: str) -> str:
    line = text.count("\n", 0, offset)
    return f"{origin}:{line + 1}:{offset - text.rfind(chr(10), 0, offset)}"


def _describe_error(error: yaml.MarkedYAMLError, text: str, position: _Position) -> str:
    description = ", ".join(phrase for phrase in (error.problem, error.context) if phrase)
    lines = text.splitlines()
    line = lines[position.line] if position.line < len(lines) else ""
    return (
        f"{description}; indent with spaces, not tabs"
        if line.lstrip(" ").startswith("\t")
        else description
    )


def load_yaml(
    path: Path,
    *,
    max_bytes: int = MAX_BYTES,
    max_depth: int = MAX_DEPTH,
    max_values: int = MAX_VALUES,
) -> PlainData:
    """Load plain data from UTF-8 YAML; see `parse_yaml`.

    Raises:
        ConfigError: when the file is missing, not a regular file, too large, not UTF-8, or breaks
            a rule; naming the file, and line and column where there is one.
    """
    try:
        with open_regular(path) as file:
            data = file.read(max_bytes + 4)  # a byte order mark does not count
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; expected a YAML file") from error
    except NotAFileError as error:
        raise ConfigError(f"{path}: {error.strerror}; expected a YAML file") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    data = data.removeprefix(b"\xef\xbb\xbf")
    if len(data) > max_bytes:
        raise ConfigError(f"{path}: larger than {max_bytes} bytes; expected at most that")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from error
    return parse_yaml(
        text, str(path), max_bytes=max_bytes, max_depth=max_depth, max_values=max_values
    )
