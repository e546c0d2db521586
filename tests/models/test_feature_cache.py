"""The cache of clip prefixes: computed once, bounded, never mixed up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from fewshot_i2v.models.cache_memory import CacheMemory
from fewshot_i2v.models.clip_blocks import ClipBlocks
from fewshot_i2v.models.feature_cache import FeatureCache
from tests.pretended_cuda import CUDA, DeviceTensor, Log, pretended_cuda

CLIP_BYTES = 2 * 4


def _encoder(asked: Counter[str], device: str = "cpu") -> Callable[[str], Tensor]:
    def encode(name: str) -> Tensor:
        asked[name] += 1
        return torch.full((2, 1, 1), float(name), device=device)

    return encode


def _cache(
    device_clips: int, host_clips: int = 0, *, device: str = "cpu"
) -> tuple[FeatureCache, Counter[str]]:
    asked: Counter[str] = Counter()
    memory = CacheMemory.of_size(device_clips * CLIP_BYTES, host_clips * CLIP_BYTES)
    return FeatureCache(_encoder(asked, device), memory), asked


def _rows(n_clips: int, count: int, seed: int) -> list[list[str]]:
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(0, n_clips, (count, 6), generator=generator)
    return [[str(n) for n in row] for row in numbers.tolist()]


def test_each_clip_is_encoded_once_and_comes_back_in_order() -> None:
    cache, asked = _cache(100)
    for rows in ([["1", "2"], ["3", "1"]], [["2", "4"], ["4", "5"]]):
        gathered = cache.gather(rows)
        assert gathered.shape == (2, 2, 2, 1, 1)
        assert gathered[:, :, 0, 0, 0].tolist() == [[float(n) for n in row] for row in rows]
    assert asked == Counter({str(n): 1 for n in range(1, 6)})
    assert cache.clips_encoded == 5
    assert cache.note is None


def test_the_least_recently_used_go_first() -> None:
    cache, asked = _cache(3)
    cache.gather([["1", "2", "3"]])
    cache.gather([["1"]])
    cache.gather([["4"]])  # 2 is the oldest
    cache.gather([["1", "3", "4"]])
    assert max(asked.values()) == 1
    cache.gather([["2"]])
    assert asked["2"] == 2
    assert cache.n_evicted == 2
    assert cache.note is not None
    assert "memory has room for 3 clips on the device; 2 times a clip was dropped" in cache.note


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("host_size", [0, 2])
def test_a_call_larger_than_the_memory_is_still_right(size: int, host_size: int) -> None:
    cache, _ = _cache(size, host_size)
    for row in _rows(9, 20, size):
        gathered = cache.gather([row[:3], row[3:]])
        expected = torch.tensor([float(n) for n in row]).view(2, 3)
        assert torch.equal(gathered[:, :, 1, 0, 0], expected)


def test_no_clip_is_an_error() -> None:
    cache, _ = _cache(1)
    with pytest.raises(ValueError, match="at least one clip"):
        cache.gather([])


@pytest.mark.parametrize(("device", "n", "room"), [("cpu", 2400, 1284), ("cuda", 240, 128)])
def test_what_does_not_fit_on_the_device_is_in_host_memory_and_encoded_once(
    device: str, n: int, room: int
) -> None:
    """2,400 clips of M-adapter, of which a device has room for 1,284."""
    unlimited, _ = _cache(10 * n)
    rows = [[str(i) for i in range(n)], *_rows(n, 50, 0)]
    expected = [unlimited.gather([row]) for row in rows]
    with pretended_cuda() if device == "cuda" else nullcontext(Log()) as log:
        cache, asked = _cache(room, n, device=device)
        for row, values in zip(rows, expected, strict=True):
            gathered = cache.gather([row])
            assert (gathered.device == CUDA) == (device == "cuda")
            plain = gathered.values if isinstance(gathered, DeviceTensor) else gathered
            assert torch.equal(plain, values)
    assert not log.faults
    assert asked == Counter(rows[0])
    assert cache.n_on_host == n - room
    assert cache.held.device == room * CLIP_BYTES
    assert (n - room) * CLIP_BYTES <= cache.held.host <= n * CLIP_BYTES
    assert cache.note is not None
    assert f"{room:,} clips on the device and {n - room:,} in host memory" in cache.note


def test_memory_beyond_both_tiers_is_said_and_results_are_equal() -> None:
    cache, asked = _cache(4, 4)
    for row in _rows(12, 50, 1):
        gathered = cache.gather([row])[0, :, 0, 0, 0]
        assert gathered.tolist() == [float(n) for n in row]
    assert cache.n_evicted == sum(asked.values()) - 8 > 0
    assert cache.note is not None
    assert "to be computed again" in cache.note


def test_a_small_cache_is_one_block_and_a_large_one_is_never_copied() -> None:
    cache, _ = _cache(1000)
    cache.gather([[str(n) for n in range(125)]])
    assert [len(block) for block in cache._on_device.blocks] == [125]
    cache.gather([[str(n) for n in range(1000)]])
    sizes = [len(block) for block in cache._on_device.blocks]
    assert sum(sizes) == 1000
    assert max(sizes) == 125
    # views of blocks, not of a copy of all
    storages = [block.data_ptr() for block in cache._on_device.blocks]
    cache.gather([["5"]])
    assert [block.data_ptr() for block in cache._on_device.blocks] == storages


def _limit_device(patch: pytest.MonkeyPatch, capacity: int) -> list[int]:
    """Lets all blocks of a device have at most so many clips; returns the failed attempts."""
    real, failed = ClipBlocks._allocate, list[int]()

    def allocate(blocks: ClipBlocks, count: int, like: Tensor) -> Tensor | None:
        if not blocks.on_host and sum(map(len, blocks.blocks)) + count > capacity:
            failed.append(count)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(blocks, count, like)

    def survived(blocks: ClipBlocks, count: int, like: Tensor) -> Tensor | None:
        try:
            return allocate(blocks, count, like)
        except torch.OutOfMemoryError:
            return None

    patch.setattr(ClipBlocks, "_allocate", survived)
    return failed


def test_memory_that_ends_is_the_limit_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = _limit_device(monkeypatch, 4)
    cache, asked = _cache(100)
    for name in "1234567":
        assert cache.gather([[name]])[0, 0, 0].item() == float(name)
    cache.gather([["4", "5", "6", "7"]])
    assert max(asked.values()) == 1
    attempts = len(failed)
    cache.gather([["1", "2"]])
    assert len(failed) == attempts, "a full device was asked again"
    # what is read together has to fit somewhere
    assert cache.gather([["1", "2", "3", "4", "5"]]).shape == (1, 5, 2, 1, 1)
    assert cache.n_on_host == 1


def test_a_device_that_is_full_earlier_than_thought_goes_on_in_host_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _limit_device(monkeypatch, 4)
    cache, asked = _cache(100, 100)
    for row in _rows(20, 40, 2):
        assert cache.gather([row])[0, :, 0, 0, 0].tolist() == [float(n) for n in row]
    assert max(asked.values()) == 1
    assert cache.n_on_host == len(asked) - 4


def test_no_memory_anywhere_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClipBlocks, "_allocate", lambda *_: None)
    cache, _ = _cache(100, 100)
    with pytest.raises(torch.OutOfMemoryError, match="no memory for 8 B more"):
        cache.gather([["1"]])


def test_an_error_of_the_device_that_is_not_about_memory_is_raised() -> None:
    class _Broken(torch.Tensor):
        def new_empty(self, *_: object, **__: object) -> Tensor:  # type: ignore[override]
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal memory access"):
        ClipBlocks(on_host=False).grow(torch.zeros(2).as_subclass(_Broken), room=8, block_bytes=8)


def _two_caches(device_clips: int, host_clips: int) -> tuple[FeatureCache, FeatureCache]:
    memory = CacheMemory.of_size(device_clips * CLIP_BYTES, host_clips * CLIP_BYTES)
    first, second = (FeatureCache(_encoder(Counter()), memory) for _ in range(2))
    return first, second


def _n_on_device(cache: FeatureCache) -> int:
    return len(cache._slots) - cache.n_on_host


def test_one_cache_may_have_what_another_does_not_need() -> None:
    first, second = _two_caches(80, 100)
    second.gather([[str(n) for n in range(10)]])
    first.gather([[str(n) for n in range(60)]])
    assert (first.n_on_host, second.n_on_host) == (0, 0)


def test_two_caches_that_need_more_than_there_is_have_equal_parts() -> None:
    first, second = _two_caches(80, 200)
    names = [str(n) for n in range(80)]
    expected = first.gather([names])
    assert _n_on_device(first) == 80
    assert torch.equal(second.gather([names]), expected)
    assert 30 <= _n_on_device(first) <= 40
    assert 40 <= _n_on_device(second) <= 50
    assert first.held.device + second.held.device <= 80 * CLIP_BYTES
    # what went to the host was not encoded again, and is the same
    assert torch.equal(first.gather([names]), expected)
    assert first.clips_encoded == 80
    assert first.n_evicted == 0


def test_a_cache_that_is_gone_gives_its_memory_back() -> None:
    first, second = _two_caches(80, 0)
    names = [str(n) for n in range(80)]
    first.gather([names])
    del first
    second.gather([names])
    assert second.n_evicted == second.n_on_host == 0


@pytest.mark.parametrize("host_clips", [0, 100])
def test_leaving_the_device_changes_no_result(host_clips: int) -> None:
    cache, asked = _cache(100, host_clips)
    names = [str(n) for n in range(20)]
    expected = cache.gather([names])
    assert cache.leave_device()
    assert cache.held.device == 0
    assert torch.equal(cache.gather([names]), expected)
    assert max(asked.values()) == (1 if host_clips else 2)
    if host_clips:
        assert not cache.leave_device()
