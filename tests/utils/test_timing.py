"""Measuring a call, and times for people."""

from __future__ import annotations

import pytest

from fewshot_i2v.utils import timing


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (99, "99 s"),
        (100, "2 min"),
        (7200, "2.0 h"),
    ],
)
def test_times_are_written_in_the_largest_unit_that_fits(seconds: float, text: str) -> None:
    assert timing.format_seconds(seconds) == text


def test_a_short_call_is_measured_twice_and_a_long_one_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for ticks, expected in (([0, 0.4, 1.0, 1.1], 0.1), ([0, 0.6], 0.6)):
        clock = iter(ticks)
        monkeypatch.setattr(timing, "perf_counter", lambda clock=clock: next(clock))
        calls: list[int] = []
        assert timing.best_seconds(lambda calls=calls: calls.append(1)) == pytest.approx(expected)
        assert len(calls) == len(ticks) // 2
    clock = iter([0, 0.4])
    monkeypatch.setattr(timing, "perf_counter", lambda: next(clock))
    assert timing.best_seconds(lambda: None, calls=1) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "just now"),
        (29, "just now"),
        (300, "5 min ago"),
        (3 * 3600, "3 h ago"),
        (47 * 3600, "47 h ago"),
        (12 * 86_400, "12 days ago"),
    ],
)
def test_how_long_ago(seconds: float, text: str) -> None:
    assert timing.format_age(seconds) == text


def test_an_age_with_its_unit() -> None:
    assert [timing.parse_age(text) for text in ("12h", "30d", " 2 w ")] == [
        43_200,
        2_592_000,
        1_209_600,
    ]
    for text in ("30", "d", "1m", "-1d", "1.5d"):
        with pytest.raises(ValueError, match="expected hours, days or weeks"):
            timing.parse_age(text)
