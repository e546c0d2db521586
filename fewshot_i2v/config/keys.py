"""The keys of a configuration as its models have them: for flags, paths in files and the guide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from fewshot_i2v.config.base import ValueForm
from fewshot_i2v.config.file_names import RelativeToFile
from fewshot_i2v.config.method import MethodSpec

OFF = "off"
"""Stands for None in the values of some keys."""
REQUIRED = "required"
"""Stands for the default of a key that has none."""


@dataclass(frozen=True)
class ConfigKey:
    """A key of a configuration.

    Attributes:
        kind: the type of a single value, such as int, Path or MethodSpec.
        choices: the words that a value is one of; empty: no such list.
        form: how a value is written, such as "N|all"; empty: as `kind` and `choices` say.
        several: whether the value may be a list of such values.
        relative: how a value in a file becomes relative to it, where it may name a file.
        default: as a YAML file would have it; empty: nothing, or what the description says.
        description: a sentence or two.
    """

    kind: type
    choices: tuple[str, ...]
    form: str
    several: bool
    relative: RelativeToFile | None
    default: str
    description: str

    @property
    def has_off(self) -> bool:
        """Whether the word off stands for None."""
        return _has_off(self.form)


def config_keys(model: type[BaseModel], defaults: BaseModel | None = None) -> dict[str, ConfigKey]:
    """Collect all keys of a configuration by dotted name, those of sections too.

    Args:
        model: of the configuration, or of a section.
        defaults: a section's default, where it is not that of its model.
    """
    keys = {}
    for name, field in model.model_fields.items():
        section = section_model(field)
        default = field.get_default(call_default_factory=True)
        default = default if defaults is None else getattr(defaults, name)
        if section is None:
            keys[name] = _read_field(field, default)
        else:
            keys |= {f"{name}.{leaf}": key for leaf, key in config_keys(section, default).items()}
    return keys


def section_model(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a section; None for a key with a value of its own."""
    annotation = field.annotation
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return None
    return None if annotation is MethodSpec else annotation


def form_of(field: FieldInfo) -> str:
    """How the values of a key are written, such as "NUMBER|off"; "" as its type says."""
    forms = [mark.text for mark in field.metadata if isinstance(mark, ValueForm)]
    return forms[0] if forms else ""


def value_text(value: object, form: str = "") -> str:
    """Formats a value as a user writes it behind a flag; several with spaces between.

    Nothing (None) is "off" where the form of the key has that word, else "null", as in YAML.
    """
    if isinstance(value, (list, tuple)):
        return " ".join(map(value_text, value))
    if value is None:
        return OFF if _has_off(form) else "null"
    return _format_plain(value)


def _has_off(form: str) -> bool:
    return form.endswith(f"|{OFF}")


def _read_field(field: FieldInfo, default: object) -> ConfigKey:
    values = list(_possible_values(field.annotation))
    kinds = [value for value in values if isinstance(value, type)]
    kind = kinds[0] if kinds else str
    form = form_of(field) or ("NAME[:KEY=VALUE,...]" if kind is MethodSpec else "")
    relative = [mark for mark in field.metadata if isinstance(mark, RelativeToFile)]
    return ConfigKey(
        kind=kind,
        choices=() if kinds else tuple(values),
        form=form,
        several=get_args(field.annotation)[-1:] == (...,),
        relative=relative[0] if relative else None,
        default=REQUIRED if default is PydanticUndefined else _format_default(default),
        description=field.description or "",
    )


def _format_default(default: object) -> str:
    """Format a default as a YAML file has it; empty where nothing is set."""
    if not isinstance(default, tuple):
        return _format_plain(default)
    return f"[{', '.join(map(_format_plain, default))}]" if default else ""


def _format_plain(value: object) -> str:
    if isinstance(value, MethodSpec):
        return value.label
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None or value == {} else str(value)


def _possible_values(annotation: Any) -> Iterator[Any]:  # noqa: ANN401 - any form of a type
    """Yield the types and words that a value, or one of several, may be; None is left out."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        yield from arguments
    elif origin in (Annotated, tuple):
        yield from _possible_values(arguments[0])
    elif origin in (Union, UnionType):
        for argument in arguments:
            yield from _possible_values(argument)
    elif annotation is not NoneType:
        yield origin or annotation
