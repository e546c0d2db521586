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
from typing import Any, TypeAlias, cast

import yaml

from fewshot_i2v.errors import ConfigError
from fewshot_i2v.utils.input_files import NotAFileError, open_regular

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


def load_yaml(path: Path) -> PlainData:
    """Load plain data from UTF-8 YAML; see `parse_yaml`.

    Raises:
        ConfigError: when the file is missing, not a regular file, too large, not UTF-8, or breaks
            a rule; naming the file, and line and column where there is one.
    """
    try:
        with open_regular(path) as file:
            data = file.read(MAX_BYTES + 4)  # a byte order mark does not count
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; expected a YAML file") from error
    except NotAFileError as error:
        raise ConfigError(f"{path}: {error.strerror}; expected a YAML file") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    data = data.removeprefix(b"\xef\xbb\xbf")
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES} bytes; expected at most that")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, origin: str) -> PlainData:
    """Parse YAML into plain data; the rules are in the module's documentation.

    Args:
        text: the YAML; an empty text gives None, a byte order mark is ignored.
        origin: name of the file, for messages.

    Returns:
        dict (keys are str), list, str, int, float (finite), bool or None.

    Raises:
        ConfigError: naming origin, line, column and what was expected.
    """
    text = text.removeprefix("\ufeff")
    size = len(text.encode("utf-8", errors="replace"))
    if size > MAX_BYTES:
        raise ConfigError(f"{origin}: {size} bytes; expected at most {MAX_BYTES}")
    _check_characters(text, origin)
    parser = _Parser(text)
    try:
        return _Reader(parser, origin).read_document()
    except yaml.MarkedYAMLError as error:
        mark = cast(Any, error.problem_mark or error.context_mark)
        description = _describe_error(error, text, mark.line)
        raise _error_at(origin, mark, f"not valid YAML: {description}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin}: not valid YAML: {error}") from error
    finally:
        parser.dispose()


class _Reader:
    """Builds plain data from the parser's events."""

    def __init__(self, parser: Any, origin: str) -> None:  # noqa: ANN401 - of libyaml or of Python
        self._next_event = parser.get_event
        self._origin = origin
        self._n_values = 0

    def read_document(self) -> PlainData:
        """Read the only document; None if there is none."""
        value, n_documents = None, 0
        while not isinstance(event := self._next_event(), yaml.StreamEndEvent):
            if isinstance(event, yaml.DocumentStartEvent):
                n_documents += 1
                if n_documents > 1:
                    message = "a second document starts here; expected one per file"
                    raise self._error(event, message)
                value = self._read_node(self._next_event(), 0)
        return value

    def _read_node(self, event: Any, depth: int) -> PlainData:  # noqa: ANN401 - an event of a node
        """Read the value that starts with an event, inside `depth` mappings and lists."""
        self._check_event(event, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            values = []
            while not isinstance(event := self._next_event(), yaml.SequenceEndEvent):
                values.append(self._read_node(event, depth + 1))
            return values
        if isinstance(event, yaml.MappingStartEvent):
            return self._read_mapping(depth + 1)
        try:
            return parse_scalar(event.value) if event.implicit[0] else event.value
        except ValueError as error:
            raise self._error(event, str(error)) from error

    def _read_mapping(self, depth: int) -> dict[str, PlainData]:
        mapping: dict[str, PlainData] = {}
        lines: dict[str, int] = {}
        while not isinstance(event := self._next_event(), yaml.MappingEndEvent):
            self._check_event(event, depth)
            if not isinstance(event, yaml.ScalarEvent):
                raise self._error(event, "a mapping or list as key; expected text")
            key = event.value
            if event.implicit[0] and key in {"", "<<"}:
                message = "merge key << is not allowed; write it out"
                raise self._error(event, message if key else "a key is missing before :")
            if key in lines:
                message = f"key {key!r} is there twice (first in line {lines[key]})"
                raise self._error(event, message)
            lines[key] = cast(Any, event.start_mark).line + 1
            mapping[key] = self._read_node(self._next_event(), depth)
        return mapping

    def _check_event(self, event: Any, depth: int) -> None:  # noqa: ANN401 - an event of a node
        """Refuse what plain data does not have, and too much of it."""
        if isinstance(event, yaml.AliasEvent):
            raise self._error(event, f"alias *{event.anchor} is not allowed; write it out")
        self._n_values += 1
        if self._n_values > MAX_VALUES:
            raise self._error(event, f"more than {MAX_VALUES} values; use a CSV for lists")
        if event.anchor is not None:
            raise self._error(event, f"anchor &{event.anchor} is not allowed; write it out")
        if event.tag is not None:
            raise self._error(event, f"tag {event.tag} is not allowed; expected plain data")
        if depth >= MAX_DEPTH and not isinstance(event, yaml.ScalarEvent):
            raise self._error(event, f"nested more than {MAX_DEPTH} levels deep")

    def _error(self, event: yaml.Event, message: str) -> ConfigError:
        return _error_at(self._origin, event.start_mark, message)


def _error_at(origin: str, mark: Any, message: str) -> ConfigError:  # noqa: ANN401 - as the parser
    """Return the error at a position of the file; a long message is cut."""
    if len(message) >= _MAX_MESSAGE_LENGTH:
        message = message[:_MAX_MESSAGE_LENGTH] + "..."
    return ConfigError(f"{origin}:{mark.line + 1}:{mark.column + 1}: {message}")


def _describe_error(error: yaml.MarkedYAMLError, text: str, line_index: int) -> str:
    description = ", ".join(phrase for phrase in (error.problem, error.context) if phrase)
    line = "".join(text.splitlines()[line_index : line_index + 1])
    has_tab = line.lstrip(" ").startswith("\t")
    return f"{description}; indent with spaces, not tabs" if has_tab else description


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
    # unusual spaces and line ends survive only as escapes, those of a text of several lines aside
    style = None if text.isprintable() else '"'
    if text.endswith("\n") and text.replace("\n", "").isprintable():
        style = "|"
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
