"""The bank of clip prefixes: computed once, bounded, never mixed up."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor

from fewshot_i2v.models.feature_cache import FeatureCache


def _bank(budget_clips: int) -> tuple[FeatureCache, Counter[str]]:
    asked: Counter[str] = Counter()

    def encode(name: str) -> Tensor:
        asked[name] += 1
        return torch.full((2, 1, 1), float(name))

    return FeatureCache(encode, max_bytes=budget_clips * 2 * 4), asked


def test_each_clip_is_encoded_once_and_comes_back_in_order() -> None:
    bank, asked = _bank(100)
    for rows in ([["1", "2"], ["3", "1"]], [["2", "4"], ["4", "5"]]):
        got = bank.gather(rows)
        assert got.shape == (2, 2, 2, 1, 1)
        assert got[:, :, 0, 0, 0].tolist() == [[float(n) for n in row] for row in rows]
    assert asked == Counter({str(n): 1 for n in range(1, 6)})
    assert bank.clips_encoded == 5


def test_the_least_recently_used_go_first() -> None:
    bank, asked = _bank(3)
    bank.gather([["1", "2", "3"]])
    bank.gather([["1"]])
    bank.gather([["4"]])  # 2 is the oldest
    bank.gather([["1", "3", "4"]])
    assert max(asked.values()) == 1
    bank.gather([["2"]])
    assert asked["2"] == 2


@pytest.mark.parametrize("budget", [1, 2, 5])
def test_a_call_larger_than_the_budget_is_still_right(budget: int) -> None:
    bank, _ = _bank(budget)
    generator = torch.Generator().manual_seed(budget)
    for _ in range(20):
        rows = torch.randint(0, 9, (2, 4), generator=generator)
        got = bank.gather([[str(n) for n in row] for row in rows.tolist()])
        assert torch.equal(got[:, :, 1, 0, 0], rows.float())


def test_nothing_asked_for_is_an_error() -> None:
    bank, _ = _bank(1)
    with pytest.raises(ValueError, match="at least one clip"):
        bank.gather([])


def test_memory_that_ends_is_the_limit_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, asked = _bank(100)
    grow = FeatureCache._grow_storage

    def grow_storage(self: FeatureCache, count: int, like: Tensor) -> None:
        held = 0 if self._storage is None else len(self._storage)
        if held + count > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        grow(self, count, like)

    monkeypatch.setattr(FeatureCache, "_grow_storage", grow_storage)
    for name in "1234567":
        assert bank.gather([[name]])[0, 0, 0].item() == float(name)
    bank.gather([["4", "5", "6", "7"]])
    assert max(asked.values()) == 1
    with pytest.raises(torch.OutOfMemoryError):
        bank.gather([["1", "2", "3", "4", "5"]])
