"""The factory of adapters and heads: from a method's name and options to a module of E copies.

Evaluation, training and the loading of checkpoints all build their models here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from fewshot_i2v import registry
from fewshot_i2v.config.error_messages import translate_validation_error
from fewshot_i2v.errors import AdapterError, ConfigError, HeadError, UnknownNameError
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.adapters.base.frozen_prefix import patches_per_side
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.models.heads.base.head import ClassTexts, Head

ClassTextLoader = Callable[[Any], ClassTexts]
"""From the options of a head to the text embeddings of its classes."""


class NamedOptions(Protocol):
    """An adapter or head by name with its options, of a configuration or a checkpoint."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def options(self) -> Mapping[str, Any]: ...  # noqa: D102


def build_adapter(
    method: NamedOptions,
    tower: Tower,
    *,
    frames: int,
    seeds: Sequence[int],
    checkpoint: Path | None = None,
) -> Adapter:
    """Builds an adapter with untrained values, on the CPU.

    Args:
        method: its name and options.
        tower: the frozen tower that it adapts.
        frames: frames T of a clip.
        seeds: one per copy, E of them.
        checkpoint: folder that the name and options are from, for messages; None: a configuration.

    Raises:
        UsageError: for an unknown method, or options that it does not have or allow.
        AdapterError: when it does not fit the tower or the number of frames.
    """
    adapter_class = load_class("adapters", method.name, checkpoint)
    options = resolve_options("adapters", method, checkpoint)
    adapter: Adapter = adapter_class(tower, options, frames=frames, seeds=seeds)
    return adapter


def build_head(
    method: NamedOptions,
    tower: Tower,
    *,
    way: int,
    frames: int,
    seeds: Sequence[int],
    class_texts: ClassTextLoader | None = None,
    checkpoint: Path | None = None,
) -> Head:
    """Builds a head with untrained values, on the CPU.

    Args:
        method: its name and options.
        tower: the frozen tower whose features it reads.
        way: classes of an episode.
        frames: frames T of a clip.
        seeds: one per copy, E of them.
        class_texts: called for heads that read class names; None: there are none, as in training.
        checkpoint: as for `build_adapter`.

    Raises:
        UsageError: as `build_adapter`; ConfigError for a head that reads class names without any.
    """
    head_class = load_class("heads", method.name, checkpoint)
    if head_class.uses_class_names and class_texts is None:
        raise ConfigError(
            f"head {method.name!r} reads class names, which training does not offer; give one "
            "that compares clips, such as prototype"
        )
    options = resolve_options("heads", method, checkpoint).for_encoder(
        patches_per_side(tower), tower.joint_width
    )
    texts = {"texts": class_texts(options)} if class_texts and head_class.uses_class_names else {}
    head: Head = head_class(
        options, width=tower.width, way=way, frames=frames, seeds=seeds, **texts
    )
    projection = tower.projection
    if projection is not None and any(readout.kind == "projected" for readout in head.readouts):
        head.set_projection(projection)
    return head


def check_adapter_is_read(adapter: NamedOptions, head: NamedOptions) -> None:
    """Refuses a head that reads nothing of what an adapter changes.

    Args:
        adapter: one with parameters.
        head: its name and options.

    Raises:
        ConfigError: when all its readouts are of the frozen encoder.
    """
    options = resolve_options("heads", head)
    if not options.reads_adapted:
        raise ConfigError(
            f"head {head.name}: tokens={options.tokens} reads the frozen encoder alone, which "
            f"{adapter.name} does not change; add a readout without frozen-, such as "
            f"summary+{options.tokens}, or give --adapter frozen"
        )


def depends_on_way(head: NamedOptions, tower: Tower, *, frames: int) -> bool:
    """Whether the parameters of a head have other shapes for another number of classes.

    Such values belong to one list of classes, or to as many. Others can be used with any.

    Args:
        head: its name and options; of a head that reads no class names.
        tower: the frozen tower whose features it reads.
        frames: frames T of a clip.

    Raises:
        UsageError: as `build_head`.
    """
    shapes = [
        {name: tensor.shape for name, tensor in copy.state_dict().items()}
        for copy in (build_head(head, tower, way=w, frames=frames, seeds=[0]) for w in (2, 3))
    ]
    return shapes[0] != shapes[1]


def load_class(kind: registry.MethodKind, name: str, checkpoint: Path | None = None) -> type[Any]:
    """Returns the class behind a name.

    Raises:
        UnknownNameError: for a name that does not exist; with a checkpoint it says which plug-in is
            missing.
        UsageError: as `registry.load_method`.
    """
    try:
        return registry.load_method(kind, name)
    except UnknownNameError as error:
        if checkpoint is None:
            raise
        file = f"{kind}/{name.replace('-', '_')}.py"
        hint = (
            f"{checkpoint} was saved with it: let FEWSHOT_I2V_PLUGINS name the folder that holds "
            f"{file}"
        )
        raise UnknownNameError(error.kind, name, error.existing_names, hint) from error


def resolve_options(
    kind: registry.MethodKind, method: NamedOptions, checkpoint: Path | None = None
) -> Any:  # noqa: ANN401 - the `Options` of any method
    """Validates the options of an adapter or head, with presets resolved and defaults filled in.

    Raises:
        UsageError: naming the option, the value and what was expected.
    """
    method_class = load_class(kind, method.name, checkpoint)
    parse = method_class.parse if kind == "adapters" else method_class.Options.model_validate
    try:
        return parse(method.options)
    except ValidationError as error:
        origin = f"{kind[:-1]} {method.name!r}"
        if checkpoint is not None:
            origin = f"{checkpoint}: {origin}"
        raise translate_validation_error(error, method_class.Options, origin=origin) from error


def is_same_method(kind: registry.MethodKind, one: NamedOptions, another: NamedOptions) -> bool:
    """Whether two adapters or heads have the same name and the same options, defaults filled in.

    Raises:
        UsageError: as `resolve_options`.
    """
    if one.name != another.name:
        return False
    options = [resolve_options(kind, method).model_dump() for method in (one, another)]
    return bool(options[0] == options[1])


def check_episode_axis(module: Adapter | Head, name: str) -> None:
    """Refuses a module whose parameters are not one copy per episode.

    Without the episode axis, episodes that are tuned side by side would change each other.

    Args:
        module: an adapter or head, just built.
        name: its name on the command line, for messages.

    Raises:
        AdapterError: naming the first parameter (or saved buffer) whose first axis is not E, and
            its shape; HeadError for heads.
    """
    kind, error = ("adapter", AdapterError) if isinstance(module, Adapter) else ("head", HeadError)
    if not hasattr(module, "episodes"):
        raise error(f"{kind} {name!r}: its __init__ does not call that of {kind.capitalize()}")
    parameters = dict(module.named_parameters())
    for key, tensor in module.state_dict().items():
        if tensor.shape[:1] == (module.episodes,):
            continue
        tensor_kind, advice = "parameter", "give it one copy per episode, drawn from `generators`"
        if key not in parameters:
            tensor_kind, advice = (
                "buffer",
                "give it one copy per episode, or register it persistent=False",
            )
        raise error(
            f"{kind} {name!r}: the {tensor_kind} {key} has the shape {tuple(tensor.shape)}; its "
            f"first axis must be that of the episodes, E = {module.episodes}: {advice}"
        )
