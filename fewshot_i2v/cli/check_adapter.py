"""`fewshot-i2v check-adapter`: check the file of an own adapter against the contract."""

from __future__ import annotations

import click

from fewshot_i2v.cli._contract import CHECK_EXIT_CODES, check_contract
from fewshot_i2v.cli._help import help_command


@help_command(
    "Check the file of your own adapter.",
    ("check-adapter mine/adapters/my_adapter.py", "a file"),
    ("check-adapter st-adapter", "one that is listed"),
    epilog=CHECK_EXIT_CODES,
)
@click.argument("target", metavar="FILE[:CLASS]")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.pass_context
def command(ctx: click.Context, /, target: str, as_json: bool) -> None:
    """Check what every adapter promises, for the adapter in a Python file.

    It is built, run, trained, saved and loaded on a tiny random encoder, in a few seconds. Each
    promise that does not hold is shown with what is wrong and what to do. CLASS is needed only
    where the file has several adapters. A name from `fewshot-i2v list adapters` works too.
    """
    ctx.exit(check_contract("adapters", target, as_json=as_json))
