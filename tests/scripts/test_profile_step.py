"""The profile of tuned episodes: each operation is of one kind, and the shares are of all time."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

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
    shares = script["shares_by_kind"](_Runner())
    assert sum(shares.values()) == pytest.approx(1, abs=0.01)
    assert shares["matrix products"] > shares["element-wise"] > 0
