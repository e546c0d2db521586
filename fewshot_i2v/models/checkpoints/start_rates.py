"""Learned rates of a starting point: one for each value of adapter and head, from Meta-SGD.

They are rates of plain gradient descent, and lie beside the tensors that they belong to, under the
same names behind `rates.`; `about["start"]["rates"]` says their digest: `RatesFacts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from fewshot_i2v.errors import CheckpointError
from fewshot_i2v.models.encoders.weights import tensor_digest

RATES_PREFIX = "rates."
"""Before the names of the tensors of rates."""


class RatesFacts(BaseModel):
    """What a starting point records about its rates.

    Attributes:
        digest: sha256 of the tensors in float32.
    """

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    digest: str


def rates_facts(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Returns the facts of named rates, in plain values, as `RatesFacts` reads them."""
    return {"digest": tensor_digest(tensors)}


@dataclass(frozen=True, eq=False)
class StartRates:
    """The learned rates of a starting point.

    Attributes:
        folder: of the starting point.
        tensors: by name, float32 on the CPU, each with a leading axis of 1.
        digest: sha256 of the tensors.
    """

    folder: Path
    tensors: dict[str, Tensor]
    digest: str

    @classmethod
    def read(cls, folder: Path, facts: RatesFacts, tensors: Mapping[str, Tensor]) -> StartRates:
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
                    f"{tuple(parameter.shape)}, and its learned rates have the shape {shape}; give "
                    "tuning.optimizer adamw, or the start of a training with this method"
                )
            rates.append(rate.to(parameter.device))
        return rates
