"""The machine of a run: device, memory, library versions, git commit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def device_name(device: torch.device) -> str:
    """Name of a GPU, or "cpu"."""
    if device.type != "cuda":
        return "cpu"
    import torch

    return torch.cuda.get_device_name(device)


def has_bfloat16_products(device: torch.device) -> bool:
    """Returns whether a device has instructions for products of bfloat16 matrices.

    Others emulate them, which takes longer than float32. The device is asked, nothing is timed.

    Args:
        device: a CUDA device (from compute capability 8.0 on), or the CPU (x86 with AMX or
            AVX512-BF16; what other processors can do, PyTorch does not say).
    """
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # without a public name in PyTorch 2.14; an unknown processor has neither
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, bool)() for name in checks)


def count_cores() -> int:
    """Count the cores of the CPU that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def peak_memory_mb(device: torch.device, episodes: int) -> float:
    """Peak memory in MiB: an episode's share on a GPU, the complete process on the CPU."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / episodes / 2**20
    if sys.platform == "win32":  # no cheap way to ask there
        return 0.0
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def reader_versions() -> dict[str, str | None]:
    """Versions of the video readers; None for one that is not installed."""
    # imported here: processes that only decode import this module, and start sooner without it
    from importlib.metadata import PackageNotFoundError, version

    versions: dict[str, str | None] = {}
    for name in ("av", "decord"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions


@cache
def git_commit() -> str | None:
    """The commit of the checkout this package runs from, "+dirty" with changes, else None."""
    folder = Path(__file__).resolve().parents[2]
    git = shutil.which("git")
    if git is None or not (folder / ".git").exists():
        return None

    def _run_git(*arguments: str) -> str | None:
        result = subprocess.run(  # noqa: S603 - fixed words
            [git, "-C", str(folder), *arguments], capture_output=True, text=True, check=False
        )
        return None if result.returncode else result.stdout.strip()

    head = _run_git("rev-parse", "HEAD")
    return head and head + ("+dirty" if _run_git("status", "--porcelain", "-uno") else "")
