"""How plain YAML text becomes a value, and a value YAML text; for `fewshot_i2v.yaml_loader`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath

import yaml

from fewshot_i2v.errors import ConfigError

Scalar = str | int | float | bool | None

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_START = frozenset("+-.0123456789")
_LONGEST_NUMBER = 40
# possessive repeats: a long text that is nearly a number is not tried twice
_INT = r"[-+]?(?:0|[1-9][0-9]*+)"
_BASED = r"0o[0-7]++|0x[0-9a-fA-F]++"
_FLOAT = r"[-+]?(?:\.[0-9]++|(?:0|[1-9][0-9]*+)(?:\.[0-9]*+)?)(?:[eE][-+]?[0-9]++)?"
_NOT_FINITE = r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
_NUMBER = re.compile(
    f"(?P<int>{_INT}|{_BASED})|(?P<float>{_FLOAT})|(?P<other>{_NOT_FINITE})",
)


def plain_value(text: str) -> Scalar:
    """The value of an unquoted YAML scalar.

    Raises:
        ValueError: for a number that is not finite, or too long to be meant as one.
    """
    if text in _WORDS:
        return _WORDS[text]
    match = _NUMBER.fullmatch(text) if text[0] in _START else None
    if match is None:
        return text
    if match.lastgroup == "other":
        raise ValueError(f"{text} is not allowed; expected a finite number (quote it for text)")
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(f"a number of {len(text)} characters; quote it if it is text")
    if match.lastgroup == "int":
        return int(text, 0)
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large for a number (quote it for text)")
    return number


class _Dumper(yaml.SafeDumper):
    """Writes every repeated value out, and quotes text that would be read back as a number."""

    def ignore_aliases(self, data: object) -> bool:
        """Whether a value is written out again where it occurs twice: always."""
        return True


def _text_node(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # unusual spaces and line ends survive only as escapes
    style = None if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text_node)
# YAML 1.1, which the base class knows, has neither of these
for _tag, _pattern in (("float", _FLOAT), ("int", _BASED)):
    _whole = re.compile(f"(?:{_pattern})$")
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _whole, list(_START))


def dump_yaml(data: object) -> str:
    """YAML text that `parse_yaml` reads back as the same data.

    Args:
        data: mappings with text keys (their order is kept), sequences, text, paths (written as
            text), int, finite float, bool or None.

    Raises:
        ConfigError: for anything else, naming where it is.
    """
    text: str = yaml.dump(
        _plain(data, "data"),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=100,
    )
    return text


def _plain(data: object, where: str) -> dict[str, object] | list[object] | Scalar:
    if isinstance(data, Mapping):
        for key in data:
            if not isinstance(key, str):
                raise ConfigError(f"{where}: key {key!r} cannot be written; expected text")
        return {key: _plain(value, f"{where}.{key}") for key, value in data.items()}
    if isinstance(data, str | PurePath):
        return str(data)
    if isinstance(data, Sequence) and not isinstance(data, bytes | bytearray):
        return [_plain(value, f"{where}[{i}]") for i, value in enumerate(data)]
    if data is None or isinstance(data, bool):
        return data
    if isinstance(data, int):
        return int(data)
    if isinstance(data, float) and math.isfinite(data):
        return float(data)
    raise ConfigError(f"{where}: {data!r} cannot be written as YAML; expected plain, finite data")
