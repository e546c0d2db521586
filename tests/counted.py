"""The counter of kernels and bytes of `scripts/benchmarks/count_step.py`, for tests."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

SCRIPT: dict[str, Any] = runpy.run_path(
    str(Path(__file__).resolve().parents[1] / "scripts" / "benchmarks" / "count_step.py")
)
counting = SCRIPT["counting"]
