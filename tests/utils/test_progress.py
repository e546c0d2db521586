"""What is shown of how far things are: a bar on a terminal, lines in a log."""

from __future__ import annotations

import io
import sys
from math import isnan

import pytest
from tqdm import std, tqdm

from fewshot_i2v.utils import progress as progress_module
from fewshot_i2v.utils.progress import OverallProgress, Task, overall_progress, show_note, stage

ROWS = [
    Task("frozen 1-shot", "frozen", 10.0),
    Task("aim 1-shot", "aim", 40.0),
    Task("aim 5-shot", "aim", 160.0),
]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def _terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Replaces standard error from inside of a test: pytest does so as well before it."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "80")
    return stream


@pytest.fixture
def log_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module._LogLines, "seconds", 0.0)


def _go(*, progress: bool = True) -> None:
    with stage(progress, "decode", 3, "clips") as advance:
        for _ in range(3):
            advance(1)


def _go_over_rows(overall: OverallProgress) -> None:
    for position in range(len(ROWS)):
        overall.begin(position)
        with overall.stage("decode", 2, "clips") as advance:
            advance(1)
            advance(1)
        for _ in range(4):
            overall.advance(0.25, 1.0, "56.0 ± 8.0 %")


@pytest.mark.usefixtures("log_at_once")
def test_a_log_gets_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    _go()
    text = capsys.readouterr().err
    assert "\r" not in text
    lines = text.splitlines()
    assert len(lines) >= 3
    assert lines[0].startswith("decode 0 of 3 clips, 0 %")
    assert lines[-1] == "decode 3 of 3 clips, 100 %"


@pytest.mark.usefixtures("log_at_once")
def test_a_log_has_the_facts_of_the_overall_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with overall_progress(ROWS, "row", progress=True) as overall:
        _go_over_rows(overall)
    lines = capsys.readouterr().err.splitlines()
    assert "row 1 of 3: decode 1 of 2 clips, 0 %" in lines
    # after the frozen row: what it took for 10 is the only measure for the 200 that are left
    assert "row 1 of 3: frozen 1-shot, 5 %, 80 s left, 56.0 ± 8.0 %" in lines
    # after half of aim at 1 shot: 2 s for 20, and so 18 s for the 180 that are left
    assert "row 2 of 3: aim 1-shot, 14 %, 18 s left, 56.0 ± 8.0 %" in lines
    assert lines[-1] == "row 3 of 3: aim 5-shot, 100 %, 56.0 ± 8.0 %"


def test_what_is_done_within_a_minute_says_nothing_to_a_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _go()
    with overall_progress(ROWS, "row", progress=True) as overall:
        _go_over_rows(overall)
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_one_bar_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    long_task = Task("st-adapter:sites=both,width=64,kernel=3 5-shot", "st", 1.0)
    with overall_progress([*ROWS, long_task], "row", progress=True) as overall:
        _go_over_rows(overall)
        overall.begin(3)
        overall.advance(0.5, 600.0, "100.0 ± 12.5 %")
        overall.display.refresh()
    text = terminal.getvalue()
    assert "\rrow 1 of 4 |" in text
    assert "\rrow 4 of 4: st-adapter:sites=both… |#" in text
    assert "10 min left, 100.0 ± 12.5 %" in text
    assert max(map(len, text.replace("\n", "\r").split("\r"))) <= 80
    assert text.count("\n") == 1


def test_work_of_an_earlier_run_is_no_measure_of_time() -> None:
    with overall_progress(ROWS, "row", progress=False) as overall:
        overall.begin(1)
        overall.advance(0.5, None)
        assert isnan(overall.seconds_left())
        overall.advance(0.25, 5.0)
        assert overall.seconds_left() == pytest.approx((10 + 160) / 2)


@pytest.mark.parametrize("total", [0, 1])
def test_no_bar_is_shown_for_nothing_or_one_item(
    monkeypatch: pytest.MonkeyPatch, total: int
) -> None:
    terminal = _terminal(monkeypatch)
    with stage(True, "decode", total, "clips") as advance:
        advance(total)
    assert terminal.getvalue() == ""


def test_nothing_is_shown_unless_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    _go(progress=False)
    with overall_progress(ROWS, "row", progress=False) as overall:
        _go_over_rows(overall)
    assert capsys.readouterr().err == ""


def test_bars_make_no_semaphore(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of a worker that is killed is left, which Python warns of when the command ends."""
    monkeypatch.setattr(std, "TqdmDefaultWriteLock", lambda: pytest.fail("a semaphore was made"))
    monkeypatch.delattr(tqdm, "_lock", raising=False)
    with stage(False, "decode", 2, "clips") as advance:
        advance(2)
    show_note(True, "a note")
    assert "a note" in capsys.readouterr().err
