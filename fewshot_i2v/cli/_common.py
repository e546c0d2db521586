"""What the commands share: how they are found, how errors and signals end them."""

from __future__ import annotations

import errno
import importlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from fewshot_i2v.cli._start import Terminated, signals_raise
from fewshot_i2v.errors import FewshotError, UnknownNameError, UsageError
from fewshot_i2v.utils.printable import printable_output

EXIT_CODES = """\b
Exit status:
  0         done
  1         failed while running
  2         wrong use, configuration or data
  3         done, but with failed episodes within --max-failed
  4         stopped: more failed episodes than --max-failed
  130, 143  interrupted by Ctrl-C, terminated
"""
INTERRUPTED = 130


class CommandFolder(click.Group):
    """A group whose commands are the files of a folder, imported when they are used.

    Args:
        folder: with one file per command, or a folder for a group of commands; names that start
            with an underscore are left out.
        package: import name of the folder.
        attrs: as for `click.Group`.
    """

    def __init__(self, *, folder: Path, package: str, **attrs: Any) -> None:
        super().__init__(**attrs)
        self.folder, self.package = folder, package

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002, RUF100 - click's signature
        """Names of the commands, sorted."""
        files = [path.stem for path in self.folder.glob("*.py")]
        files += [path.parent.name for path in self.folder.glob("*/__init__.py")]
        return sorted(stem.replace("_", "-") for stem in files if not stem.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or None."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"{self.package}.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that `args` begin with; an unknown one is an error with the nearest names."""
        name, known = args[0], self.list_commands(ctx)
        if name not in known and not name.startswith("-") and not ctx.resilient_parsing:
            raise UnknownNameError("command", name, known)
        return super().resolve_command(ctx, args)

    def main(  # type: ignore[override]  # one signature for click's two overloads
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> object:
        """Runs a command; unless told otherwise, ends the process with the status it calls for."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, **extra)
        # Threads of torch that wait for each other spin first. Where another program has one of the
        # cores, that multiplies the time (7.1 s against 1.0 s was seen); so sleep soon instead.
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
        if isinstance(sys.stdout, io.TextIOWrapper):  # any file name can be written
            sys.stdout.reconfigure(errors="backslashreplace")
        with printable_output(), signals_raise():
            status = _status(
                lambda: super(CommandFolder, self).main(
                    _checked(args), prog_name, complete_var, False, **extra
                )
            )
        sys.exit(status)


def _checked(args: Sequence[str] | None) -> Sequence[str] | None:
    """The arguments of a command that can be run.

    Raises:
        UsageError: when nothing that it writes would go anywhere, or no file can have such a name.
    """
    if getattr(sys.stdout, "stream", None) is None:
        raise UsageError("standard output is closed; send it to a file, or to /dev/null")
    if any("\0" in arg for arg in args or ()):
        raise UsageError("an argument has a NUL character, which no name of a file can have")
    return args


def _status(run: Callable[[], object]) -> int:
    """Runs a command; the status that the process ends with, after saying why if it is an error."""
    try:
        status = run()
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except FewshotError as error:
        click.echo(f"error: {error}", err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except Terminated as signalled:
        click.echo("terminated", err=True)
        return 128 + signalled.number
    except OSError as error:
        return _os_error(error)
    return status if isinstance(status, int) else 0


def _os_error(error: OSError) -> int:
    """Status 1: quietly where the reader of our output went away, else with what the system says.

    Raises:
        OSError: `error` itself where it does not come from the system and so is a bug.
    """
    if error.errno == errno.EPIPE:
        # what is still buffered would raise again when the interpreter ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if error.errno is None:
        raise error
    click.echo(f"error: {error.filename or 'input/output'}: {error.strerror}", err=True)
    return 1


@contextmanager
def resumable(folder: Path, kept: str = "finished episodes are") -> Iterator[None]:
    """Ends the command on Ctrl-C, SIGTERM or SIGHUP after files are closed, saying how to go on.

    Args:
        folder: where things are kept.
        kept: which things, with a verb.

    Raises:
        click.exceptions.Exit: with status 130 (Ctrl-C), 143 (SIGTERM) or 129 (SIGHUP).
    """
    try:
        yield
    except KeyboardInterrupt:
        _say_how_to_go_on("interrupted", kept, folder)
        raise click.exceptions.Exit(INTERRUPTED) from None
    except Terminated as signalled:
        _say_how_to_go_on("terminated", kept, folder)
        raise click.exceptions.Exit(128 + signalled.number) from None


def _say_how_to_go_on(what: str, kept: str, folder: Path) -> None:
    click.echo(f"\n{what}: {kept} in {folder}; the same command goes on from there", err=True)


def echo_json(data: object) -> None:
    """Writes plain data to standard output as JSON."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def echo_columns(rows: Sequence[Sequence[str]], indent: str = "") -> None:
    """Writes rows of text to standard output with aligned columns; the last one may be long."""
    if not rows:
        return
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        click.echo((indent + line).rstrip())
