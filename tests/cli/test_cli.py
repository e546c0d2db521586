"""Finding commands, help, and how errors end the process."""

from __future__ import annotations

import errno
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import Result

import fewshot_i2v
from fewshot_i2v import errors
from fewshot_i2v.cli._common import EXIT_CODES, CommandFolder
from fewshot_i2v.cli._flags import FlagsOfLayout
from fewshot_i2v.cli._root import cli
from fewshot_i2v.errors import ConfigError, TooManyFailuresError, TuningError
from tests.cli.conftest import FakeEvaluation, Invoke

COMMANDS = ["evaluate", "list", "show"]


def test_commands_are_the_files_of_the_folder(invoke: Invoke) -> None:
    text = invoke("--help").stdout
    for command in COMMANDS:
        assert re.search(rf"^  {command} +[A-Z]", text, re.M)


def commands_below(group: click.Group) -> Iterator[click.Command]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        yield from commands_below(command) if isinstance(command, click.Group) else [command]


def test_no_flag_of_a_command_is_dropped() -> None:
    """A callback ignores flags of keys as `**_flags`; no flag of its own may land there."""
    ignoring = 0
    for command in commands_below(cli):
        assert command.callback is not None
        taken = inspect.signature(command.callback).parameters
        if any(p.kind == p.VAR_KEYWORD and name.startswith("_") for name, p in taken.items()):
            ignoring += 1
            params = [p for p in command.params if not isinstance(p, FlagsOfLayout)]
            names = {p.name for p in params if p.expose_value}
            assert names <= set(taken), command.callback.__module__
    assert ignoring >= 2


def test_a_new_file_is_a_new_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "more_commands"
    folder.mkdir()
    (folder / "say_hello.py").write_text(
        "import click\n\n@click.command()\ndef command():\n    click.echo('hello')\n"
    )
    (folder / "_private.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    group = CommandFolder(name="x", folder=folder, package="more_commands")
    from click.testing import CliRunner

    assert CliRunner().invoke(group, ["say-hello"]).stdout == "hello\n"
    assert "say-hello" in CliRunner().invoke(group, ["--help"]).stdout
    assert "private" not in CliRunner().invoke(group, ["--help"]).stdout
    first = CommandFolder(
        name="x", folder=folder, package="more_commands", first_commands=["say-hello"]
    )
    text = CliRunner().invoke(first, ["--help"]).stdout
    assert re.findall("^([A-Z].*):", text, re.M)[1:] == [
        "Options",
        "To begin with, in the order of work",
    ]


def test_version(invoke: Invoke) -> None:
    result = invoke("--version")
    assert (result.exit_code, fewshot_i2v.__version__ in result.stdout) == (0, True)


@pytest.mark.parametrize("args", [["--help"], ["-h"], ["evaluate", "--help-all"]])
def test_help_promises_the_status_that_errors_have(invoke: Invoke, args: list[str]) -> None:
    done = invoke(*args)
    assert (done.exit_code, done.stderr, done.exception) == (0, "", None)
    text = " ".join(done.stdout.split())
    table = re.findall(r"^\| ([\d, ]+) \| (.+?) \|$", errors.__doc__ or "", re.M)
    assert len(table) == 6
    for codes, meaning in table:
        assert f"{codes.strip()} {meaning.replace('`', '')}" in text


def test_exit_codes_fit_a_terminal() -> None:
    assert max(map(len, EXIT_CODES.splitlines())) < 80


def test_an_unknown_command_names_the_nearest(invoke: Invoke) -> None:
    result = invoke("evalute")
    assert result.exit_code == 2
    assert "unknown command 'evalute'; did you mean 'evaluate'?" in result.stderr
    assert result.stdout == ""


def test_an_unknown_option_names_the_nearest(invoke: Invoke) -> None:
    result = invoke("evaluate", "--adaptr", "frozen")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: unknown option '--adaptr'; did you mean '--adapter'? "
        "See `fewshot-i2v evaluate --help`\n"
    )


def test_no_command_shows_the_help(invoke: Invoke) -> None:
    result = invoke()
    assert result.exit_code == 2
    assert "evaluate" in result.output


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("the file is wrong"), 2),
        (TuningError("the loss is gone"), 1),
        (TooManyFailuresError("3 episodes failed"), 4),
    ],
)
def test_an_error_is_shown_as_its_message_alone(
    invoke: Invoke, evaluation: FakeEvaluation, error: Exception, status: int
) -> None:
    evaluation.raises = error
    result = invoke("evaluate", "--quiet")
    assert (result.exit_code, result.stdout) == (status, "")
    assert result.stderr == f"error: {error}\n"


def test_a_full_disk_is_shown_without_a_traceback(
    invoke: Invoke, evaluation: FakeEvaluation
) -> None:
    evaluation.raises = OSError(errno.ENOSPC, "No space left on device", "runs/x/episodes.jsonl")
    result = invoke("evaluate", "--quiet")
    assert (result.exit_code, result.stderr) == (
        1,
        "error: runs/x/episodes.jsonl: No space left on device\n",
    )


def test_a_bug_keeps_its_traceback(invoke: Invoke, evaluation: FakeEvaluation) -> None:
    evaluation.raises = ZeroDivisionError("a bug")
    result: Result = invoke("evaluate")
    assert isinstance(result.exception, ZeroDivisionError)


def test_python_callers_get_the_exception_itself(evaluation: FakeEvaluation) -> None:
    evaluation.raises = ConfigError("the file is wrong")
    with pytest.raises(ConfigError):
        cli.main(["evaluate"], standalone_mode=False)


# --- as a process -------------------------------------------------------------------------------


def run(*args: str, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-m", "fewshot_i2v", *args], capture_output=True, text=True, **more
    )


LIGHT = {
    "--help": ("pydantic", "yaml", "numpy"),
    "evaluate --help": ("numpy",),
    "list adapters": ("pydantic", "yaml", "numpy"),
    "list --json": ("pydantic", "yaml", "numpy"),
    "list encoders": ("pydantic",),
}


@pytest.mark.parametrize("line", LIGHT)
def test_light_commands_load_nothing_heavy(line: str) -> None:
    heavy = ("torch", "open_clip", "decord", "av", *LIGHT[line])
    program = (
        "import sys\nfrom fewshot_i2v.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        f"finally:\n    print([m for m in {heavy!r} if m in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *line.split()], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "[]")


def test_the_module_runs_as_the_command_does() -> None:
    done = run("--version")
    assert (done.returncode, fewshot_i2v.__version__ in done.stdout) == (0, True)


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    program = f"{sys.executable} -m fewshot_i2v list encoders --json | head -c 1"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[", "")


def test_no_colour_codes_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b" not in run("--help").stdout + run("list").stdout + run("evaluatee").stderr


def test_shell_completion_knows_commands_and_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_FEWSHOT_I2V_COMPLETE", "bash_complete")
    for words, expected in (
        ("fewshot-i2v ev", "evaluate"),
        ("fewshot-i2v evaluate quick", "quickstart"),
    ):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        assert expected in run().stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("evaluate --adapter st-", "st-adapter"),
        ("evaluate --head proto", "prototype"),
        ("evaluate --split mot", "motions"),
        ("evaluate --encoder ViT-B-1", "ViT-B-16"),
        ("evaluate --start demo", "demo-motions"),
        ("train --val-head proto", "prototype"),
        ("list heads tr", "trx"),
        ("list adapters --encoder ViT-L", "ViT-L-14"),
        ("episodes show mot", "motions"),
    ],
)
def test_shell_completion_knows_names_of_methods_splits_and_encoders(
    words: str, expected: str
) -> None:
    complete = ShellComplete(cli, {}, "fewshot-i2v", "_FEWSHOT_I2V_COMPLETE")
    *arguments, incomplete = words.split()
    assert expected in [item.value for item in complete.get_completions(arguments, incomplete)]


def test_completion_is_empty_where_names_cannot_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEWSHOT_I2V_PLUGINS", "/no/such/folder")
    complete = ShellComplete(cli, {}, "fewshot-i2v", "_FEWSHOT_I2V_COMPLETE")
    assert complete.get_completions(["evaluate", "--adapter"], "st") == []


def test_the_guide_has_a_line_of_shell_completion_that_works() -> None:
    guide = (Path(fewshot_i2v.__file__).parents[1] / "configs/README.md").read_text()
    (line,) = re.findall(r"^eval .*=bash_source .*?\)\"", guide, re.M)
    program = line.replace("fewshot-i2v", f"{sys.executable} -m fewshot_i2v")
    done = subprocess.run(["bash", "-c", f"{program}; complete -p"], capture_output=True, text=True)
    assert re.search(r"^complete .*_completion .*fewshot", done.stdout, re.M), done.stderr
