"""The help of every command: it fits, is short, says defaults, and its examples are real."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from fewshot_i2v.cli._flags import KeyFlag
from fewshot_i2v.cli._help import Flag, HelpCommand
from fewshot_i2v.cli._root import cli
from tests.cli.conftest import Invoke


def _command_names(group: click.Group, parents: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        yield (*parents, name)
        if isinstance(command, click.Group):
            yield from _command_names(command, (*parents, name))


NAMES = list(_command_names(cli))
IDS = [" ".join(names) for names in NAMES]
every_command = pytest.mark.parametrize("names", NAMES, ids=IDS)


def _command(names: tuple[str, ...]) -> click.Command:
    command: click.Command = cli
    for name in names:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
    return command


@every_command
@pytest.mark.parametrize("flag", ["--help", "--help-all"])
def test_it_fits_80_columns(invoke: Invoke, names: tuple[str, ...], flag: str) -> None:
    command = _command(names)
    known = {name for param in command.get_params(click.Context(command)) for name in param.opts}
    if flag not in known:
        pytest.skip("it has nothing more to show")
    result = invoke(*names, flag)
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_it_begins_with_what_a_newcomer_needs_in_the_order_of_work(invoke: Invoke) -> None:
    text = invoke("--help").stdout
    first, _, more = text.partition("More commands:")
    listed = re.findall(r"^  ([a-z][a-z-]+)  +[A-Z]", first.partition("To begin with")[2], re.M)
    assert listed == ["episodes", "evaluate", "recommend", "fit", "predict"]
    assert re.search(r"^  export  +Write", more, re.M)


@pytest.mark.parametrize("name", ["evaluate", "train"])
def test_rare_flags_stand_under_help_all_alone(invoke: Invoke, name: str) -> None:
    short, full = (invoke(name, flag).stdout for flag in ("--help", "--help-all"))
    command = _command((name,))
    flags = [p for p in command.get_params(click.Context(command)) if isinstance(p, KeyFlag)]
    for flag in flags:
        line = re.compile(rf"^  (-\w, )?{flag.opts[-1]}\b", re.M)
        assert line.search(full)
        assert bool(line.search(short)) != flag.rare, flag.opts
    hidden = sum(isinstance(p, Flag) and p.rare for p in command.get_params(click.Context(command)))
    assert f"{name} --help-all shows {hidden} more options" in " ".join(short.split())
    assert 3 * len(short.splitlines()) < 2 * len(full.splitlines())


@pytest.mark.parametrize("name", ["evaluate", "train"])
def test_every_flag_of_a_key_says_its_default(name: str) -> None:
    command = _command((name,))
    flags = [p for p in command.get_params(click.Context(command)) if isinstance(p, KeyFlag)]
    assert len(flags) > 40
    silent = [flag.opts[-1] for flag in flags if "default" not in (flag.help or "")]
    assert silent == (["--split"] if name == "evaluate" else ["--adapter", "--split"])
    helps = {flag.opts[-1]: flag.help or "" for flag in flags}
    assert helps["--way"].endswith("[default: 5]")
    assert helps["--verify"].endswith("[default: no-verify]")
    assert helps["--lr"].endswith("[default: that of the recipe, or 0.001]")
    assert helps["--recipe"].endswith("[default: auto]")
    if name == "train":
        assert helps["--clips"].endswith("[default: 32]"), "no recipe sets it"


@every_command
def test_its_examples_are_command_lines_that_can_be_parsed(
    names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = _command(names)
    if isinstance(command, click.Group):
        pytest.skip("a group")
    assert isinstance(command, HelpCommand)
    assert command.examples
    # run folders of the examples do not exist here
    monkeypatch.setattr("click.Path.convert", lambda _self, value, *_: value)
    monkeypatch.setattr("fewshot_i2v.cli._common.RunPath.convert", lambda _self, value, *_: value)
    for line, purpose in command.examples:
        *words, _redirected = re.split(r" > ", line + " > ", maxsplit=1)
        used, arguments = _resolve(shlex.split(words[0]))
        used.make_context(used.name, arguments)
        assert purpose


def _resolve(arguments: list[str]) -> tuple[click.Command, list[str]]:
    command: click.Command = cli
    while isinstance(command, click.Group):
        name, found, arguments = command.resolve_command(click.Context(command), arguments)
        assert found is not None, name
        command = found
    return command, arguments


@every_command
def test_texts_begin_with_a_verb_and_end_with_a_full_stop(names: tuple[str, ...]) -> None:
    command = _command(names)
    text = command.get_short_help_str(200)
    assert re.match(r"[A-Z][a-z]+[ ,]", text)
    assert text.endswith(".")
    for param in command.get_params(click.Context(command)):
        if isinstance(param, click.Option):
            assert re.search(r"\.( +\[default: .*\])?$", param.help or ""), param.opts
