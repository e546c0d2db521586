"""From a choice of the configuration to the validated options of an adapter or head."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from fewshot_i2v._config_choice import Choice
from fewshot_i2v._config_errors import config_error


def options_of(choice: Choice, cls: type[Any], kind: str) -> Any:  # noqa: ANN401 - a plug-in's own
    """The validated options of an adapter or head, those of a preset resolved.

    Args:
        choice: name and options as they were given.
        cls: the class behind the name.
        kind: "adapter" or "head".

    Raises:
        UsageError: naming the option, the value and what was expected.
    """
    parse = cls.parse if kind == "adapter" else cls.Options.model_validate
    try:
        return parse(choice.options)
    except ValidationError as error:
        raise config_error(error, cls.Options, origin=f"{kind} {choice.name!r}") from error
