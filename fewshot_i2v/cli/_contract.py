"""Code of `check-adapter` and `check-head`: check one file against the contract."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fewshot_i2v import registry
from fewshot_i2v.cli._common import echo_json
from fewshot_i2v.errors import UsageError, suggest_names
from fewshot_i2v.utils.text_table import wrap_text

if TYPE_CHECKING:
    from fewshot_i2v.tuning.contract.check import CheckResult

CHECK_EXIT_CODES = """\b
Exit status:
  0         every promise holds
  1         some do not
  2         wrong use: nothing was checked
  130, 143  interrupted by Ctrl-C, terminated
"""
VIOLATED_STATUS = 1
_WIDTH = 78
_INDENT = " " * 10
_LOADED = "it can be loaded"


def check_contract(kind: registry.MethodKind, target: str, *, as_json: bool) -> int:
    """Check an adapter or head, and show what holds and what does not.

    `target` is FILE, FILE:CLASS, or the name of a method that can be used.

    Raises:
        UsageError: when there is no such file or name.
    """
    path, class_name = _parse_target(kind, target)
    origin = Path(_origin_of(kind, target)) if path is None else path.resolve()
    with ExitStack() as stack:
        name = target
        if path is not None:
            name = stack.enter_context(registry.plugin_file(kind, path, class_name))
        if not as_json:
            click.echo(f"{kind[:-1]} {name}, {path or origin}, on tiny random data\n")
        results = []
        for result in _run(kind, name, origin):
            results.append(result)
            if not as_json:
                _show_result(result)
    violations = [result for result in results if result.status == "violated"]
    if as_json:
        checks = [asdict(result) for result in results]
        echo_json({"kind": kind[:-1], "name": name, "file": str(origin), "checks": checks})
    else:
        _show_summary(kind, name, target, origin, results)
    return VIOLATED_STATUS if violations else 0


def _parse_target(kind: registry.MethodKind, target: str) -> tuple[Path | None, str]:
    """The file and class that a target names; None for the name of a method."""
    file, _, class_name = target.rpartition(":")
    for path, chosen in ((Path(target), ""), (Path(file), class_name)):
        if path.is_file():
            return path, chosen
    names = registry.method_names(kind)
    if target in names:
        return None, ""
    suggestion = suggest_names(target, names)
    expected = f"expected a Python file with a subclass of {kind[:-1].capitalize()}, or a name from"
    problem = " ".join(filter(None, ("no such file;", suggestion, expected)))
    raise UsageError(f"{target}: {problem} `fewshot-i2v list {kind}`")


def _origin_of(kind: registry.MethodKind, name: str) -> str:
    return next(info.origin for info in registry.list_methods(kind) if info.name == name)


def _run(kind: registry.MethodKind, name: str, origin: Path) -> Iterator[CheckResult]:
    """Load the method, then run its checks; a method that cannot be loaded is one violation."""
    from fewshot_i2v.tuning.contract.adapter_contract import run_adapter_contract
    from fewshot_i2v.tuning.contract.check import CheckResult
    from fewshot_i2v.tuning.contract.head_contract import run_head_contract

    try:
        registry.load_method(kind, name)
    except UsageError as error:
        advice = "Mend that. CONTRIBUTING.md, chapter Adding, has a complete file."
        yield CheckResult(_LOADED, "violated", str(error), advice)
        return
    yield CheckResult(_LOADED, "passed")
    run_contract = run_adapter_contract if kind == "adapters" else run_head_contract
    yield from run_contract(name, origin)


def _show_result(result: CheckResult) -> None:
    if result.status == "skipped":
        return
    label = result.status.upper() if result.problem else result.status
    click.echo(f"{label:<8}  {result.promise}")
    if result.problem:
        for text in (result.problem, f"-> {result.advice}"):
            click.echo("\n".join(wrap_text(text, _WIDTH, first=_INDENT, hanging=_INDENT)))


def _show_summary(
    kind: registry.MethodKind,
    name: str,
    target: str,
    origin: Path,
    results: Sequence[CheckResult],
) -> None:
    """Say how many promises hold, and what to do next."""
    n_passed = sum(result.status == "passed" for result in results)
    again = f"fewshot-i2v check-{kind[:-1]} {shlex.quote(target)}"
    if n_passed < len(results):
        n_skipped = sum(result.status == "skipped" for result in results)
        skipped = f", {n_skipped} were not checked" if n_skipped else ""
        click.echo(f"\n{n_passed} of {len(results)} promises hold{skipped}.")
        click.echo("Mend the first violation first; later ones often follow from it. Then:")
        click.echo(f"  {again}")
        return
    click.echo(f"\nall {n_passed} promises hold; use it with:")
    methods = f"--adapter frozen --adapter {name}" if kind == "adapters" else f"--head {name}"
    command = f"fewshot-i2v evaluate {methods}"
    if name in registry.method_names(kind):
        click.echo(f"  {command}")
        return
    folder = shlex.quote(str(origin.parent.parent if origin.parent.name == kind else Path("MINE")))
    if origin.parent.name != kind:
        click.echo(f"  mkdir -p {folder}/{kind} && cp {shlex.quote(str(origin))} {folder}/{kind}/")
    click.echo(f"  FEWSHOT_I2V_PLUGINS={folder} {command}")
