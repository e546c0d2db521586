"""Notes for the user about rows whose precision the device emulates."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fewshot_i2v.models.adapters.base.frozen_prefix import prefix_tower
from fewshot_i2v.tuning.emulation import emulation_note

if TYPE_CHECKING:
    from fewshot_i2v.evaluation.row_runner import RowRunner


def precision_notes(runners: Iterable[RowRunner]) -> list[str]:
    """Returns the notes of rows about a precision that the device emulates, each once."""
    notes = (
        emulation_note(prefix_tower(runner.context.encoder.tower, runner.sizes.prefix_spec))
        for runner in runners
    )
    return list(dict.fromkeys(filter(None, notes)))
