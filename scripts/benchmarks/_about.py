"""Where and with what a benchmark was run, for its record."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from fewshot_i2v import __version__
from fewshot_i2v.utils.environment import git_commit


def about(device: torch.device) -> dict[str, Any]:
    """Return time, command, commit, versions and device."""
    cuda = device.type == "cuda"
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", sys.argv[0], *(Path(a).name for a in sys.argv[1:])]),
        "version": __version__,
        "commit": git_commit(),
        "device": torch.cuda.get_device_name(device) if cuda else platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def default_device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronize(device: torch.device) -> None:
    """Wait for the device, where it runs behind the program."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def write_report(file: Path | None, report: Mapping[str, Any]) -> None:
    """Write the figures of a benchmark as JSON, where a file was named."""
    if file is not None:
        file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
