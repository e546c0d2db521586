"""Work in parts: smaller ones when the memory of the device is too small."""

from __future__ import annotations

import pytest
import torch

from fewshot_i2v.models.device_memory import PartSize, free_device_memory


class _Device:
    """A computation that has memory for `capacity` items at once."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.sizes = capacity, list[int]()

    def __call__(self, part: slice) -> list[int]:
        self.sizes.append(part.stop - part.start)
        if self.sizes[-1] > self.capacity:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return list(range(part.start, part.stop))


@pytest.mark.parametrize(
    ("capacity", "sizes"),
    [(10, [10]), (5, [10, 5, 5]), (4, [10, 5, 2, 2, 2, 2, 2]), (1, [10, 5, 2, *[1] * 10])],
)
def test_parts_are_halved_until_they_fit(capacity: int, sizes: list[int]) -> None:
    device = _Device(capacity)
    parts = PartSize().run(10, device)
    assert [item for part in parts for item in part] == list(range(10))
    assert device.sizes == sizes


def test_the_size_that_fitted_is_remembered() -> None:
    size, device = PartSize(), _Device(3)
    size.run(8, device)
    device.sizes.clear()
    size.run(8, device)
    assert device.sizes == [2, 2, 2, 2]
    assert size.limit == 2


def test_a_single_item_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        PartSize().run(4, _Device(0))


def test_nothing_to_do_calls_nothing() -> None:
    device = _Device(1)
    assert PartSize().run(0, device) == []
    assert device.sizes == []


def test_the_failed_computation_is_gone_before_the_next_attempt() -> None:
    alive: list[int] = []

    class _Held:
        def __init__(self) -> None:
            alive.append(1)

        def __del__(self) -> None:
            alive.pop()

    def compute(part: slice) -> int:
        assert not alive, "the tensors of the last attempt still take memory"
        held = _Held()
        if part.stop - part.start > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        del held
        return part.start

    assert PartSize().run(4, compute) == [0, 1, 2, 3]


def test_the_limit_counts_units_and_holds_for_items_of_another_size() -> None:
    said: list[int] = []
    size, device = PartSize(on_halved=said.append), _Device(3)
    size.run(8, device, units=4)
    assert size.limit == 8
    assert said == [16, 8]
    device.sizes.clear()
    size.run(8, device, units=3)
    assert device.sizes == [2, 2, 2, 2]
    device.sizes.clear()
    size.run(2, device, units=100)
    assert device.sizes == [1, 1], "one item is always tried"


def test_a_largest_size_is_no_shortage_of_memory() -> None:
    size, device = PartSize(), _Device(10)
    size.run(7, device, at_most=3)
    assert device.sizes == [3, 3, 1]
    assert size.limit is None


def test_free_memory_is_that_of_the_device_and_what_pytorch_reserves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    amounts = {"memory_reserved": 50, "memory_allocated": 30, "mem_get_info": (100, 1000)}
    for name, amount in amounts.items():
        monkeypatch.setattr(torch.cuda, name, lambda _, amount=amount: amount)
    assert free_device_memory(torch.device("cuda", 0)) == 120
