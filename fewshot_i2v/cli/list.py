"""`fewshot-i2v list`: what there is to choose from."""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

import click

from fewshot_i2v import plugins
from fewshot_i2v._config_starts import names_of_starts, places, starts_folder
from fewshot_i2v.cli._common import echo_columns, echo_json
from fewshot_i2v.cli._costs import show_costs
from fewshot_i2v.errors import UsageError

Row = dict[str, Any]
_HEAD_BYTES = 4096


def _plugins(kind: plugins.Kind) -> list[Row]:
    return [{"name": f.name, "summary": f.summary, "origin": f.origin} for f in plugins.found(kind)]


def _files(kind: plugins.DataKind) -> list[Row]:
    rows = []
    for name in plugins.data_names(kind):
        path = plugins.data_file(kind, name)
        rows.append({"name": name, "summary": head_summary(path), "origin": str(path)})
    return rows


def head_summary(path: Path) -> str:
    """One line about a YAML file: its `description`, else the comment at its top.

    Only the head of the file is looked at, and not parsed, since a split can list 200,000 clips.
    """
    with path.open(encoding="utf-8", errors="replace") as file:
        lines = file.read(_HEAD_BYTES).splitlines()
    comment = [line.lstrip("# ") for line in takewhile(lambda line: line.startswith("#"), lines)]
    for i, line in enumerate(lines):
        if line.startswith("description:"):
            first = line.partition(":")[2].strip()
            folded = first[:1] in {">", "|", ""}
            return _sentence(_indented(lines[i + 1 :]) if folded else first.strip("'\""))
    return _sentence(" ".join(comment))


def _indented(lines: list[str]) -> str:
    block = []
    for line in lines:
        if not line.startswith(" "):
            break
        block.append(line.strip())
    return " ".join(block)


def _sentence(text: str) -> str:
    """The first sentence, without its full stop."""
    return text.partition(". ")[0].rstrip(".")


def _encoders() -> list[Row]:
    from fewshot_i2v.encoders.catalog import list_encoders

    rows = []
    for info in list_encoders():
        facts = {key: value for key, value in vars(info).items() if key != "name"}
        facts["adaptable"] = info.adaptable
        rows.append({"name": info.name, "summary": _encoder_summary(facts), **facts})
    return rows


def _encoder_summary(facts: Row) -> str:
    text = str(facts["kind"])
    if facts["width"] is not None:
        text += f", width {facts['width']}, {facts['layers']} blocks, patch {facts['patch']}"
        text += f", {facts['image_size']} px"
    return text if facts["adaptable"] else f"{text}, frozen only: {facts['lacks']}"


def _starts() -> list[Row]:
    rows = []
    for name in names_of_starts():
        methods = [place.adapter for place in places(name).values()]
        origin = str(starts_folder() / name)
        rows.append({"name": name, "summary": f"for {', '.join(methods)}", "origin": origin})
    return rows


_KINDS: dict[str, Callable[[], list[Row]]] = {
    "adapters": lambda: _plugins("adapters"),
    "heads": lambda: _plugins("heads"),
    "splits": lambda: _files("episodes"),
    "encoders": _encoders,
    "configs": lambda: _files("configs"),
    "starts": _starts,
}


@click.command(short_help="List what can be used by name.")
@click.argument("kind", type=click.Choice(list(_KINDS)), required=False)
@click.argument("name", required=False)
@click.option("--encoder", help="For adapters: what they cost on this encoder; no weights needed.")
@click.option("--architecture", type=click.Path(), help="Likewise, a model configuration (JSON).")
@click.option("--image-size", type=int, help="Side of a frame in pixels; the encoder's own.")
@click.option("--frames", type=click.IntRange(min=1), help="Frames of a clip; 8.")
@click.option("--presets", is_flag=True, help="Costs of the adapters' presets too.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def command(kind: str | None, name: str | None, as_json: bool, **counting: Any) -> None:
    """List what can be used by name; without KIND, everything but the encoders.

    `list adapters NAME` and `list heads NAME` show options, presets and source of one of them.
    `list adapters --encoder ViT-B-16` shows parameters and multiply-accumulates of every adapter.
    """
    present = [key for key, value in counting.items() if value is not None and value is not False]
    given = [f"--{key.replace('_', '-')}" for key in present]
    if name is not None and kind not in ("adapters", "heads"):
        raise UsageError(f"{name!r}: only adapters and heads have options to show")
    if given and (kind != "adapters" or name is not None):
        what = f"`list {kind}{' NAME' if name else ''}`" if kind else "`list` alone"
        raise UsageError(f"{', '.join(given)}: goes with `list adapters`, not with {what}")
    if name is not None:
        from fewshot_i2v.cli._details import show_details  # plain `list` stays light

        show_details("adapters" if kind == "adapters" else "heads", name, as_json=as_json)
    elif given:
        show_costs(**counting, as_json=as_json)
    else:
        _show_names(kind, as_json=as_json)


def _show_names(kind: str | None, *, as_json: bool) -> None:
    kinds = [kind] if kind else [name for name in _KINDS if name != "encoders"]
    found = {name: _KINDS[name]() for name in kinds}
    if as_json:
        echo_json(found[kind] if kind else found)
        return
    for name, rows in found.items():
        if not kind:
            click.echo(f"{name}:")
        if not rows:
            click.echo(f"{'' if kind else '  '}(no {name} are shipped)", err=bool(kind))
        echo_columns([(row["name"], row["summary"]) for row in rows], "" if kind else "  ")
    if kind == "encoders":
        some, every = sum(row["adaptable"] for row in found[kind]), len(found[kind])
        click.echo(f"\n{some} of {every} take every adapter, the others frozen alone", err=True)
