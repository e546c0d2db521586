"""The machine of a run: device, memory, library versions, git commit."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_PROCESS = Path("/proc/self")
_RESET_PEAK = b"5"
"""What Linux is told to set the peak memory of a process to its present memory (proc(5))."""


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
    """Measures the peak memory since `reset_peak_memory`, in MiB.

    On a GPU that is an episode's share of the tensors. On the CPU it is the memory of the complete
    process: all its threads, what earlier work left in it, and episodes side by side together.
    Where the system cannot reset it (all but Linux, and a Linux where `/proc/self/clear_refs`
    cannot be written) it is the peak since the process began. On Windows it is 0.
    """
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / episodes / 2**20
    if sys.platform == "win32":  # no cheap way to ask there
        return 0.0
    if sys.platform == "linux":
        # ru_maxrss would be that of the process that started this one, where that is larger
        with suppress(OSError):
            mark = re.search(rb"^VmHWM:\s+(\d+) kB$", (_PROCESS / "status").read_bytes(), re.M)
            if mark is not None:
                return int(mark[1]) / 2**10
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def reset_peak_memory(device: torch.device) -> None:
    """Measures the peak memory anew from here on, where the system can.

    On Linux memory that was freed goes back to the system before.

    The mark is that of the system, so `time -v` and other programs that read it when the process
    ends see the peak since the last reset.
    """
    if device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        _release_freed_memory()
        with suppress(OSError):  # `peak_memory_mb` says what it measures then
            (_PROCESS / "clear_refs").write_bytes(_RESET_PEAK)


def _release_freed_memory() -> None:
    """Gives freed memory back to the system, where the C library is glibc.

    Its heap keeps most of what was freed, and that would count for whoever comes next.
    """
    import ctypes

    release = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if release is not None:
        release(0)


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


@contextmanager
def use_threads(count: int | None) -> Iterator[None]:
    """Sets torch's number of threads, on which the rounding of sums depends; None: as it is."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
