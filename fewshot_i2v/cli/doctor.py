"""`fewshot-i2v doctor`: check the installation."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fewshot_i2v.cli._common import echo_json
from fewshot_i2v.cli._help import help_command
from fewshot_i2v.cli._next import command_line, echo_next
from fewshot_i2v.utils.resources import default_cache_folder
from fewshot_i2v.utils.text_table import wrap_text
from fewshot_i2v.version import __version__

if TYPE_CHECKING:
    from fewshot_i2v.evaluation.doctor import HealthCheck

_EXIT_CODES = """\b
Exit status:
  0         an evaluation can run
  1         it cannot: something that it needs is missing or broken
  2         wrong use: nothing was checked
  130, 143  interrupted by Ctrl-C, terminated
"""
_LABELS = {"ok": "ok", "note": "note", "problem": "PROBLEM"}
_INDENT = " " * 19


@help_command(
    "Check the installation, and say what to mend.",
    ("doctor", "on one screen"),
    ("doctor --json > doctor.json", "all facts, for a report of an error"),
    epilog=_EXIT_CODES,
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    help="Folder of decoded clips.  [default: that of the user]",
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.pass_context
def command(ctx: click.Context, /, cache: Path | None, as_json: bool) -> None:
    """Check what an evaluation needs: packages, devices, video reader, encoder, cache, plug-ins.

    A clip is generated and decoded, and the shipped encoder is run. Whatever is wrong is shown with
    what to do. A note is about something optional. Nothing is fetched from a network.
    """
    from fewshot_i2v.evaluation.doctor import run_checks

    if not as_json:
        click.echo(f"fewshot-i2v {__version__}")
    checks = []
    for check in run_checks((cache or default_cache_folder()).absolute()):
        checks.append(check)
        if not as_json:
            _show(check)
    problems = [check.name for check in checks if check.status == "problem"]
    if as_json:
        facts = {"fewshot_i2v": __version__, "ok": not problems}
        echo_json(facts | {"checks": [asdict(check) for check in checks]})
    elif problems:
        click.echo(f"\nAn evaluation cannot run. Mend first: {problems[0]}.")
        echo_next(command_line("doctor"))
    else:
        click.echo("\nAn evaluation can run.")
        echo_next(command_line("evaluate"))
    ctx.exit(1 if problems else 0)


def _show(check: HealthCheck) -> None:
    """Show a check; what is long is broken into lines."""
    head = f"{_LABELS[check.status]:<7}  {check.name:<8}  "
    texts = [(head, check.fact), *([(_INDENT, f"-> {check.advice}")] if check.advice else [])]
    for first, text in texts:
        click.echo("\n".join(wrap_text(text, first=first, hanging=_INDENT)))
