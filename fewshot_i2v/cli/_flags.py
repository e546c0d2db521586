"""Flags that set configuration keys, and those of `fewshot-i2v evaluate`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from fewshot_i2v import registry
from fewshot_i2v.config.start_names import FRESH, names_of_starts
from fewshot_i2v.errors import UsageError
from fewshot_i2v.utils import resources

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
CompletionFunction = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

OFF = object()
"""What `off` gives where the key is then empty; click itself takes None for "not given"."""


class KeyFlag(click.Option):
    """A flag that sets a configuration key.

    Args:
        decls: as for `click.Option`.
        key: the key, dotted.
        section: heading in the help.
        attrs: as for `click.Option`.
    """

    def __init__(self, decls: tuple[str, ...], *, key: str, section: str, **attrs: Any) -> None:
        super().__init__(decls, **attrs)
        self.key, self.section = key, section


class SectionedCommand(click.Command):
    """A command whose help groups `KeyFlag`s by section."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options by section, those of the command itself last."""
        sections: dict[str, list[tuple[str, str]]] = {}
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        for option in sorted(options, key=lambda option: not isinstance(option, KeyFlag)):
            record = option.get_help_record(ctx)
            if record is not None:
                name = option.section if isinstance(option, KeyFlag) else "Other"
                sections.setdefault(name, []).append(record)
        for name, records in sections.items():
            with formatter.section(name):
                formatter.write_dl(records)


def _parse_number_or_off(_ctx: click.Context, _param: click.Parameter, value: str | None) -> object:
    if value is None or value == "off":
        return OFF if value else None
    return _parse_number(value, "a number or off")


def _parse_count_or_auto(_ctx: click.Context, _param: click.Parameter, value: str | None) -> object:
    if value is None or value == "auto":
        return value
    try:
        return int(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not a whole number or auto.") from error


def _parse_number_or_word(_ctx: click.Context, _param: click.Parameter, value: Any) -> object:  # noqa: ANN401 - click's
    """Convert whole numbers; leave other text for the configuration to validate."""
    if isinstance(value, tuple):
        return tuple(_parse_number_or_word(_ctx, _param, item) for item in value)
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


def _parse_per_channel(_ctx: click.Context, _param: click.Parameter, value: str | None) -> object:
    if value is None:
        return None
    expected = "one number, or three with commas between"
    numbers = [_parse_number(item, expected) for item in value.split(",")]
    if len(numbers) not in (1, 3):
        raise click.BadParameter(f"{value!r} is not {expected}.")
    return numbers[0] if len(numbers) == 1 else numbers


def _parse_number(text: str, expected: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not {expected}.") from error


def completer(names: Callable[[], list[str]]) -> CompletionFunction:
    """Build a shell completion from names listed on demand."""

    def _complete(
        _ctx: click.Context, _param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return [CompletionItem(name) for name in names() if name.startswith(incomplete)]

    return _complete


INT: dict[str, Any] = {"type": int}
FLOAT: dict[str, Any] = {"type": float}
TEXT: dict[str, Any] = {"type": str}
PATH: dict[str, Any] = {"type": click.Path()}
SWITCH: dict[str, Any] = {"default": None}
CHANNELS: dict[str, Any] = {"callback": _parse_per_channel, "metavar": "NUMBER[,NUMBER,NUMBER]"}
METHOD: dict[str, Any] = {"multiple": True, "metavar": "NAME[:KEY=VALUE,...]"}


def choice_type(*choices: str) -> dict[str, Any]:
    """A flag that takes one of some words."""
    return {"type": click.Choice(choices)}


def with_completion(names: Callable[[], list[str]]) -> dict[str, Any]:
    """A flag whose values can be completed."""
    return {"shell_complete": completer(names)}


ADAPTERS = METHOD | with_completion(lambda: registry.method_names("adapters"))
HEADS = METHOD | with_completion(lambda: registry.method_names("heads"))
_STARTS = {"multiple": True, "metavar": "fresh|NAME|FOLDER"} | with_completion(
    lambda: [FRESH, *names_of_starts()]
)
SPLITS = TEXT | with_completion(lambda: resources.data_names("episodes"))
POLICIES = choice_type("segment-center", "uniform", "dense")
FRAME_ORDERS = choice_type("natural", "shuffled", "reversed", "single")
CLIP_NORM = {"callback": _parse_number_or_off, "metavar": "NUMBER|off"}
_NUMBER: dict[str, Any] = {"callback": _parse_number_or_word}
WAY = _NUMBER | {"metavar": "N|LOW-HIGH|all"}
SHOT = _NUMBER | {"metavar": "K|LOW-HIGH"}
QUERY = _NUMBER | {"metavar": "N|all"}
COUNT = _NUMBER | {"metavar": "N|all"}
SAMPLING = choice_type("independent", "disjoint")
_AT_ONCE = {"callback": _parse_count_or_auto, "metavar": "INTEGER|auto"}

Flags = list[tuple[str, dict[str, Any], str]]
FlagTable = list[tuple[str, str, Flags]]
"""Heading in the help, section of the configuration, flags. The key is the flag's name, or `key`
among its attributes, below the section."""

ENCODER: tuple[str, str, Flags] = (
    "Encoder",
    "encoder",
    [
        ("--encoder", TEXT, "By name; if not CONFIG's, its other keys and start are dropped."),
        ("--pretrained", TEXT, "open_clip tag, path of a checkpoint, TAG@path, or random."),
        ("--architecture", PATH, "open_clip model configuration (JSON)."),
        ("--image-size", INT, "Side of a frame in pixels."),
        ("--mean", CHANNELS, "Mean of pixels in [0, 1]."),
        ("--std", CHANNELS, "Standard deviation of pixels in [0, 1]."),
    ],
)
VIDEO: tuple[str, str, Flags] = (
    "Video",
    "video",
    [
        ("--frames", INT, "Frames of a clip."),
        ("--policy", POLICIES, "Which frames are taken."),
        ("--stride", INT, "Frames between two taken ones (dense)."),
        ("--crop", FLOAT, "Side of the central square kept, in (0, 1]."),
    ],
)
LIMITS: tuple[str, str, Flags] = (
    "Limits of a clip",
    "limits",
    [
        ("--max-frames", INT | {"key": "frames"}, "Most frames of its file."),
        ("--max-pixels", INT | {"key": "pixels"}, "Most pixels of a frame."),
        ("--max-seconds", FLOAT | {"key": "seconds"}, "Most processor time for reading it."),
        ("--max-memory", FLOAT | {"key": "memory"}, "Most memory for reading it, in GiB; 0: any."),
    ],
)

_EVALUATE_FLAGS: FlagTable = [
    (
        "Episodes",
        "",
        [
            ("--split", SPLITS, "Split by name or path."),
            ("--root", PATH, "Folder of the split's clips."),
            ("--subset", TEXT, "Of its classes: base, val, novel; test: support from train."),
            ("--way", WAY, "Classes of an episode."),
            ("--shot", SHOT | {"multiple": True}, "Support clips per class; repeat for several."),
            ("--query", QUERY, "Query clips per class."),
            ("--episodes", COUNT, "Episodes of each row."),
            ("--until", FLOAT, "Draw episodes until each mean is known to ± so many points."),
            ("--max-episodes", INT, "Most episodes of each row with --until."),
            ("--sampling", SAMPLING, "Disjoint: no clip is in two episodes."),
            ("--partitions", INT, "Of the clips, with disjoint sampling."),
            ("--uneven-shots/--no-uneven-shots", SWITCH, "Each class: its own number of shots."),
            ("--draws", TEXT, "Published draws of support clips, by name."),
            ("--trials", PATH, "Frozen episodes, a file or a name, in place of drawing any."),
            ("--seed", INT, "Of episodes, initial parameters and augmentation."),
            (
                "--training-seed",
                INT | {"multiple": True, "key": "training_seeds"},
                "Of what is drawn in training; repeat: each row once for each.",
            ),
            ("--disjoint-groups/--no-disjoint-groups", SWITCH, "Support, query: other groups."),
            ("--frame-order", FRAME_ORDERS, "Of every clip: to see what rests on the order."),
        ],
    ),
    (
        "Methods",
        "",
        [
            (
                "--adapter",
                ADAPTERS,
                "With its options; repeatable. CONFIG's starts go if not for it.",
            ),
            ("--start", _STARTS, "What adapters begin as: fresh, a name or folder; repeat too."),
            ("--allow-seen/--no-allow-seen", SWITCH, "Even what a start was trained or chosen on."),
            ("--head", HEADS, "Head with its options; repeat for several."),
            ("--tokens", TEXT, "What heads see of a frame: summary, or grid4 and the like."),
        ],
    ),
    ENCODER,
    VIDEO,
    (
        "Tuning",
        "tuning",
        [
            ("--steps", INT, "Optimizer steps."),
            ("--lr", FLOAT, "Learning rate of the adapter."),
            ("--head-lr", FLOAT, "Learning rate of the head."),
            ("--weight-decay", FLOAT, "Weight decay of matrices."),
            ("--warmup", FLOAT, "Fraction of the steps with a growing rate."),
            ("--schedule", choice_type("cosine", "constant"), "Learning rate after that."),
            ("--clip-norm", CLIP_NORM, "Largest gradient norm of an episode."),
            (
                "--flip",
                choice_type("off", "auto", "on"),
                "Mirror support clips; auto: unless sided.",
            ),
        ],
    ),
    (
        "Running",
        "",
        [
            ("--precision", choice_type("fp32", "bf16"), "Of the frozen encoder."),
            ("--device", TEXT, "auto, cpu, cuda or cuda:N."),
            ("--at-once", _AT_ONCE, "Episodes side by side."),
            ("--deterministic/--no-deterministic", SWITCH, "Only deterministic kernels."),
            ("--workers", INT, "Decoding processes."),
            ("--cache", PATH, "Folder of decoded clips."),
            (
                "--verify/--no-verify",
                SWITCH,
                "Read all clips again, changed or not.",
            ),
            ("--max-failed", INT, "Failed episodes a row may have."),
            ("--output -o", PATH, "Folder of the results; runs/NAME if not given."),
        ],
    ),
    LIMITS,
]


def add_flags(table: FlagTable) -> Callable[[Decorated], Decorated]:
    """A decorator that adds the flags of a table to a command."""

    def _decorate(function: Decorated) -> Decorated:
        for heading, section, flags in reversed(table):
            for declarations, base_attrs, help_text in reversed(flags):
                option_names, attrs = declarations.split(), dict(base_attrs)
                key_name = option_names[0].partition("/")[0].removeprefix("--").replace("-", "_")
                key_name = attrs.pop("key", "name" if key_name == section else key_name)
                function = click.option(
                    *option_names,
                    cls=KeyFlag,
                    key=f"{section}.{key_name}".lstrip("."),
                    section=heading,
                    help=help_text,
                    **attrs,
                )(function)
        return function

    return _decorate


limit_flags = add_flags([LIMITS])
"""Adds the flags of what a clip may take, for commands without a configuration."""

evaluate_flags = add_flags(_EVALUATE_FLAGS)
"""Adds all flags of `fewshot-i2v evaluate` that set a configuration key."""


def read_overrides(ctx: click.Context, settings: tuple[str, ...]) -> dict[str, Any]:
    """Read the configuration keys set on the command line.

    Args:
        ctx: of a command with flags of `add_flags`.
        settings: "key=value" texts of `--set`.

    Raises:
        UsageError: when a setting has no value, or a key is set twice.
    """
    from fewshot_i2v.config.method import parse_value

    values: dict[str, Any] = {}
    for param in ctx.command.params:
        is_given = (
            param.name and ctx.get_parameter_source(param.name) == ParameterSource.COMMANDLINE
        )
        if isinstance(param, KeyFlag) and is_given:
            value = ctx.params[param.name or ""]
            values[param.key] = None if value is OFF else value
    for setting in settings:
        key, equals, value = setting.partition("=")
        key = key.strip()
        if not (key and equals):
            raise UsageError(f"--set {setting}: expected KEY=VALUE, such as tuning.lr=0.003")
        if key in values:
            raise UsageError(f"{key} is given twice on the command line")
        values[key] = parse_value(value.strip(), f"--set {key}")
    return values


_SINGLE: dict[str, Any] = {"multiple": False}
_OBJECTIVE = choice_type("episodic", "classify", "both", "maml", "meta-sgd", "anil", "reptile")
_SUBSET = TEXT | {"metavar": "NAME|off"}


def _with_key(kind: dict[str, Any], key: str) -> dict[str, Any]:
    return kind | {"key": key}


_TRAIN_FLAGS: FlagTable = [
    (
        "Training",
        "",
        [
            ("--split", SPLITS, "Split by name or path."),
            ("--root", PATH, "Folder of the split's clips."),
            ("--subset", TEXT, "Subset whose classes are trained on; never novel."),
            ("--seed", INT, "Of batches, initial parameters and augmentation."),
            ("--adapter", ADAPTERS | _SINGLE, "Adapter with its options."),
            ("--objective", _OBJECTIVE, "What is minimised."),
            ("--head", HEADS | _SINGLE, "Head of the episodes, with its options."),
            ("--way", INT, "Classes of a training episode."),
            ("--shot", INT, "Support clips per class."),
            ("--query", INT, "Query clips per class."),
            ("--batch", INT, "Episodes of a step."),
            ("--clips", INT, "Clips of a step, for classification."),
        ],
    ),
    (
        "Validation",
        "validation",
        [
            (
                "--val-subset",
                _with_key(_SUBSET, "subset"),
                "Its classes choose the state; never novel.",
            ),
            (
                "--val-class",
                _with_key(TEXT | {"multiple": True}, "classes"),
                "Hold out; repeatable.",
            ),
            ("--val-every", _with_key(INT, "every"), "Steps between two validations."),
            ("--val-episodes", _with_key(INT, "episodes"), "Episodes of each validation."),
            ("--val-shot", _with_key(INT, "shot"), "Support clips per class."),
            ("--val-head", _with_key(HEADS | _SINGLE, "head"), "Head that scores them."),
        ],
    ),
    ENCODER,
    VIDEO,
    (
        "Steps",
        "",
        [
            ("--steps", INT, "Optimizer steps."),
            ("--lr", FLOAT, "Learning rate of the adapter."),
            ("--head-lr", FLOAT, "Learning rate of what else is trained."),
            ("--weight-decay", FLOAT, "Weight decay of matrices."),
            ("--warmup", FLOAT, "Fraction of the steps with a growing rate."),
            ("--schedule", choice_type("cosine", "constant"), "Learning rate after that."),
            ("--clip-norm", CLIP_NORM, "Largest gradient norm."),
            ("--accumulate", INT, "Parts of a step, one after the other; saves memory."),
            ("--checkpointing/--no-checkpointing", SWITCH, "Compute blocks twice; saves memory."),
        ],
    ),
    (
        "Augmentation",
        "augment",
        [
            ("--flip", choice_type("off", "auto", "on"), "Mirror clips; auto: unless sided."),
            ("--colour", FLOAT, "Largest change of brightness, contrast and saturation."),
            ("--temporal/--no-temporal", SWITCH, "Frames at random within their segments."),
        ],
    ),
    (
        "Meta-training",
        "inner",
        [
            ("--inner-steps", _with_key(INT, "steps"), "Fine-tuning steps inside a step."),
            ("--inner-lr", _with_key(FLOAT, "lr"), "Their learning rate."),
            ("--inner-rate", _with_key(FLOAT, "rate"), "Reptile: how far the start moves, 0 to 1."),
            ("--second-order/--first-order", SWITCH, "Gradients through the inner steps."),
        ],
    ),
    (
        "Running",
        "",
        [
            ("--precision", choice_type("fp32", "bf16"), "Of the frozen encoder."),
            ("--device", TEXT, "auto, cpu, cuda or cuda:N."),
            ("--deterministic/--no-deterministic", SWITCH, "Only deterministic kernels."),
            ("--workers", INT, "Decoding processes."),
            ("--cache", PATH, "Folder of decoded clips."),
            (
                "--verify/--no-verify",
                SWITCH,
                "Read all clips again, changed or not.",
            ),
            ("--save-every", INT, "Steps between two saved states."),
            ("--output -o", PATH, "Folder of the starting point; starts/NAME if not given."),
        ],
    ),
    LIMITS,
]

train_flags = add_flags(_TRAIN_FLAGS)
"""Adds all flags that set a key of a training's configuration."""
