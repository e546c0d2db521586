"""Words for click's errors: the argument, its value, what was expected, and what to do next."""

from __future__ import annotations

import re

import click

from fewshot_i2v.errors import UnknownNameError, suggest_names

_NOT_A_CHOICE = re.compile(r"^(?P<value>'.*'|\".*\") is not one of (?P<choices>.*)\.$", re.DOTALL)
_NOT_OF_TYPE = re.compile(
    r"^(?P<value>'.*'|\".*\") is not (?:a valid )?(?P<expected>.*?)\.$", re.DOTALL
)
_NOT_IN_RANGE = re.compile(r"^(?P<value>\S+) is not in the range (?P<range>.*)\.$")
_OTHER_KIND = re.compile(
    r"^(?:Directory|File|Path) (?P<value>'.*') is a (?P<kind>file|directory)\.$", re.DOTALL
)
_EXTRA_ARGUMENTS = re.compile(r"^Got unexpected extra arguments? \((?P<values>.*)\)$", re.DOTALL)
_TYPE_NAMES = {
    "integer": "a whole number",
    "float": "a number",
    "integer range": "a whole number",
    "float range": "a number",
}


def describe_usage_error(error: click.UsageError) -> str:
    """Describe wrong arguments in one line, and name the help of the command.

    >>> describe_usage_error(click.NoSuchOption("--ways", possibilities=["--way"]))
    "unknown option '--ways'; did you mean '--way'?"
    """
    message = _message(error).rstrip(".")
    if error.ctx is None:
        return message
    separator = " " if message.endswith("?") else ". "
    return f"{message}{separator}See `{error.ctx.command_path} --help`"


def _message(error: click.UsageError) -> str:
    if isinstance(error, click.NoSuchOption):
        return _unknown_option(error)
    if isinstance(error, click.MissingParameter):
        return f"{_param_name(error)}: missing{_expected_text(error)}"
    if isinstance(error, click.BadParameter):
        return f"{_param_name(error)}: {_bad_value(error)}"
    if isinstance(error, click.BadOptionUsage):
        problem = error.message.partition("' ")[2] or error.message
        return f"{error.option_name}: {problem}"
    if error.ctx is not None and (match := _EXTRA_ARGUMENTS.match(error.message)):
        return f"unexpected {match['values']!r}; expected {_usage(error.ctx)}"
    return error.message[:1].lower() + error.message[1:]


def _usage(context: click.Context) -> str:
    """The arguments of a command, as its help writes them."""
    arguments = [param for param in context.command.params if isinstance(param, click.Argument)]
    names = " ".join(argument.make_metavar(context) for argument in arguments)
    return f"{names} and flags" if names else "flags alone"


def _unknown_option(error: click.NoSuchOption) -> str:
    options = error.possibilities or []  # click's own choice of the nearest
    if error.ctx is not None:
        params = error.ctx.command.get_params(error.ctx)
        options = [name for param in params for name in (*param.opts, *param.secondary_opts)]
    return UnknownNameError("option", error.option_name, options).short_text


def _param_name(error: click.BadParameter) -> str:
    """The longest name of an option, or an argument as the help writes it."""
    param = error.param
    if isinstance(param, click.Option):
        return max(param.opts, key=len)
    if param is not None:
        name = param.human_readable_name
        return (param.name or name).upper() if name.startswith("[") else name.rstrip(".")
    return str(error.param_hint or "argument").strip("'")


def _expected_text(error: click.MissingParameter) -> str:
    """What was expected where a parameter is missing."""
    param = error.param
    # of the class: a path has a name of its own, "file" or "directory"
    if getattr(type(getattr(param, "type", None)), "name", "") == "run folder":
        return "; expected a run folder, the --output of an evaluation, such as runs/quickstart"
    if isinstance(param, click.Option) and param.help:
        what = param.help.partition(". ")[0].rstrip(".")
        return f", and has no default; expected: {what[:1].lower()}{what[1:]}"
    return "" if error.ctx is None else f"; expected {_usage(error.ctx)}"


def _bad_value(error: click.BadParameter) -> str:
    """The value of a parameter and what was expected."""
    message = error.message
    param_type = getattr(error.param, "type", None)
    if isinstance(param_type, click.Choice) and (match := _NOT_A_CHOICE.match(message)):
        choices = [str(choice) for choice in param_type.choices]
        suggestion = suggest_names(match["value"].strip("'\""), choices)
        expected = " ".join(filter(None, (suggestion, f"expected {_either(choices)}")))
        return f"got {match['value']}; {expected}"
    if match := _NOT_IN_RANGE.match(message):
        return f"got {match['value']}; expected a number, {match['range']}"
    if match := _OTHER_KIND.match(message):
        kinds = ("file", "folder") if match["kind"] == "file" else ("folder", "file")
        return f"{match['value']} is a {kinds[0]}; expected a {kinds[1]}"
    if match := _NOT_OF_TYPE.match(message):
        expected = _TYPE_NAMES.get(match["expected"], match["expected"])
        return f"got {match['value']}; expected {expected}"
    return message


def _either(words: list[str]) -> str:
    return ", ".join(words[:-1]) + " or " * (len(words) > 1) + words[-1]
