"""How the process begins and ends: signals at any time, closed streams, names that cannot be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fewshot_i2v.errors import ConfigError
from tests.cli.conftest import FakeEvaluation, Invoke

SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "terminated"}
START = """
import os, signal, sys
# a shell that starts the tests in the background has these ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from fewshot_i2v.cli import main
"""


def ended(program: str, **more: object) -> subprocess.CompletedProcess[str]:
    """A program that calls `main`, run to its end."""
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-c", START + program], capture_output=True, text=True, **more
    )


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("module", ["click", "fewshot_i2v.cli._common", "fewshot_i2v.cli.list"])
def test_a_signal_while_modules_are_imported_ends_it_at_once(
    module: str, number: signal.Signals
) -> None:
    # raised inside an import, it would be swallowed by some modules and leave others half made
    done = ended(
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}:\n"
        f"            os.kill(os.getpid(), {int(number)})\n"
        "sys.meta_path.insert(0, Finder())\n"
        "main(['list', 'configs', '--json'])\n"
    )
    assert (done.returncode, done.stdout) == (128 + number, "")
    assert done.stderr == f"{SIGNALS[number]}\n"


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_a_file_is_written_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    done = ended(
        f"os.fsync = lambda _: os.kill(os.getpid(), {int(number)})\n"
        "main(['episodes', 'freeze', 'motions', 'a.jsonl', '--episodes', '2'])\n",
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr.strip()) == (128 + number, SIGNALS[number])
    assert list(tmp_path.iterdir()) == []


def test_what_is_ignored_stays_ignored() -> None:
    done = ended(
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "import fewshot_i2v.cli.list as module\n"
        "class Interrupting:\n"
        "    def write(self, text):\n"
        "        os.kill(os.getpid(), signal.SIGHUP)\n"
        "        return len(text)\n"
        "    flush = lambda self: None\n"
        "sys.stdout = Interrupting()\n"
        "main(['list', 'configs', '--json'])\n"
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_a_closed_stream_is_no_traceback_and_no_file_takes_its_place(closed: int) -> None:
    program = "from fewshot_i2v.cli import main; main(['list', 'configs', '--json'])"
    command = f'exec "$0" -c "$1" {closed}>&-'
    done = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable, program], capture_output=True, text=True
    )
    if closed == 1:
        assert done.returncode == 2
        assert done.stderr.startswith("error: standard output is closed; send it to a file")
        assert done.stderr.count("\n") == 1
    else:
        assert (done.returncode, done.stderr) == (0, "")
        assert "quickstart" in done.stdout


def test_a_name_with_a_nul_is_refused(invoke: Invoke, tmp_path: Path) -> None:
    found = invoke("report", str(tmp_path), "--out", "a\0b.html")
    assert (found.exit_code, found.stderr.count("\n")) == (2, 1)
    assert "an argument has a NUL character" in found.stderr


def test_an_error_that_names_what_a_file_says_does_not_act(
    invoke: Invoke, evaluation: FakeEvaluation
) -> None:
    evaluation.raises = ConfigError("a\x1b]0;title\x07.yaml: bad")
    assert invoke("evaluate").stderr.endswith("\nerror: a\\x1b]0;title\\x07.yaml: bad\n")


def test_every_huge_number_and_nul_in_a_configuration_is_named(tmp_path: Path) -> None:
    from fewshot_i2v.evaluation.row_expansion import load_config

    huge = 10_000_000_000
    for key in ("episodes", "video.frames", "video.stride", "tuning.steps", "tuning.batch",
                "workers", "partitions"):  # fmt: skip
        with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
            load_config(None, {key: huge})
    for key in ("root", "output", "cache", "trials", "split", "start", "encoder.pretrained"):
        with pytest.raises(ConfigError, match="without a NUL character"):
            load_config(None, {key: "a\0b"})
    with pytest.raises(ConfigError) as found:
        load_config({f"key{i}": 1 for i in range(16_000)})
    assert "16" in str(found.value)
    assert len(str(found.value)) < 20_000


# exit functions are run from the last one to the first
TAKEN_DOWN = "import atexit, os, sys\natexit.register(os.write, 1, b'taken down')\n"
QUICK_END = """
from fewshot_i2v.cli._end import QuickEnd
end = QuickEnd()
atexit.register(print, "exit function", end="")
"""


def ended_with(program: str) -> tuple[int, str]:
    """Status and output of a program."""
    program = TAKEN_DOWN + program
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=buffered
    )
    return done.returncode, done.stdout + done.stderr


def test_the_end_comes_after_exit_functions_and_writes_what_is_buffered() -> None:
    program = QUICK_END + "print('printed, ', end='')\nend.status = 7\n"
    assert ended_with(program) == (7, "printed, exit function")


@pytest.mark.parametrize(
    "program",
    [
        QUICK_END,
        # it writes its result in an exit function of before
        QUICK_END + "end.status = 7\nsys.settrace(lambda *_: None)\n",
        QUICK_END + "end.status = 7\natexit.register(sys.stderr.close)\n",
    ],
)
def test_without_a_status_when_traced_or_with_a_closed_stream_it_is_as_usual(program: str) -> None:
    status, output = ended_with(program)
    assert (status, "exit function" in output, "taken down" in output) == (0, True, True)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [(["--version"], 0, "version"), (["show", "/no/run"], 2, "/no/run"), (["no"], 2, "error: ")],
)
def test_a_program_is_not_taken_down_and_main_with_arguments_is(
    arguments: list[str], status: int, said: str
) -> None:
    program = f"sys.argv = ['fewshot-i2v', *{arguments}]\nfrom fewshot_i2v.cli import main\n"
    for call, taken_down in (("main()", False), ("main(sys.argv[1:])", True)):
        ended_status, output = ended_with(program + call)
        assert (ended_status, said in output) == (status, True)
        assert ("taken down" in output) == taken_down
