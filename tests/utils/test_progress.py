"""What is shown of how far things are: a bar on a terminal, lines in a log."""

from __future__ import annotations

import io
import sys

import pytest

from fewshot_i2v.utils import progress as progress_module


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def _go(*, progress: bool = True) -> None:
    with progress_module.bar(
        total=3, desc="aim 1-shot", unit="episode", progress=progress
    ) as shown:
        for number in range(3):
            shown.set_postfix_str(f"{number}0.0 %", refresh=False)
            shown.update()


def test_a_log_gets_whole_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module._LogLines, "seconds", 0.0)
    _go()
    text = capsys.readouterr().err
    assert "\r" not in text
    lines = text.splitlines()
    assert len(lines) >= 3
    assert all(line.startswith("aim 1-shot: ") for line in lines)
    assert "1/3" in text
    assert "3/3" in lines[-1]
    assert "20.0 %" in lines[-1]


def test_what_is_done_within_a_minute_says_nothing_to_a_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _go()
    assert list(progress_module.bar(range(3), progress=True)) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    _go()
    assert "\raim 1-shot: 100%|" in stream.getvalue()


def test_nothing_is_shown_unless_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    _go(progress=False)
    assert capsys.readouterr().err == ""
