"""Flags that set configuration keys, made from the fields of the configuration's models.

A layout says which keys have a flag and under which heading of the help. Type, words, form and text
of a flag are those of its key, which are read when a command runs: listing commands stays quick.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from fewshot_i2v import registry
from fewshot_i2v.cli._help import Flag, FlagGroup
from fewshot_i2v.config.start_names import FRESH, names_of_starts
from fewshot_i2v.errors import FewshotError, UsageError
from fewshot_i2v.utils import resources
from fewshot_i2v.utils.sizes import parse_size

if TYPE_CHECKING:
    from fewshot_i2v.config.keys import ConfigKey

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
Number = TypeVar("Number", int, float)
CompletionFunction = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

_OPTIMIZER = "weight_decay warmup schedule clip_norm"
_LIMITS = ("Limits of a clip", "limits", "", "frames pixels seconds memory")
_ENCODER = ("Encoder", "encoder", "name pretrained", "architecture image_size mean std")
_VIDEO = ("Video", "video", "frames", "policy stride crop")
_LAYOUTS = {
    "limits": (_LIMITS,),
    "labels": (_ENCODER, _LIMITS),
    "evaluate": (
        ("Methods", "", "adapter head start", "untuned tokens class_texts allow_seen"),
        ("Clips", "", "split root", "subset"),
        _ENCODER,
        (
            "Episodes",
            "",
            "way shot query episodes until seed",
            "max_episodes training_seeds sampling partitions disjoint_groups uneven_shots draws "
            "trials frame_order",
        ),
        _VIDEO,
        (
            "Tuning",
            "tuning",
            "recipe steps lr",
            f"head_lr optimizer {_OPTIMIZER} flip colour temporal views untuned_weight min_loss",
        ),
        (
            "Running",
            "",
            "output device precision",
            "at_once compile workers cache cache_limit feature_cache verify max_failed "
            "deterministic",
        ),
        _LIMITS,
    ),
    "fit": (
        ("Methods", "", "adapter head start", "untuned tokens class_texts"),
        _ENCODER,
        _VIDEO,
        (
            "Tuning",
            "tuning",
            "recipe steps lr",
            f"head_lr optimizer {_OPTIMIZER} flip colour temporal views",
        ),
        (
            "Running",
            "",
            "device precision",
            "seed compile workers cache cache_limit feature_cache deterministic",
        ),
        _LIMITS,
    ),
    "train": (
        ("Training", "", "adapter start objective head", "clips batch"),
        ("Clips", "", "split root subset", ""),
        _ENCODER,
        ("Episodes of a step", "", "way shot query", "seed"),
        ("Validation", "validation", "subset classes every", "episodes shot head"),
        _VIDEO,
        ("Steps", "", "recipe steps lr", f"head_lr {_OPTIMIZER} accumulate checkpointing"),
        ("Augmentation", "augment", "", "flip colour temporal"),
        (
            "Meta-training",
            "inner",
            "",
            "steps lr rate second_order views label_smoothing",
        ),
        (
            "Running",
            "",
            "output device precision",
            "save_every compile workers cache cache_limit feature_cache verify deterministic",
        ),
        _LIMITS,
    ),
}
"""By command: heading in the help, section of the configuration, the keys whose flags are often
needed, and those that --help-all alone shows."""

_OTHER_DEFAULTS = {
    ("fit", "adapter"): "frozen; auto: also st-adapter and aim",
    ("fit", "head"): "several are tried",
}
"""By command and key, defaults that are not those of the key."""

_FLAG_NAMES = {
    "encoder.name": "--encoder",
    "training_seeds": "--training-seed",
    "validation.classes": "--val-class",
    "inner.second_order": "--second-order/--first-order",
    "output": "--output -o",
}
_FLAG_PREFIXES = {"limits": "max-", "validation": "val-", "inner": "inner-"}
"""Flags have the names of their keys, with dashes, but for these and for keys of these sections."""


class KeyFlag(Flag):
    """A flag that sets a configuration key.

    Args:
        decls: as for `click.Option`.
        key: the key, dotted.
        attrs: as for `Flag`.
    """

    def __init__(self, decls: list[str], *, key: str, **attrs: Any) -> None:
        super().__init__(decls, **attrs)
        self.key = key


class FlagsOfLayout(FlagGroup):
    """The flags of a layout."""

    def __init__(self, decls: list[str], *, layout: str) -> None:
        super().__init__(decls)
        self.layout = layout

    def flags(self) -> Sequence[click.Parameter]:
        """The flags, made from the keys of the configuration."""
        return _make_flags(self.layout)


def config_flags(layout: str) -> Callable[[Decorated], Decorated]:
    """A decorator that gives a command the flags of a layout: evaluate, train or limits."""
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


def _size_text(value: str) -> str:
    try:
        parse_size(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not a size with a unit, such as 20GB.") from error
    return value


def _convert(number_type: type[Number], text: str, expected: str) -> Number:
    try:
        return number_type(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not {expected}.") from error


def completer(names: Callable[[], list[str]]) -> CompletionFunction:
    """Build a shell completion from names listed on demand; none if they cannot be listed."""

    def _complete(
        _ctx: click.Context, _param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        try:
            return [CompletionItem(name) for name in names() if name.startswith(incomplete)]
        except FewshotError:  # such as a bad FEWSHOT_I2V_PLUGINS; the command itself reports it
            return []

    return _complete


_FORM_TYPES: dict[str, Any] = {
    "N|LOW-HIGH|all": _number_or_text,
    "K|LOW-HIGH": _number_or_text,
    "N|all": _number_or_text,
    "INTEGER|auto": _count_or_auto,
    "NUMBER|off": _number_or_off,
    "NUMBER[,NUMBER,NUMBER]": _per_channel,
    "SIZE": _size_text,
    "PATH": click.Path(),
    "FILE": click.Path(),
}
_PLAIN_TYPES = {"int": click.INT, "float": click.FLOAT, "Path": click.Path()}


def _encoder_names() -> list[str]:
    from fewshot_i2v.models.encoders.catalog import list_encoders

    return [encoder.name for encoder in list_encoders()]


_COMPLETE_HEADS = completer(lambda: registry.method_names("heads"))
_COMPLETIONS = {
    "split": completer(lambda: resources.data_names("episodes")),
    "adapter": completer(lambda: registry.method_names("adapters")),
    "head": _COMPLETE_HEADS,
    "validation.head": _COMPLETE_HEADS,
    "start": completer(lambda: [FRESH, *names_of_starts()]),
    "encoder.name": completer(_encoder_names),
}


def _form(text: str) -> dict[str, Any]:
    """Attributes of a flag whose values have a form, for commands without a configuration."""
    return {"type": _FORM_TYPES[text], "metavar": text}


ENCODERS: dict[str, Any] = {"shell_complete": _COMPLETIONS["encoder.name"]}
SPLITS: dict[str, Any] = {"type": str, "shell_complete": _COMPLETIONS["split"]}
WAY, SHOT = _form("N|LOW-HIGH|all"), _form("K|LOW-HIGH")
QUERY = COUNT = _form("N|all")
CACHE_LIMIT = _form("SIZE") | {
    "help": "Largest size of decoded clips and features in the cache, such as 20GB.  "
    "[default: none]"
}
FEATURE_CACHE: dict[str, Any] = {
    "default": True,
    "help": "Read frozen features of clips from the cache, and write new ones.  "
    "[default: feature-cache]",
}
SAMPLING: dict[str, Any] = {"type": click.Choice(("independent", "disjoint"))}


@cache
def _make_flags(layout: str) -> tuple[KeyFlag, ...]:
    """Make the flags of a layout from the keys of the configuration."""
    from fewshot_i2v.config.evaluation import EvaluationConfig
    from fewshot_i2v.config.keys import config_keys
    from fewshot_i2v.config.training import TrainingConfig

    keys = config_keys(TrainingConfig if layout == "train" else EvaluationConfig)
    return tuple(
        _make_flag(
            layout, leaf, section, keys[f"{section}.{leaf}".lstrip(".")], heading=heading, rare=rare
        )
        for heading, section, *tiers in _LAYOUTS[layout]
        for rare, leaves in enumerate(tiers)
        for leaf in leaves.split()
    )


def _make_flag(
    layout: str, leaf: str, section: str, key: ConfigKey, *, heading: str, rare: int
) -> KeyFlag:
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
        rare=bool(rare),
        help=_flag_help(
            flag,
            key,
            _OTHER_DEFAULTS.get((layout, name)),
            of_recipe=_is_set_by_recipes(layout, name),
        ),
        shell_complete=_COMPLETIONS.get(name),
        **attributes,
    )


def _is_set_by_recipes(layout: str, name: str) -> bool:
    """Whether a recipe may set the key."""
    from fewshot_i2v.config.keys import config_keys
    from fewshot_i2v.config.recipes import TrainingSettings

    if layout == "train":
        return name in config_keys(TrainingSettings)
    return name.startswith("tuning.") and name != "tuning.recipe"


def _flag_help(flag: str, key: ConfigKey, other_default: str | None, *, of_recipe: bool) -> str:
    """The text of a key with its default, where the text itself does not say it.

    `other_default` is that of a command whose default is not the key's.
    """
    from fewshot_i2v.config.keys import REQUIRED

    text = key.description + " Repeatable." * key.several
    if other_default is not None:
        return f"{text} [default: {other_default}]"
    default = key.default.strip("[]") if key.several else key.default
    if key.kind is bool:
        default = flag.split("/")[default == "false"].removeprefix("--")
    if default == REQUIRED or (not default and "by default" in text):
        return text
    default = default or "none"
    if of_recipe:
        default = f"that of the recipe, or {default}"
    return f"{text} [default: {default}]"


def read_overrides(ctx: click.Context, settings: tuple[str, ...]) -> dict[str, Any]:
    """Read the configuration keys set on the command line.

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


def config_words(layout: str, values: Mapping[str, Any]) -> list[str]:
    """Write configuration keys as words of a command line.

    Args:
        layout: of the command.
        values: by dotted key, as YAML has them. A key without a flag is written with `--set`.
    """
    flags = {flag.key: flag for flag in _make_flags(layout)}
    words = []
    for key, value in values.items():
        flag = flags.get(key)
        if flag is None or value is None:
            words += ["--set", f"{key}={json.dumps(value)}"]
        elif isinstance(value, bool):
            words.append((flag.opts if value else flag.secondary_opts)[0])
        else:
            text = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
            words += [flag.opts[0], text]
    return words


def parse_settings(settings: tuple[str, ...], taken: Collection[str] = ()) -> dict[str, Any]:
    """Parse the "key=value" texts of `--set`.

    The keys `taken` are set by flags.

    Raises:
        UsageError: when a setting has no value, or a key is set twice.
    """
    from fewshot_i2v.config.method import parse_value

    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        key = key.strip()
        if not (key and equals):
            raise UsageError(f"--set: got {setting!r}; expected KEY=VALUE, such as tuning.lr=0.003")
        if key in values or key in taken:
            raise UsageError(f"{key}: is set twice on the command line; give it once")
        values[key] = parse_value(value.strip(), f"--set {key}")
    return values
