"""Memory of the host that is free for this process, as the system says."""

from __future__ import annotations

from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


def available_host_memory() -> int | None:
    """Returns the bytes that this process may still take; None where the system does not say.

    On Linux the smaller one of what the machine has available, and of what the control groups
    (version 2) of the process leave: a container or a batch job may have less than the machine.
    """
    amounts = [amount for amount in (_available_of_machine(), _available_of_groups()) if amount]
    return min(amounts, default=None)


def _available_of_machine() -> int | None:
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return None
    amounts = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(amounts[0]) * 1024 if amounts else None


def _available_of_groups() -> int | None:
    """Returns what the control groups of the process leave; None where they set no limit."""
    try:
        lines = _OWN_CGROUP.read_text().splitlines()
    except OSError:
        return None
    paths = [line.removeprefix("0::/") for line in lines if line.startswith("0::/")]
    folder = _CGROUPS / paths[0] if paths else _CGROUPS
    left = [
        amount
        for group in (folder, *folder.parents)
        if group.is_relative_to(_CGROUPS) and (amount := _available_of_group(group)) is not None
    ]
    return min(left, default=None)


def _available_of_group(folder: Path) -> int | None:
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
        statistics = (folder / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):
        return None
    if limit == "max":
        return None
    # pages of files that nobody reads are given back when somebody needs the memory
    files = sum(int(line.split()[1]) for line in statistics if line.startswith("inactive_file "))
    return max(1, int(limit) - used + files)
