"""Code of all commands: finding them, and ending them on errors and signals."""

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
from click.exceptions import NoArgsIsHelpError

from fewshot_i2v.cli._errors import echo_error
from fewshot_i2v.cli._help import join_options
from fewshot_i2v.cli._next import ARGUMENTS_KEY
from fewshot_i2v.cli._start import Terminated, signals_raise
from fewshot_i2v.cli._usage_errors import describe_usage_error
from fewshot_i2v.errors import FewshotError, UnknownNameError, UsageError
from fewshot_i2v.utils.printable import printable_output
from fewshot_i2v.utils.text_table import wrap_last_column

EXIT_CODES = """\b
Exit status:
  0         done
  1         failed while running
  2         wrong use, configuration or data
  3         done, but with failed episodes within --max-failed
  4         stopped: more failed episodes than --max-failed
  130, 143  interrupted by Ctrl-C, terminated
"""
INTERRUPTED_STATUS = 130


class CommandFolder(click.Group):
    """A group whose commands are the files of a folder, imported when they are used.

    Args:
        folder: with one file per command, or a folder for a group of commands; names that start
            with an underscore are skipped.
        package: import name of the folder.
        first_commands: those that the help lists first, in this order.
        attrs: as for `click.Group`.
    """

    def __init__(
        self, *, folder: Path, package: str, first_commands: Sequence[str] = (), **attrs: Any
    ) -> None:
        super().__init__(**attrs)
        self.folder, self.package, self.first_commands = folder, package, tuple(first_commands)

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

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, the first ones under a heading of their own."""
        names = self.list_commands(ctx)
        first_names = [name for name in self.first_commands if name in names]
        later_names = [name for name in names if name not in first_names]
        later = "More commands" if first_names else "Commands"
        headings = {"To begin with, in the order of work": first_names, later: later_names}
        width = max(map(len, names))
        for heading in filter(headings.get, headings):
            commands = ((name, self.get_command(ctx, name)) for name in headings[heading])
            texts = [
                (name.ljust(width), cmd.get_short_help_str(formatter.width - 6 - width))
                for name, cmd in commands
                if cmd
            ]
            with formatter.section(heading):
                formatter.write_dl(texts)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command in `args`; for an unknown one raise an error with the nearest names."""
        name, commands = args[0], self.list_commands(ctx)
        if name not in commands and not name.startswith("-") and not ctx.resilient_parsing:
            raise UnknownNameError("command", name, commands)
        ctx.meta[ARGUMENTS_KEY] = args[1:]
        return super().resolve_command(ctx, args)

    def main(  # type: ignore[override]  # one signature for click's two overloads
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> object:
        """Run a command, and unless `standalone_mode` is off end the process with its status."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, **extra)
        # Threads of torch that wait for each other spin first. Where another program has one of the
        # cores, that multiplies the time (7.1 s against 1.0 s was seen); so sleep soon instead.
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
        if isinstance(sys.stdout, io.TextIOWrapper):  # any file name can be written
            sys.stdout.reconfigure(errors="backslashreplace")
        with printable_output(), signals_raise():
            status = _run_for_status(
                lambda: super(CommandFolder, self).main(
                    _check_arguments(args), prog_name, complete_var, False, **extra
                )
            )
        sys.exit(status)


def _check_arguments(args: Sequence[str] | None) -> Sequence[str] | None:
    """Check the arguments of a command."""
    if getattr(sys.stdout, "stream", None) is None:
        raise UsageError("standard output is closed; send it to a file, or to /dev/null")
    if any("\0" in argument for argument in args or ()):
        raise UsageError("an argument has a NUL character, which no name of a file can have")
    return args


def _run_for_status(run: Callable[[], object]) -> int:
    """Run a command and return the exit status, after printing the error if there is one."""
    try:
        status = run()
        sys.stdout.flush()
    except NoArgsIsHelpError as error:  # it shows the help
        error.show()
        return error.exit_code
    except click.UsageError as error:
        echo_error(describe_usage_error(error))
        return error.exit_code
    except click.ClickException as error:
        echo_error(error.format_message())
        return error.exit_code
    except FewshotError as error:
        echo_error(error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED_STATUS
    except Terminated as signal_error:
        click.echo("terminated", err=True)
        return 128 + signal_error.number
    except OSError as error:
        return _report_os_error(error)
    return status if isinstance(status, int) else 0


def _report_os_error(error: OSError) -> int:
    """Report an error of the system, silently if the reader of our output closed it; status 1.

    Raises:
        OSError: `error` itself where it does not come from the system and so is a bug.
    """
    if error.errno == errno.EPIPE:
        # what is still buffered would raise again when the interpreter ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if error.errno is None:
        raise error
    echo_error(f"{error.filename or 'input/output'}: {error.strerror}")
    return 1


@contextmanager
def resumable(folder: Path, saved_items: str = "finished episodes are") -> Iterator[None]:
    """End the command on Ctrl-C, SIGTERM or SIGHUP after closing files, and say how to continue.

    `saved_items` says what is saved in the folder, with a verb.

    Raises:
        click.exceptions.Exit: with status 130 (Ctrl-C), 143 (SIGTERM) or 129 (SIGHUP).
    """
    try:
        yield
    except KeyboardInterrupt:
        _echo_resume_hint("interrupted", saved_items, folder)
        raise click.exceptions.Exit(INTERRUPTED_STATUS) from None
    except Terminated as signal_error:
        _echo_resume_hint("terminated", saved_items, folder)
        raise click.exceptions.Exit(128 + signal_error.number) from None


def _echo_resume_hint(event: str, saved_items: str, folder: Path) -> None:
    click.echo(
        f"\n{event}: {saved_items} in {folder}; the same command goes on from there", err=True
    )


def echo_json(data: object) -> None:
    """Write plain data to standard output as JSON."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def echo_columns(rows: Sequence[Sequence[str]], indent: str = "") -> None:
    """Write rows of text to standard output with aligned columns, the last one wrapped."""
    for line in wrap_last_column(rows, indent):
        click.echo(line)


class RunPath(click.Path):
    """A folder with runs in it: what `evaluate` wrote to its `--output`."""

    name = "run folder"

    def __init__(self) -> None:
        """A folder that is there."""
        super().__init__(exists=True, file_okay=False, path_type=Path)

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Path:
        """Check the folder; if it is missing, the error suggests the usual location."""
        path, default_path = Path(value), Path("runs") / value
        if not path.exists():
            hint = f"; did you mean {default_path}?" if default_path.is_dir() else ""
            self.fail(
                f"{path}: no such folder; expected the --output of an evaluation{hint}", param, ctx
            )
        super().convert(value, param, ctx)
        return path


width_flags = join_options(
    click.option("--wide", is_flag=True, help="Show all columns, with full names."),
    click.option("--notes", is_flag=True, help="Show all notes on the table in full."),
)
table_flags = join_options(
    click.option(
        "--columns",
        metavar="NAME,...",
        default="",
        help="Also show these columns: head, seeds, episodes, parameters, macs, seconds, "
        "memory; such as --columns parameters,seconds.",
    ),
    width_flags,
)
"""Flags of a table of accuracies: further columns, all of them, all notes."""


def parse_columns(text: str) -> tuple[str, ...]:
    """Parse the value of --columns.

    Raises:
        UnknownNameError: for a column that does not exist.
    """
    from fewshot_i2v.report.tables.accuracy_table import check_columns

    return check_columns(name.strip() for name in text.split(",") if name.strip())


root_option = click.option(
    "--root",
    type=click.Path(path_type=Path),
    help="Folder of the clips.  [default: that of the split]",
)
runs_argument = click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=RunPath())
"""Run folders, or folders of some: the argument of commands that read several."""
