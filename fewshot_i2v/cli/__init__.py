"""The command line, `fewshot-i2v`: one file in this folder per command.

A command's file has the command's name (underscores for dashes) and defines `command`. Files are
imported for their command or the list of commands. The models of configurations, with pydantic, are
imported for the flags made from them; torch only when a command runs.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

    from fewshot_i2v.cli._root import cli

__all__ = ["cli", "main"]


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process.

    Args:
        args: those after the program's name; None: from `sys.argv`, for a program that does
            nothing afterwards, see `fewshot_i2v.cli._end`.

    Raises:
        SystemExit: always, with a status as in `fewshot_i2v.errors`.
    """
    # nothing else is imported before Ctrl-C ends the process as it should
    from fewshot_i2v.cli._start import prepare_process

    prepare_process()
    from fewshot_i2v.cli._end import QuickEnd

    quick_end = QuickEnd() if args is None else None
    from fewshot_i2v.cli._root import cli

    try:
        cli.main(args, prog_name="fewshot-i2v")
    except SystemExit as end:
        from fewshot_i2v.utils.garbage import leave_garbage
        from fewshot_i2v.utils.waiting_threads import end_process

        leave_garbage()
        status = end.code if isinstance(end.code, int) else 0
        end_process(status)
        if quick_end is not None:
            quick_end.status = status
        raise
    raise SystemExit(0)


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the group of commands
    if name != "cli":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fewshot_i2v.cli._root import cli

    return cli
