"""The peak memory of a process: measured anew for each row."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fewshot_i2v.utils import environment
from fewshot_i2v.utils.environment import peak_memory_mb, reset_peak_memory

CPU = torch.device("cpu")
BALLAST_MIB = 256


def use_much_memory() -> None:
    """Uses memory that goes back to the system at once."""
    np.ones(BALLAST_MIB << 17)  # of 8 bytes each


@pytest.mark.skipif(sys.platform != "linux", reason="the system cannot measure it anew")
def test_what_was_before_does_not_count_after_a_reset() -> None:
    reset_peak_memory(CPU)
    before = peak_memory_mb(CPU, 1)
    use_much_memory()
    assert peak_memory_mb(CPU, 1) > before + 0.9 * BALLAST_MIB
    reset_peak_memory(CPU)
    assert peak_memory_mb(CPU, 1) < before + 0.5 * BALLAST_MIB
    use_much_memory()
    assert peak_memory_mb(CPU, 1) > before + 0.9 * BALLAST_MIB


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"),
    reason="it is for the heap of glibc",
)
def test_what_was_freed_before_does_not_count_either() -> None:
    reset_peak_memory(CPU)
    before = peak_memory_mb(CPU, 1)
    blocks = [np.ones(1 << 13) for _ in range(BALLAST_MIB << 4)]  # of 64 KiB: not mapped
    last = blocks[-1]  # the heap cannot shrink below it
    del blocks
    reset_peak_memory(CPU)
    assert peak_memory_mb(CPU, 1) < before + 0.5 * BALLAST_MIB
    assert last.all()


@pytest.mark.skipif(sys.platform == "win32", reason="memory is not measured there")
def test_it_is_that_of_the_process_where_the_system_cannot_reset_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(environment, "_PROCESS", tmp_path / "not-there")
    use_much_memory()
    peak = peak_memory_mb(CPU, 1)
    assert peak > BALLAST_MIB
    reset_peak_memory(CPU)
    assert peak_memory_mb(CPU, 1) == peak


def test_batches_and_rows_of_a_gpu_are_reset_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    reset: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset.append)
    gpu = torch.device("cuda", 0)
    reset_peak_memory(gpu)
    assert reset == [gpu]
