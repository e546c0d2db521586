"""Where and with what a benchmark was run, and the measuring of processes, for all benchmarks."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click

from fewshot_i2v import __version__
from fewshot_i2v.utils.environment import git_commit

if TYPE_CHECKING:
    import torch

COMMIT_VARIABLE = "BENCHMARK_COMMIT"
"""Environment variable with the commit of a copy of the checkout that has no `.git`."""

# A process that a large one starts begins with the peak memory of the large one. So a small process
# stands between.
_MEASURE = """
import json, os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(json.dumps([time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss]))
sys.exit(status != 0)
"""


def about(device: torch.device | None = None, libraries: Sequence[str] = ()) -> dict[str, Any]:
    """Return time, command, commit, versions and device.

    Args:
        device: that was measured; None: the CPU.
        libraries: whose versions matter besides that of PyTorch.
    """
    import torch

    cuda = device is not None and device.type == "cuda"
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", sys.argv[0], *(Path(a).name for a in sys.argv[1:])]),
        "version": __version__,
        "commit": git_commit() or os.environ.get(COMMIT_VARIABLE),
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if cuda else platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        **{name: version(name) for name in libraries},
        **(_about_cuda(device) if device is not None and cuda else {}),
    }


def _about_cuda(device: torch.device) -> dict[str, Any]:
    """Return versions of CUDA, cuDNN and the driver, capability and memory of a GPU.

    What the machine does not say is null.
    """
    import torch

    return {
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "driver": driver_version(),
        "capability": ".".join(map(str, torch.cuda.get_device_capability(device))),
        "memory_gib": round(torch.cuda.mem_get_info(device)[1] / 2**30, 1),
    }


def driver_version() -> str | None:
    """Return the version of the driver of the first GPU; None where `nvidia-smi` does not say."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    lines = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split()
    return lines[0] if lines else None


def measured(command: Sequence[str], repeats: int = 1) -> dict[str, float]:
    """Measure a process: medians of its seconds and processor seconds, and its largest peak memory.

    Raises:
        click.ClickException: when it fails.
    """
    runs = []
    for _ in range(repeats):
        small = [sys.executable, "-S", "-c", _MEASURE, *command]
        output = subprocess.run(small, stdout=subprocess.PIPE, check=False)
        if output.returncode:
            raise click.ClickException(f"failed: {' '.join(command)}")
        runs.append(json.loads(output.stdout))
    seconds, cpu_seconds, peaks = zip(*runs, strict=True)
    return {
        "seconds": round(median(seconds), 2),
        "cpu_seconds": round(median(cpu_seconds), 2),
        "peak_mib": round(max(peaks) / (2**20 if sys.platform == "darwin" else 2**10), 1),
    }


def toolkit(*arguments: str) -> list[str]:
    """Return a command of the toolkit, run by this Python."""
    return [sys.executable, "-P", "-m", "fewshot_i2v", *arguments]


def default_device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronize(device: torch.device) -> None:
    """Wait for the device, where it runs behind the program."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def write_report(file: Path | None, report: Mapping[str, Any]) -> None:
    """Write the figures of a benchmark as JSON, where a file was named."""
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
