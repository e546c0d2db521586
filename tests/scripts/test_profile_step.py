"""The profile of tuned episodes: each operation is of one kind, and the shares are of all time."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import NamedTuple

import click
import pytest
import torch
from torch._C._autograd import DeviceType

BENCHMARKS = Path(__file__).resolve().parents[2] / "scripts" / "benchmarks"


class _Runner:
    episodes = ()

    def run_group(self, episodes: tuple[()]) -> None:
        """A product that takes nearly all the time, and a sum."""
        x = torch.ones(400, 400)
        assert (x @ x).add(1)[0, 0] == 401


def test_the_time_of_operations_is_shared_out_by_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    script = runpy.run_path(str(BENCHMARKS / "profile_step.py"))
    operations = [name for names in script["KINDS"].values() for name in names]
    assert len(operations) == len(set(operations))
    assert script["kind_of"]("aten::addmm") == "matrix products"
    assert script["kind_of"]("aten::view") == "all else"
    shares = script["shares_by_kind"](_Runner(), torch.device("cpu"))["shares"]
    assert sum(shares.values()) == pytest.approx(1, abs=0.01)
    assert shares["matrix products"] > shares["element-wise"] > 0


class _Event(NamedTuple):
    key: str
    device_type: DeviceType
    self_device_time_total: float


def test_a_kernel_counts_once_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The profiler has it by its own name, and as time of the operation that started it."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    script = runpy.run_path(str(BENCHMARKS / "profile_step.py"))
    events = [
        _Event("aten::mm", DeviceType.CPU, 600_000),
        _Event("aten::gelu", DeviceType.CPU, 200_000),
        _Event("aten::view", DeviceType.CPU, 0),
        _Event("nvjet_hsh_128x256", DeviceType.CUDA, 600_000),
        _Event("vectorized_elementwise_kernel", DeviceType.CUDA, 200_000),
    ]
    figures = script["device_shares"](events, 1.0)
    assert figures["busy_share"] == 0.8
    assert figures["shares"]["matrix products"] == figures["kernels"]["nvjet_hsh_128x256"] == 0.75
    assert figures["shares"]["activation"] == 0.25
    with pytest.raises(click.ClickException, match="no kernels"):
        script["device_shares"](events[:3], 1.0)
