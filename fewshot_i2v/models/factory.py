"""Builds adapters and heads from a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fewshot_i2v import registry
from fewshot_i2v.config.method import MethodSpec, validate_options
from fewshot_i2v.config.training import TrainingConfig
from fewshot_i2v.errors import AdapterError, ConfigError, HeadError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.models.heads.base.head import Head
from fewshot_i2v.utils.seeding import derive_seed

if TYPE_CHECKING:
    from fewshot_i2v.models.heads.base.head import Head


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


@dataclass(frozen=True)
class ModelFactory:
    """Builds adapters and heads from the configuration.

    Attributes:
        config: of the training.
        tower: the frozen tower, on the device.
        classes: names of the training classes, in the order of their labels.
    """

    config: TrainingConfig
    tower: Tower
    classes: tuple[str, ...]

    def build_encoder(self, copies: int = 1) -> AdaptedEncoder:
        """Builds the frozen tower with an adapter of some copies with equal initial values."""
        adapter_class = registry.load_method("adapters", self.config.adapter.name)
        seed = derive_seed("adapter", self.config.adapter.name, self.config.seed, "train")
        adapter: Adapter = adapter_class(
            self.tower,
            validate_options(self.config.adapter, adapter_class, "adapter"),
            frames=self.config.video.frames,
            seeds=[seed] * copies,
        )
        encoder = AdaptedEncoder(self.tower, adapter.to(self.tower.device))
        encoder.checkpointing = self.config.checkpointing
        return encoder

    def build_head(self, method: MethodSpec, *, way: int, seeds: Sequence[int] = (0,)) -> Head:
        """Builds a head of len(seeds) copies."""
        head_class = registry.load_method("heads", method.name)
        if head_class.uses_class_names:
            raise ConfigError(
                f"head {method.name!r} reads class names, which training does not offer; give one "
                "that compares clips, such as prototype"
            )
        head: Head = head_class(
            validate_options(method, head_class, "head"),
            width=self.tower.width,
            way=way,
            frames=self.config.video.frames,
            seeds=list(seeds),
        )
        return head.to(self.tower.device)
