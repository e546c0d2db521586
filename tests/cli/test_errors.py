"""Errors are one line for a file or a pipe, and wrapped for a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from fewshot_i2v.cli._errors import echo_error, wrap_error

_LONG = "error: --rooot: unknown; did you mean --root? `fewshot-i2v evaluate --help-all` lists all"


def test_lines_are_broken_at_spaces_and_the_words_stay() -> None:
    wrapped = wrap_error(_LONG, 50)
    assert max(map(len, wrapped.split("\n"))) <= 50
    assert len(wrapped.split("\n")) > 1
    assert wrapped.replace("\n  ", " ") == _LONG


@pytest.mark.parametrize(
    "whole",
    [
        "`fewshot-i2v episodes check mine.yaml --root CLIPS`",
        "'a value with spaces in it'",
        "/data/without-any-space/that/is/longer/than/the/terminal.mp4",
    ],
)
@pytest.mark.parametrize("shift", range(0, 40, 7))
def test_what_can_be_copied_is_not_broken(whole: str, shift: int) -> None:
    text = f"error: {'x' * shift} before {whole} and after it more words than one line has"
    assert any(whole in line for line in wrap_error(text, 44).split("\n"))


def test_a_path_with_spaces_at_the_start_and_an_argument_with_spaces_stay_in_one_line() -> None:
    path, argument = "/my clips/of this summer/a wave.mp4", "other clips/b c d e f g h.mp4"
    text = f"error: {path}: is cut short; expected a file as long as that of {argument} is"
    lines = wrap_error(text, 40, [argument]).split("\n")
    assert any(path in line for line in lines)
    assert any(argument in line for line in lines)
    assert not any(argument in line for line in wrap_error(text, 40).split("\n"))


def test_each_line_of_a_list_keeps_its_indent() -> None:
    text = "error: mine.yaml: 2 bad values\n  lr: got 0; expected a number greater than 0\n  way: 1"
    assert wrap_error(text, 40).split("\n") == [
        "error: mine.yaml: 2 bad values",
        "  lr: got 0; expected a number greater",
        "    than 0",
        "  way: 1",
    ]


def test_nothing_is_wrapped_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    echo_error("word " * 100)
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(("columns", "lines"), [(50, True), (0, False)])
def test_the_width_is_that_of_the_terminal(columns: int, lines: bool, tmp_path: Path) -> None:
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    command = [sys.executable, "-P", "-m", "fewshot_i2v", "show", "a b", "--wide", "--notees"]
    process = subprocess.Popen(command, stderr=terminal, stdout=subprocess.DEVNULL, cwd=tmp_path)
    os.close(terminal)
    text = b""
    while block := _read(main):
        text += block
    os.close(main)
    assert process.wait() == 2
    printed = text.decode().rstrip().split("\r\n")
    assert (len(printed) > 1) == lines
    assert max(map(len, printed)) <= 50 or not lines


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # how Linux says that no process has the terminal any more
        return b""
