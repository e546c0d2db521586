"""Many numbers are rounded as `round` rounds one."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot_i2v.utils import rounding
from fewshot_i2v.utils.rounding import round_rows


def _bits(rows: list[list[float]]) -> list[list[bytes]]:
    return [[struct.pack("<d", value) for value in row] for row in rows]


def _one_by_one(rows: list[list[float]], decimals: int) -> list[list[float]]:
    return [[round(float(value), decimals) for value in row] for row in rows]


@given(st.lists(st.lists(st.floats(allow_nan=False), max_size=4)), st.integers(0, 15))
def test_any_numbers(rows: list[list[float]], decimals: int) -> None:
    assert _bits(round_rows(rows, decimals)) == _bits(_one_by_one(rows, decimals))


def test_probabilities_and_numbers_about_a_half() -> None:
    generator = np.random.default_rng(0)
    likely = generator.random((500, 5), dtype=np.float32).astype(float)
    halves = (generator.integers(0, 10**6, (2000, 1)) + 0.5) / 10**6
    about = np.concatenate([halves, np.nextafter(halves, 0), np.nextafter(halves, 1)], 1)
    for rows in (likely.tolist(), about.tolist(), [[0.0, -0.0, 1.0, 1e-9]]):
        assert _bits(round_rows(rows, 6)) == _bits(_one_by_one(rows, 6))


def test_no_number_and_no_row() -> None:
    assert round_rows([], 6) == []
    assert round_rows([[], [1]], 6) == [[], [1.0]]
    assert math.isnan(round_rows([[math.nan]], 6)[0][0])


def test_few_numbers_are_rounded_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rounded = []

    def _round(value: float, decimals: int) -> float:
        rounded.append(value)
        return math.floor(value * 10**decimals + 0.5) / 10**decimals

    monkeypatch.setattr(rounding, "round", _round, raising=False)
    round_rows(np.random.default_rng(0).random((1000, 5)).tolist(), 6)
    assert 0 < len(rounded) < 50
