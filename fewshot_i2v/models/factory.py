"""Builds adapters and heads from a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fewshot_i2v import registry
from fewshot_i2v.config.method import Choice, options_of
from fewshot_i2v.config.training import TrainConfig
from fewshot_i2v.errors import AdapterError, ConfigError, HeadError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.models.heads.base.head import Head
from fewshot_i2v.utils.seeding import derive_seed

if TYPE_CHECKING:
    from fewshot_i2v.models.heads.base.head import Head


def check_built(module: Adapter | Head, name: str) -> None:
    """Refuses a module whose parameters are not one copy per episode.

    Without the episode axis, episodes that are tuned side by side would change each other.

    Args:
        module: an adapter or head, just built.
        name: on the command line, for messages.

    Raises:
        AdapterError: naming the first parameter (or buffer that is saved) whose first axis is not
            E, and its shape; HeadError for heads.
    """
    kind, error = ("adapter", AdapterError) if isinstance(module, Adapter) else ("head", HeadError)
    if not hasattr(module, "episodes"):
        raise error(f"{kind} {name!r}: its __init__ does not call that of {kind.capitalize()}")
    parameters = dict(module.named_parameters())
    for key, tensor in module.state_dict().items():
        if tensor.shape[:1] == (module.episodes,):
            continue
        what, advice = "parameter", "give it one copy per episode, drawn from `generators`"
        if key not in parameters:
            what, advice = "buffer", "give it one copy per episode, or register it persistent=False"
        raise error(
            f"{kind} {name!r}: the {what} {key} has the shape {tuple(tensor.shape)}; its first "
            f"axis must be that of the episodes, E = {module.episodes}: {advice}"
        )


@dataclass(frozen=True)
class Workshop:
    """Builds adapters and heads as the configuration says.

    Attributes:
        config: of the training.
        tower: the frozen tower, on the device.
        classes: names of the classes that are trained on, in the order of their labels.
    """

    config: TrainConfig
    tower: Tower
    classes: tuple[str, ...]

    def encoder(self, copies: int = 1) -> AdaptedEncoder:
        """The frozen tower with an adapter of some copies, all of the same initial values."""
        cls = registry.load("adapters", self.config.adapter.name)
        seed = derive_seed("adapter", self.config.adapter.name, self.config.seed, "train")
        adapter: Adapter = cls(
            self.tower,
            options_of(self.config.adapter, cls, "adapter"),
            frames=self.config.video.frames,
            seeds=[seed] * copies,
        )
        encoder = AdaptedEncoder(self.tower, adapter.to(self.tower.device))
        encoder.checkpointing = self.config.checkpointing
        return encoder

    def head(self, choice: Choice, *, way: int, seeds: Sequence[int] = (0,)) -> Head:
        """A head of len(seeds) copies."""
        cls = registry.load("heads", choice.name)
        if cls.uses_names:
            raise ConfigError(
                f"head {choice.name!r} reads class names, which training does not offer; give one "
                "that compares clips, such as prototype"
            )
        head: Head = cls(
            options_of(choice, cls, "head"),
            width=self.tower.width,
            way=way,
            frames=self.config.video.frames,
            seeds=list(seeds),
        )
        return head.to(self.tower.device)
