"""Sizes of files, for people."""

from __future__ import annotations

import pytest

from fewshot_i2v.utils.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (9_950, "10 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (1_234_567_890, "1.2 GB"),
        (20 * 10**12, "20 TB"),
        (10**18, "1000 PB"),
    ],
)
def test_the_largest_unit_that_fits(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [("20GB", 20 * 10**9), ("1.5 tb", 15 * 10**11), ("16GiB", 16 << 30), (" 500 MB ", 5 * 10**8)],
)
def test_a_size_with_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["20", "GB", "-1GB", "20 G B", "20GBit", "1e3MB", ""])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a size with a unit, such as 20GB"):
        parse_size(text)
