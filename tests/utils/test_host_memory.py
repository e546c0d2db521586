"""Memory of the host: what the machine has available, and what control groups leave."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewshot_i2v.utils import host_memory
from fewshot_i2v.utils.host_memory import available_host_memory

MIB = 1 << 20


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 8 GiB available, and a process in the group /job/step without limits."""
    (tmp_path / "meminfo").write_text("MemTotal: 16777216 kB\nMemAvailable:    8388608 kB\n")
    (tmp_path / "cgroup").write_text("0::/job/step\n")
    (tmp_path / "groups" / "job" / "step").mkdir(parents=True)
    monkeypatch.setattr(host_memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(host_memory, "_OWN_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(host_memory, "_CGROUPS", tmp_path / "groups")
    return tmp_path


def _limit(folder: Path, limit: str, used: int, files: int) -> None:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {files}\nactive_file 7\n")


def test_a_machine_without_groups_says_what_is_available(host: Path) -> None:
    assert available_host_memory() == 8192 * MIB
    (host / "cgroup").unlink()
    assert available_host_memory() == 8192 * MIB


def test_the_tightest_group_counts_and_file_pages_are_free(host: Path) -> None:
    groups = host / "groups"
    _limit(groups / "job" / "step", "max", 900 * MIB, 0)
    assert available_host_memory() == 8192 * MIB
    _limit(groups / "job", str(1024 * MIB), 1000 * MIB, 76 * MIB)
    assert available_host_memory() == 100 * MIB
    _limit(groups, str(64 * MIB), 0, 0)
    assert available_host_memory() == 64 * MIB


def test_a_group_that_is_full_leaves_almost_nothing(host: Path) -> None:
    _limit(host / "groups" / "job", str(MIB), 2 * MIB, 0)
    assert available_host_memory() == 1


def test_a_system_that_does_not_say_has_none(host: Path) -> None:
    (host / "meminfo").unlink()
    assert available_host_memory() is None
