"""Flags that set configuration keys, made from the fields of the configuration's models.

A layout says which keys have a flag and under which heading of the help. Type, words, form and text
of a flag are those of its key, which are read when a command runs: listing commands stays quick.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from fewshot_i2v import registry
from fewshot_i2v.config.start_names import FRESH, names_of_starts
from fewshot_i2v.errors import UsageError
from fewshot_i2v.utils import resources

if TYPE_CHECKING:
    from fewshot_i2v.config.keys import ConfigKey

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
Number = TypeVar("Number", int, float)
CompletionFunction = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

_ENCODER = ("Encoder", "encoder", "name pretrained architecture image_size mean std")
_VIDEO = ("Video", "video", "frames policy stride crop")
_OPTIMIZER = "lr head_lr weight_decay warmup schedule clip_norm"
_LIMITS = ("Limits of a clip", "limits", "frames pixels seconds memory")
_LAYOUTS = {
    "limits": (_LIMITS,),
    "evaluate": (
        (
            "Episodes",
            "",
            "split root subset way shot query episodes until max_episodes sampling partitions "
            "uneven_shots draws trials seed training_seeds disjoint_groups frame_order",
        ),
        ("Methods", "", "adapter start untuned allow_seen head tokens"),
        _ENCODER,
        _VIDEO,
        ("Tuning", "tuning", f"recipe steps optimizer {_OPTIMIZER} flip colour temporal views"),
        (
            "Running",
            "",
            "precision device at_once deterministic workers cache verify max_failed output",
        ),
        _LIMITS,
    ),
    "fit": (
        ("Methods", "", "adapter start untuned head tokens"),
        _ENCODER,
        _VIDEO,
        ("Tuning", "tuning", f"recipe steps optimizer {_OPTIMIZER} flip colour temporal views"),
        ("Running", "", "seed precision device deterministic workers cache"),
        _LIMITS,
    ),
    "train": (
        (
            "Training",
            "",
            "split root subset seed adapter objective head way shot query batch clips",
        ),
        ("Validation", "validation", "subset classes every episodes shot head"),
        _ENCODER,
        _VIDEO,
        ("Steps", "", f"steps {_OPTIMIZER} accumulate checkpointing"),
        ("Augmentation", "augment", "flip colour temporal"),
        ("Meta-training", "inner", "steps lr rate second_order views label_smoothing"),
        ("Running", "", "precision device deterministic workers cache verify save_every output"),
        _LIMITS,
    ),
}
"""By command: heading in the help, section of the configuration, and the keys that have a flag."""

_FLAG_NAMES = {
    "encoder.name": "--encoder",
    "training_seeds": "--training-seed",
    "validation.classes": "--val-class",
    "inner.second_order": "--second-order/--first-order",
    "output": "--output -o",
}
_FLAG_PREFIXES = {"limits": "max-", "validation": "val-", "inner": "inner-"}
"""Flags have the names of their keys, with dashes, but for these and for keys of these sections."""


class KeyFlag(click.Option):
    """A flag that sets a configuration key.

    Args:
        decls: as for `click.Option`.
        key: the key, dotted.
        heading: in the help.
        attrs: as for `click.Option`.
    """

    def __init__(self, decls: list[str], *, key: str, heading: str, **attrs: Any) -> None:
        super().__init__(decls, **attrs)
        self.key, self.heading = key, heading


class FlagsOfLayout(click.Option):
    """Stands for the flags of a layout among the parameters of a `ConfigCommand`."""

    def __init__(self, decls: list[str], *, layout: str) -> None:
        super().__init__(decls)
        self.layout = layout


class ConfigCommand(click.Command):
    """A command with flags of `config_flags`."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """All parameters, with the flags that set configuration keys."""
        params: list[click.Parameter] = []
        for param in super().get_params(ctx):
            params += _make_flags(param.layout) if isinstance(param, FlagsOfLayout) else [param]
        return params


class SectionedCommand(ConfigCommand):
    """A command whose help groups the flags of keys by heading."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options by heading, those of the command itself last."""
        headings: dict[str, list[tuple[str, str]]] = {}
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        for option in sorted(options, key=lambda option: not isinstance(option, KeyFlag)):
            record = option.get_help_record(ctx)
            if record is not None:
                heading = option.heading if isinstance(option, KeyFlag) else "Other"
                headings.setdefault(heading, []).append(record)
        for heading, records in headings.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def config_flags(layout: str) -> Callable[[Decorated], Decorated]:
    """A decorator that gives a `ConfigCommand` the flags of a layout: evaluate, train or limits."""
    return click.option("--keys-of-the-configuration", cls=FlagsOfLayout, layout=layout)


def _number_or_text(value: str) -> int | str:
    """Convert a whole number; leave other text, such as a range, for the configuration."""
    return int(value) if value.isascii() and value.isdigit() else value


def _count_or_auto(value: str) -> int | str:
    return value if value == "auto" else _convert(int, value, "a whole number or auto")


def _number_or_off(value: str) -> float | str:
    return value if value == "off" else _convert(float, value, "a number or off")


def _per_channel(value: str) -> float | list[float]:
    expected = "one number, or three with commas between"
    numbers = [_convert(float, item, expected) for item in value.split(",")]
    if len(numbers) not in (1, 3):
        raise click.BadParameter(f"{value!r} is not {expected}.")
    return numbers[0] if len(numbers) == 1 else numbers


def _convert(number_type: type[Number], text: str, expected: str) -> Number:
    try:
        return number_type(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not {expected}.") from error


def completer(names: Callable[[], list[str]]) -> CompletionFunction:
    """Build a shell completion from names listed on demand."""

    def _complete(
        _ctx: click.Context, _param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return [CompletionItem(name) for name in names() if name.startswith(incomplete)]

    return _complete


_FORM_TYPES: dict[str, Any] = {
    "N|LOW-HIGH|all": _number_or_text,
    "K|LOW-HIGH": _number_or_text,
    "N|all": _number_or_text,
    "INTEGER|auto": _count_or_auto,
    "NUMBER|off": _number_or_off,
    "NUMBER[,NUMBER,NUMBER]": _per_channel,
    "PATH": click.Path(),
}
_PLAIN_TYPES = {"int": click.INT, "float": click.FLOAT, "Path": click.Path()}
_COMPLETIONS = {
    "split": completer(lambda: resources.data_names("episodes")),
    "adapter": completer(lambda: registry.method_names("adapters")),
    "head": completer(lambda: registry.method_names("heads")),
    "start": completer(lambda: [FRESH, *names_of_starts()]),
}


def _form(text: str) -> dict[str, Any]:
    """Attributes of a flag whose values have a form, for commands without a configuration."""
    return {"type": _FORM_TYPES[text], "metavar": text}


SPLITS: dict[str, Any] = {"type": str, "shell_complete": _COMPLETIONS["split"]}
WAY, SHOT = _form("N|LOW-HIGH|all"), _form("K|LOW-HIGH")
QUERY = COUNT = _form("N|all")
SAMPLING: dict[str, Any] = {"type": click.Choice(("independent", "disjoint"))}


@cache
def _make_flags(layout: str) -> tuple[KeyFlag, ...]:
    """Make the flags of a layout from the keys of the configuration."""
    from fewshot_i2v.config.evaluation import EvaluationConfig
    from fewshot_i2v.config.keys import config_keys
    from fewshot_i2v.config.training import TrainingConfig

    keys = config_keys(TrainingConfig if layout == "train" else EvaluationConfig)
    return tuple(
        _make_flag(heading, section, leaf, keys[f"{section}.{leaf}".lstrip(".")])
        for heading, section, leaves in _LAYOUTS[layout]
        for leaf in leaves.split()
    )


def _make_flag(heading: str, section: str, leaf: str, key: ConfigKey) -> KeyFlag:
    name = f"{section}.{leaf}".lstrip(".")
    default_flag = f"--{_FLAG_PREFIXES.get(section, '')}{leaf.replace('_', '-')}"
    flag = _FLAG_NAMES.get(name, default_flag)
    attributes: dict[str, Any] = {"multiple": key.several, "metavar": key.form or None}
    if key.kind is bool:
        flag = flag if "/" in flag else f"{flag}/--no-{flag.removeprefix('--')}"
        attributes = {"default": None}
    elif key.choices:
        attributes["type"] = click.Choice(key.choices)
    else:
        plain_type = _PLAIN_TYPES.get(key.kind.__name__, click.STRING)
        attributes["type"] = _FORM_TYPES.get(key.form, plain_type)
    return KeyFlag(
        flag.split(),
        key=name,
        heading=heading,
        help=key.description + " Repeatable." * key.several,
        shell_complete=_COMPLETIONS.get(leaf if section in ("", "validation") else ""),
        **attributes,
    )


def read_overrides(ctx: click.Context, settings: tuple[str, ...]) -> dict[str, Any]:
    """Read the configuration keys set on the command line.

    Args:
        ctx: of a command with flags of `config_flags`.
        settings: "key=value" texts of `--set`.

    Raises:
        UsageError: when a setting has no value, or a key is set twice.
    """
    values: dict[str, Any] = {}
    for param in ctx.command.get_params(ctx):
        if isinstance(param, KeyFlag) and param.name:
            source = ctx.get_parameter_source(param.name)
            if source == ParameterSource.COMMANDLINE:
                values[param.key] = ctx.params[param.name]
    return values | parse_settings(settings, taken=values)


def parse_settings(settings: tuple[str, ...], taken: Collection[str] = ()) -> dict[str, Any]:
    """Parse the "key=value" texts of `--set`.

    Args:
        settings: the texts.
        taken: keys that flags set.

    Raises:
        UsageError: when a setting has no value, or a key is set twice.
    """
    from fewshot_i2v.config.method import parse_value

    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        key = key.strip()
        if not (key and equals):
            raise UsageError(f"--set {setting}: expected KEY=VALUE, such as tuning.lr=0.003")
        if key in values or key in taken:
            raise UsageError(f"{key} is given twice on the command line")
        values[key] = parse_value(value.strip(), f"--set {key}")
    return values
