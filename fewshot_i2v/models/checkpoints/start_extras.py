"""What a starting point holds beside its adapter: a head, and rates.

A head was trained beside the adapter, and every episode's head begins there. Its method is `head`
in `adapter.json`. A head of a folder whose `about["start"]` does not say its digest and shapes was
saved for another purpose, and heads start anew.

Rates are those of plain gradient descent in the inner loop of a meta-training, one for each value
of adapter and head: Meta-SGD learns them, others have one for all. They lie beside the tensors that
they belong to, under the same names behind `rates.`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from fewshot_i2v.errors import CheckpointError
from fewshot_i2v.models.checkpoints.files import episode_tensors, load_tensors
from fewshot_i2v.models.checkpoints.metadata import CheckpointMetadata, HeadMetadata
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.models.encoders.weights import tensor_digest
from fewshot_i2v.models.factory import NamedOptions, depends_on_way, resolve_options
from fewshot_i2v.models.heads.base.head import Head

HEAD_PREFIX, RATES_PREFIX = "head.", "rates."
"""Before the names of the tensors of a head, and of rates."""


class ExtraFacts(BaseModel):
    """What a starting point records about its head, and about its rates.

    Attributes:
        digest: sha256 of the tensors in float32.
    """

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    digest: str


class HeadFacts(ExtraFacts):
    """What a starting point records about the values of its head.

    Attributes:
        shapes: of its tensors by name, each with a leading axis of 1.
    """

    shapes: dict[str, list[int]]


def head_facts(head: Head) -> dict[str, Any]:
    """Returns the facts of a head of one copy, in plain values, as `HeadFacts` reads them."""
    tensors = episode_tensors("head", head, 0)
    return {"digest": tensor_digest(tensors), "shapes": _shapes(tensors)}


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in tensors.items()}


@dataclass(frozen=True, eq=False)
class StartHead:
    """The head of a starting point.

    Attributes:
        folder: of the starting point.
        metadata: its `adapter.json`.
        method: name and options of the head, and the number of classes that it was trained with.
        tensors: float32 on the CPU, each with a leading axis of 1.
        digest: sha256 of the tensors.
    """

    folder: Path
    metadata: CheckpointMetadata
    method: HeadMetadata
    tensors: dict[str, Tensor]
    digest: str

    @classmethod
    def read(
        cls,
        folder: Path,
        metadata: CheckpointMetadata,
        facts: HeadFacts,
        tensors: Mapping[str, Tensor],
    ) -> StartHead:
        """Takes the head out of what was read of a starting point.

        Args:
            folder: of the starting point.
            metadata: its `adapter.json`.
            facts: what it says about its head.
            tensors: of the file, all of them.

        Raises:
            CheckpointError: when the head is not what the facts say.
        """
        head_tensors = {n: t for n, t in tensors.items() if n.startswith(HEAD_PREFIX)}
        if metadata.head is None or facts.shapes != _shapes(head_tensors):
            raise CheckpointError(
                f"{folder}: damaged: about.start.head tells of a head with "
                f"{', '.join(facts.shapes) or 'no tensors'}, and the file has "
                f"{', '.join(head_tensors) or 'none'}; train it again"
            )
        digest = tensor_digest(head_tensors)
        if digest != facts.digest:
            raise CheckpointError(
                f"{folder}: damaged: the head has the sha256 {digest}, and about.start.head says "
                f"{facts.digest}; train it again"
            )
        return cls(folder, metadata, metadata.head, head_tensors, digest)

    def differs_from(self, head: NamedOptions) -> str:
        """Describes how a head differs from this one in name or options; empty if it does not.

        Raises:
            UsageError: for options that one of them does not have.
        """
        if head.name != self.method.name:
            return f"it is {head.name}, and the start holds {self.method.name}"
        run_options, start_options = (
            resolve_options("heads", method, folder).model_dump(mode="json")
            for method, folder in ((head, None), (self.method, self.folder))
        )
        differing = [key for key in run_options if run_options[key] != start_options.get(key)]
        if not differing:
            return ""
        run_values, start_values = (
            ", ".join(f"{key}={options.get(key)!r}" for key in differing)
            for options in (run_options, start_options)
        )
        return f"the run has {run_values}, and the head of the start {start_values}"

    def why_fresh(self, head: NamedOptions, tower: Tower, *, frames: int, way: int | str) -> str:
        """Says why a head does not begin as this one; empty where it does.

        It does where name and options are the same. Where its parameters depend on the number of
        classes, such as those of linear, there must be as many as in the training.

        Args:
            head: its name and options.
            tower: whose features it reads.
            frames: frames T of a clip.
            way: its classes, a number or a range.

        Raises:
            UsageError: for a head or options that do not exist.
        """
        reason = self.differs_from(head)
        same_way = way == self.method.way
        if not reason and not same_way and depends_on_way(head, tower, frames=frames):
            return f"it was trained for {self.method.way} classes, and the episodes have {way}"
        return reason

    def load_into(self, head: Head) -> None:
        """Loads the values into every copy of a head of the same name and options.

        Args:
            head: of E copies; changed.

        Raises:
            CheckpointError: when its parameters have other shapes, as for another number of frames.
        """
        copies = {
            name: tensor.expand(head.episodes, *tensor.shape[1:])
            for name, tensor in self.tensors.items()
        }
        load_tensors(self.folder, self.metadata, {"head": head}, copies, head.frames)


def rates_facts(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Returns the facts of named rates, in plain values, as `ExtraFacts` reads them."""
    return {"digest": tensor_digest(tensors)}


@dataclass(frozen=True, eq=False)
class StartRates:
    """The rates of a starting point.

    Attributes:
        folder: of the starting point.
        tensors: by name, float32 on the CPU, each with a leading axis of 1.
        digest: sha256 of the tensors.
    """

    folder: Path
    tensors: dict[str, Tensor]
    digest: str

    @classmethod
    def read(cls, folder: Path, facts: ExtraFacts, tensors: Mapping[str, Tensor]) -> StartRates:
        """Takes the rates out of what was read of a starting point.

        Raises:
            CheckpointError: when they are not what the facts say.
        """
        rates = {name: t for name, t in tensors.items() if name.startswith(RATES_PREFIX)}
        digest = tensor_digest(rates)
        if digest != facts.digest:
            raise CheckpointError(
                f"{folder}: damaged: its rates have the sha256 {digest}, and about.start.rates "
                f"says {facts.digest}; train it again"
            )
        return cls(folder, rates, digest)

    def of(self, kind: str, module: nn.Module) -> list[Tensor]:
        """Returns the rates of the parameters of a module, in their order, on their device.

        Args:
            kind: "adapter" or "head".
            module: of any number of copies.

        Raises:
            CheckpointError: when a parameter has no rates of its shape.
        """
        rates = []
        for name, parameter in module.named_parameters():
            rate = self.tensors.get(f"{RATES_PREFIX}{kind}.{name}")
            if rate is None or rate.shape != (1, *parameter.shape[1:]):
                shape = None if rate is None else tuple(rate.shape)
                raise CheckpointError(
                    f"{self.folder}: the {kind} has a parameter {name} of "
                    f"{tuple(parameter.shape)}, and its rates have the shape {shape}; give "
                    "tuning.optimizer adamw, or the start of a training with this method"
                )
            rates.append(rate.to(parameter.device))
        return rates
