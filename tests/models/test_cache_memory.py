"""How much memory feature caches may take."""

from __future__ import annotations

import pytest
import torch

from fewshot_i2v.models import cache_memory
from fewshot_i2v.models.cache_memory import CacheBytes, cache_limits

GIB = 1 << 30
NOTHING = CacheBytes(0, 0)


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_memory, "available_host_memory", lambda: 100 * GIB)


def test_a_gpu_gives_three_fifths_of_what_is_free_and_the_host_half(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (120 * GIB, 139 * GIB))
    # what PyTorch reserves for tensors to come is free, too
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 15 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 5 * GIB)
    device = torch.device("cuda", 0)
    assert cache_limits(device, NOTHING) == CacheBytes(78 * GIB, 50 * GIB)
    clip_bytes = 12 * 8 * 197 * 768 * 2  # M-adapter on ViT-B/16
    assert 2400 * clip_bytes <= 78 * GIB, "all clips fit on the device"
    assert cache_limits(device, CacheBytes(10 * GIB, 20 * GIB)) == CacheBytes(84 * GIB, 60 * GIB)


@pytest.mark.parametrize(("available", "limit"), [(100, 50), (1, 2), (None, 2)])
def test_a_cpu_gives_half_of_what_is_available_and_at_least_2_gib(
    available: int | None, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    amount = None if available is None else available * GIB
    monkeypatch.setattr(cache_memory, "available_host_memory", lambda: amount)
    assert cache_limits(torch.device("cpu"), NOTHING) == CacheBytes(limit * GIB, 0)
