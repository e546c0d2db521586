"""`fewshot-i2v check-head`: check the file of an own head against the contract."""

from __future__ import annotations

import click

from fewshot_i2v.cli._contract import CHECK_EXIT_CODES, check_contract
from fewshot_i2v.cli._help import help_command


@help_command(
    "Check the file of your own head.",
    ("check-head mine/heads/my_head.py", "a file"),
    ("check-head prototype", "one that is listed"),
    epilog=CHECK_EXIT_CODES,
)
@click.argument("target", metavar="FILE[:CLASS]")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.pass_context
def command(ctx: click.Context, /, target: str, as_json: bool) -> None:
    """Check what every head promises, for the head in a Python file.

    It is built and trained on features of random clips, with its default options and with each
    choice changed, in a few seconds. Each promise that does not hold is shown with what is wrong
    and what to do. CLASS is needed only where the file has several heads. A name from
    `fewshot-i2v list heads` works too.
    """
    ctx.exit(check_contract("heads", target, as_json=as_json))
