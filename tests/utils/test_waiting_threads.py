"""A thread that waits for a camera does not disturb the end of the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import atexit, sys, threading
from fewshot_i2v.utils.waiting_threads import start_waiting_thread
woken = threading.Event()
thread = start_waiting_thread(woken.wait, "camera")
if {ends}:
    woken.set()
    thread.join()
atexit.register(print, "taken down")
from fewshot_i2v.cli import main
main({arguments})
"""


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [(["--version"], 0, "fewshot-i2v, version"), (["predict", "/no/model", "-"], 2, "/no/model")],
)
@pytest.mark.parametrize("ends", [False, True])
def test_the_interpreter_is_taken_down_only_without_it(
    arguments: list[str], status: int, said: str, ends: bool
) -> None:
    program = PROGRAM.format(arguments=arguments, ends=ends)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == status, done.stderr
    assert said in done.stdout + done.stderr
    assert ("taken down" in done.stdout) == ends
