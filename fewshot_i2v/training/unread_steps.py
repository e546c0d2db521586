"""Losses and gradient norms of training steps that are not read from the device yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from time import perf_counter

import torch
from torch import Tensor

from fewshot_i2v.training.objective import MicroBatchLoss, NotFiniteError

READ_SECONDS = 10.0
"""How often losses are read from a device between validations and saved states.

Each reading lets it run out of work. The loss in the progress bar is up to this old, and broken
numbers are noticed up to this late.
"""


@dataclass(frozen=True)
class _Numbers:
    """Numbers of a step in the order in which they are judged, (n,), with a name for each."""

    values: Tensor
    names: Sequence[str]
    loss_index: int


class UnreadSteps:
    """Numbers of the last steps; a reading waits for the device once, however many they are."""

    def __init__(self) -> None:
        self._steps: list[_Numbers] = []
        self._first_added = 0.0

    @property
    def is_due(self) -> bool:
        """Whether to read them now: always on the CPU, on a device after `READ_SECONDS`."""
        if not self._steps:
            return False
        is_here = self._steps[0].values.device.type == "cpu"
        return is_here or perf_counter() - self._first_added >= READ_SECONDS

    def add(self, step: int, losses: Sequence[MicroBatchLoss], norm: Tensor | None = None) -> None:
        """Adds the numbers of a step.

        Args:
            step: its number, 0 first.
            losses: of its micro-batches.
            norm: of its gradient, a scalar; None: it is not judged.
        """
        if not self._steps:
            self._first_added = perf_counter()
        loss_name = f"loss of step {step + 1} is not finite"
        values, names = [], []
        for micro_batch in losses:
            # zero, or NaN where a value is not finite
            values += [(0 * inner).sum() for inner in micro_batch.inner]
            names += [f"{loss_name} at the {place}" for place in micro_batch.places]
        loss_index = len(values)
        values.append(torch.stack([micro_batch.value for micro_batch in losses]).sum())
        names.append(loss_name)
        if norm is not None:
            values.append(norm)
            names.append(f"gradient of step {step + 1} is not finite")
        self._steps.append(_Numbers(torch.stack(values), names, loss_index))

    def read(self) -> list[float]:
        """Reads the steps since the last reading; returns the loss of each.

        Raises:
            NotFiniteError: naming the first step with a number that is not finite, and which.
        """
        steps, self._steps = self._steps, []
        if not steps:
            return []
        values = torch.cat([step.values for step in steps]).tolist()
        losses, start = [], 0
        for step in steps:
            end = start + len(step.names)
            for value, name in zip(values[start:end], step.names, strict=True):
                if not isfinite(value):
                    raise NotFiniteError(f"the {name}")
            losses.append(values[start + step.loss_index])
            start = end
        return losses
