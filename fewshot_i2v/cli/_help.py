"""The help of commands: options by heading, examples, and rare options under --help-all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_DEFAULT_HEADING = "Options"
_SHOW_ALL = "fewshot_i2v.help_all"


class Flag(click.Option):
    """An option with a place in the help.

    Args:
        decls: as for `click.Option`.
        heading: the heading that it stands under; "": the last one.
        rare: whether it is shown by --help-all alone.
        attrs: as for `click.Option`.
    """

    def __init__(
        self, decls: Sequence[str], *, heading: str = "", rare: bool = False, **attrs: Any
    ) -> None:
        super().__init__(decls, **attrs)
        self.heading, self.rare = heading, rare


class FlagGroup(click.Option):
    """Stands for flags among the parameters of a `HelpCommand`, which are made when it is used."""

    def flags(self) -> Sequence[click.Parameter]:
        """The flags."""
        raise NotImplementedError


class HelpCommand(click.Command):
    """A command whose help has examples and shows rare options by --help-all alone.

    Its epilog, the exit status, is shown by --help-all too.

    Args:
        args: as for `click.Command`.
        examples: pairs of a command line, without the program's name, and what it does.
        attrs: as for `click.Command`.
    """

    def __init__(self, *args: Any, examples: Sequence[tuple[str, str]] = (), **attrs: Any) -> None:
        super().__init__(*args, **attrs)
        self.examples = tuple(examples)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """All parameters, with --help-all before --help where it shows more."""
        *declared, help_option = super().get_params(ctx)
        params: list[click.Parameter] = []
        for param in declared:
            params += param.flags() if isinstance(param, FlagGroup) else [param]
        if self.epilog or any(map(_is_rare, params)):
            params.append(_HELP_ALL)
        return [*params, help_option]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; an option is never the value of the one before it.

        Raises:
            BadOptionUsage: where a value is missing.
        """
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        names = {name for option in options for name in (*option.opts, *option.secondary_opts)}
        with_value = {
            name
            for option in options
            if not option.is_flag and not option.count
            for name in option.opts
        }
        before_end = args[: args.index("--")] if "--" in args else args
        for name, value in pairwise(before_end):
            if name in with_value and value in names:
                raise click.BadOptionUsage(
                    name, f"Option '{name}' got the option {value} where a value is expected", ctx
                )
        return super().parse_args(ctx, args)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what the command does, then the examples."""
        super().format_help_text(ctx, formatter)
        if not self.examples:
            return
        with formatter.section("Examples"):
            for line, purpose in self.examples:
                formatter.write_text(f"# {purpose}")
                words = " " * formatter.current_indent + f"fewshot-i2v {line}"
                formatter.write("\n".join(_break_command(words, formatter.width)) + "\n")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options by heading, those without one last."""
        records: dict[str, list[tuple[str, str]]] = {}
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        for option in sorted(options, key=lambda option: not _heading(option)):
            record = option.get_help_record(ctx)
            if record is not None and (_shows_all(ctx) or not _is_rare(option)):
                records.setdefault(_heading(option), []).append(record)
        for heading, lines in records.items():
            with formatter.section(heading or _DEFAULT_HEADING):
                formatter.write_dl(lines)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the epilog under --help-all, else how many options --help-all has more."""
        if _shows_all(ctx):
            super().format_epilog(ctx, formatter)
            return
        hidden = sum(map(_is_rare, self.get_params(ctx)))
        contents = [f"{hidden} more options"] * (hidden > 0)
        contents += ["the exit status"] * bool(self.epilog)
        if contents:
            formatter.write_paragraph()
            formatter.write_text(f"{ctx.command_path} --help-all shows {' and '.join(contents)}.")


flag = partial(click.option, cls=Flag)
"""Like `click.option`, with the `heading` that the option stands under."""
rare_flag = partial(flag, rare=True)
"""Likewise, of an option that --help-all alone shows."""


def join_options(
    *decorators: Callable[[Decorated], Decorated],
) -> Callable[[Decorated], Decorated]:
    """A decorator that adds several options, in their order."""

    def _add(command: Decorated) -> Decorated:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return _add


def help_command(
    short_help: str, *examples: tuple[str, str], **attrs: Any
) -> Callable[[Callable[..., Any]], HelpCommand]:
    """A decorator that makes a `HelpCommand` of a function.

    Args:
        short_help: a line for the list of commands.
        examples: as for `HelpCommand`.
        attrs: as for `click.command`, such as `epilog`, the exit status.
    """
    return click.command(cls=HelpCommand, examples=examples, short_help=short_help, **attrs)


def _show_help_all(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        ctx.meta[_SHOW_ALL] = True
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()


_HELP_ALL = click.Option(
    ["--help-all"],
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_help_all,
    help="Show this message with all options and exit.",
)


def _shows_all(ctx: click.Context) -> bool:
    return bool(ctx.meta.get(_SHOW_ALL))


def _heading(option: click.Parameter) -> str:
    return option.heading if isinstance(option, Flag) else ""


def _is_rare(param: click.Parameter) -> bool:
    return isinstance(param, Flag) and param.rare


def _break_command(line: str, width: int) -> list[str]:
    """Break a command line where it is too wide, as a shell allows it."""
    indent = " " * (len(line) - len(line.lstrip()))
    lines, current = [], ""
    for word in line.split():
        if current and len(indent) + len(current) + len(word) + 3 > width:
            lines.append(f"{indent}{current} \\")
            current = f"  {word}"
        else:
            current = f"{current} {word}" if current else word
    return [*lines, indent + current]
