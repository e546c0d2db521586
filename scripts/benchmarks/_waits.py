"""Waits of the host for a CUDA device in a step of fine-tuning, counted on a pretended one."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

from smoke import AUGMENTED, ORDERED, Evaluation, write_material

from fewshot_i2v.tuning.optimizers import AdamW

CASES: dict[str, dict[str, Any]] = {
    "linear": {"head": "linear"},
    "grid readout": {"head": f"{ORDERED},tokens=grid2"},
    "augmented": {"head": ORDERED, "tuning": AUGMENTED},
    "mini-batches": {"head": "linear", "shot": 2, "tuning": {"batch": 2}},
}
"""What is tuned: with a head that reads the class token, a grid; with changed or few clips."""


def waits_of_a_step(adapter: str) -> dict[str, int]:
    """Count the waits of the second step of two on a tiny encoder, for each of `CASES`.

    The pretended device of the tests has the values of the CPU.
    """
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from tests.pretended_cuda import pretended_cuda

    real, waits = AdamW.step, {}
    for name, changes in CASES.items():
        after: list[Counter[str]] = []

        def _step(optimizer: AdamW, after: list[Counter[str]] = after) -> None:
            real(optimizer)
            after.append(log.waits.copy())

        with (
            TemporaryDirectory() as work,
            pretended_cuda() as log,
            mock.patch.object(AdamW, "step", _step),
        ):
            write_material(Path(work))
            Evaluation({"adapter": adapter, **changes})(Path(work), "cuda", "fp32")
        first, second = after
        waits[name] = (second - first).total()
    return waits
