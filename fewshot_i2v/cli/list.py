"""`fewshot-i2v list`: what there is to choose from."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fewshot_i2v import registry
from fewshot_i2v.cli._common import echo_columns, echo_json
from fewshot_i2v.config.start_names import names_of_starts, starts_folder
from fewshot_i2v.errors import UsageError
from fewshot_i2v.models.checkpoints.start_index import places
from fewshot_i2v.utils import resources

if TYPE_CHECKING:
    from pydantic import BaseModel

    from fewshot_i2v.models.cost import Cost, Row

_FRAMES = 8
_GIGA = 1e9
_NONE = "-"
_HEADINGS = (
    "adapter", "parameters", "GMACs/frame", "merged parameters", "merged GMACs", "order",
    "neighbours", "note",
)  # fmt: skip
_NUMBERS = range(1, 5)
# "zeroi2v offsets=[-1, 1]: " before the fact, and what follows it
_OPTION = re.compile(r"^\S+ (\w+)=(?:\[[^\]]*\]|\S+): ")
_REST = re.compile(r"\. |, and |; (?=use |give )|\n")
_LEGEND = """
parameters: trained in each episode, without the head. GMACs/frame: 10^9 multiply-accumulates
of the whole encoder (products, convolutions, attention). merged: the same after folding into the
frozen weights. order: whether the order of frames can matter. neighbours: other frames that one
block or level sees."""


def show_costs(
    *,
    encoder: str | None,
    architecture: str | None,
    image_size: int | None,
    frames: int | None,
    presets: bool,
    as_json: bool,
) -> None:
    """Writes what each adapter costs on an encoder; no weights are read.

    Args:
        encoder: by name; None: "demo", or what `architecture` describes.
        architecture: path of a model configuration.
        image_size: pixels on a side; None: the encoder's own.
        frames: frames of a clip; None: 8.
        presets: whether presets get rows of their own.
        as_json: whether to write JSON.

    Raises:
        UsageError: when there is no such encoder, or it has no blocks.
    """
    from fewshot_i2v.models.cost import compare
    from fewshot_i2v.models.encoders.meta_tower import shapes_of

    path = None if architecture is None else Path(architecture)
    tower = shapes_of(encoder or "demo", image_size=image_size, architecture=path)
    frames = _FRAMES if frames is None else frames
    rows = compare(tower, frames=frames, presets=presets)
    if as_json:
        echo_json([_plain(row) for row in rows])
        return
    name = encoder or (path.stem if path else "demo")
    click.echo(f"encoder {name}, {tower.image_size} pixels, clips of {frames} frames\n")
    _echo_table([_HEADINGS, *(_cells(row) for row in rows)])
    click.echo(_LEGEND)


def _plain(row: Row) -> dict[str, Any]:
    """A row as plain data; what does not fit or cannot be used has nulls and a `reason`."""
    whole = {
        "name": row.adapter,
        "preset": row.preset or None,
        "reason": row.reason or None,
        "source": row.source or None,
    }
    if row.cost is None:
        return whole | dict.fromkeys(_COUNTED)
    counted = asdict(row.cost)
    return whole | {key: counted[key] for key in _COUNTED}


_COUNTED = (
    "options", "parameters", "macs_per_frame", "parameters_merged", "macs_per_frame_merged",
    "order", "reach", "frames", "note",
)  # fmt: skip


def _cells(row: Row) -> tuple[str, ...]:
    if row.cost is None:
        said = "does not fit: " + _clause(row.reason) if row.usable else _unusable(row.reason)
        return (row.label, *[_NONE] * 6, said)
    cost: Cost = row.cost
    return (
        row.label,
        _count(cost.parameters),
        giga(cost.macs_per_frame),
        _count(cost.parameters_merged),
        giga(cost.macs_per_frame_merged),
        cost.order_in_words,
        cost.neighbours,
        cost.note,
    )


def _clause(reason: str) -> str:
    """The fact in a reason: no values and nothing of what to do; JSON has the whole."""
    fact = _OPTION.sub(r"\1: ", reason)
    return _REST.split(fact, maxsplit=1)[0]


def _unusable(reason: str) -> str:
    return "cannot be used: " + " ".join(reason.split())


def _count(value: int | None) -> str:
    return _NONE if value is None else f"{value:,}"


def giga(value: float | None) -> str:
    """A number in units of 10^9, or "-"."""
    if value is None:
        return _NONE
    scaled = value / _GIGA
    return f"{scaled:.2f}" if scaled >= 1 else f"{scaled:.4f}"


def _echo_table(rows: Sequence[Sequence[str]]) -> None:
    """Writes aligned columns, numbers to the right; the last one may be long."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADINGS) - 1)]
    for i, row in enumerate([rows[0], ["-" * width for width in widths] + ["----"], *rows[1:]]):
        cells = [
            cell.rjust(width) if column in _NUMBERS and i != 1 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row[:-1], widths, strict=True))
        ]
        click.echo("  ".join([*cells, row[-1]]).rstrip())


ListRow = dict[str, Any]
_HEAD_BYTES = 4096


def _plugins(kind: registry.Kind) -> list[ListRow]:
    return [
        {"name": f.name, "summary": f.summary, "origin": f.origin} for f in registry.found(kind)
    ]


def _files(kind: resources.DataKind) -> list[ListRow]:
    rows = []
    for name in resources.data_names(kind):
        path = resources.data_file(kind, name)
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


def _encoders() -> list[ListRow]:
    from fewshot_i2v.models.encoders.catalog import list_encoders

    rows = []
    for info in list_encoders():
        facts = {key: value for key, value in vars(info).items() if key != "name"}
        facts["adaptable"] = info.adaptable
        rows.append({"name": info.name, "summary": _encoder_summary(facts), **facts})
    return rows


def _encoder_summary(facts: ListRow) -> str:
    text = str(facts["kind"])
    if facts["width"] is not None:
        text += f", width {facts['width']}, {facts['layers']} blocks, patch {facts['patch']}"
        text += f", {facts['image_size']} px"
    return text if facts["adaptable"] else f"{text}, frozen only: {facts['lacks']}"


def _starts() -> list[ListRow]:
    rows = []
    for name in names_of_starts():
        methods = [place.adapter for place in places(name).values()]
        origin = str(starts_folder() / name)
        rows.append({"name": name, "summary": f"for {', '.join(methods)}", "origin": origin})
    return rows


_KINDS: dict[str, Callable[[], list[ListRow]]] = {
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
        # plain `list` stays light

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


_WIDTH = 100
_FACTS = {
    "adapters": ("note", "order", "identity_at_start", "mergeable", "alone"),
    "heads": ("uses_names",),
}
_SAID = {
    "note": "note: {}",
    "order": "order of frames can matter: {}",
    "identity_at_start": "untrained, it leaves the frozen features as they are: {}",
    "mergeable": "can be merged into the frozen weights: {}",
    "alone": "episodes are tuned one at a time: {}",
    "uses_names": "reads the class names: {}",
}
_TYPES = {"integer": "whole number", "boolean": "true or false", "string": "text"}
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}


def show_details(kind: registry.Kind, name: str, *, as_json: bool) -> None:
    """Writes the options, presets and source of one adapter or head.

    Args:
        kind: "adapters" or "heads".
        name: of one of them.
        as_json: whether to write JSON.

    Raises:
        UnknownNameError: when there is none of that name.
        UsageError: when its file cannot be used.
    """
    details = _details(kind, name)
    if as_json:
        echo_json(details)
        return
    click.echo(f"{name}: {details['summary']}\n")
    from fewshot_i2v.config.method import value_text

    click.echo(f"source: {details['source']}")
    click.echo(f"file: {details['origin']}")
    for key in _FACTS[kind]:
        value = details[key]
        if value != "":
            shown = ("yes" if value else "no") if isinstance(value, bool) else value
            click.echo(_SAID[key].format(shown))
    click.echo("\noptions" + (":" if details["options"] else ": none"))
    for option in details["options"]:
        default = "required" if option["required"] else f"default {value_text(option['default'])}"
        _echo_entry(f"{option['name']}: {option['type']}; {default}", option["description"])
    if details["presets"]:
        click.echo(f"\npresets, as {name}:preset=NAME:")
    for preset in details["presets"]:
        values = ", ".join(f"{key}={value_text(v)}" for key, v in preset["options"].items())
        _echo_entry(f"{preset['name']}: {values}", preset["source"])


def _echo_entry(head: str, text: str) -> None:
    click.echo(f"  {head}")
    if text:
        indent = " " * 6
        click.echo(
            textwrap.fill(
                text,
                _WIDTH,
                initial_indent=indent,
                subsequent_indent=indent,
                break_long_words=False,
                break_on_hyphens=False,
            )
        )


def _details(kind: registry.Kind, name: str) -> dict[str, Any]:
    """The same as plain data."""
    cls = registry.load(kind, name)
    row = next(row for row in registry.found(kind) if row.name == name)
    presets = [
        {"name": key, "options": dict(preset.options), "source": preset.source}
        for key, preset in getattr(cls, "presets", {}).items()
    ]
    return {
        "name": name,
        "summary": row.summary,
        "origin": row.origin,
        "source": cls.source,
        **{key: getattr(cls, key) for key in _FACTS[kind]},
        "options": _options(cls.Options),
        "presets": presets,
    }


def _options(model: type[BaseModel]) -> list[dict[str, Any]]:
    """Name, type with range, default and description of each option."""
    try:
        schema = model.model_json_schema()
    except RuntimeError:  # pydantic's, where a plug-in's option is of a type that JSON has not
        schema = {}
    described = _described(model)
    rows = []
    for name, field in model.model_fields.items():
        found = schema.get("properties", {}).get(name)
        kind = str(field.annotation) if found is None else type_in_words(found, schema)
        default = field.get_default(call_default_factory=True)
        rows.append(
            {
                "name": name,
                "type": kind,
                "required": field.is_required(),
                "default": None if field.is_required() else value_of(default),
                "description": described.get(name, ""),
            }
        )
    return rows


def value_of(value: object) -> object:
    """A default as plain data."""
    return [value_of(item) for item in value] if isinstance(value, tuple) else value


def type_in_words(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    """A JSON schema as one would say it.

    >>> type_in_words({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}, {})
    'whole number, at least 1; or null'
    """
    from fewshot_i2v.config.error_messages import pattern_in_words
    from fewshot_i2v.config.method import value_text

    if "$ref" in schema:
        return type_in_words(whole["$defs"][schema["$ref"].rpartition("/")[2]], whole)
    if "anyOf" in schema:
        parts = list(dict.fromkeys(type_in_words(part, whole) for part in schema["anyOf"]))
        return "; or ".join(parts)
    if "const" in schema or "enum" in schema:
        values = [value_text(value) for value in schema.get("enum", [schema.get("const")])]
        return " or ".join([", ".join(values[:-1]), values[-1]] if values[1:] else values)
    if "pattern" in schema:
        return pattern_in_words(schema["pattern"])
    kind = str(schema.get("type", "any value"))
    if kind == "array" and isinstance(schema.get("items"), dict):
        return f"list of: {type_in_words(schema['items'], whole)}"
    bounds = [f"{said} {schema[key]}" for key, said in _BOUNDS.items() if key in schema]
    return ", ".join([_TYPES.get(kind, kind), *bounds])


def _described(model: type[BaseModel]) -> dict[str, str]:
    """What the docstrings of a model and its bases say of each attribute."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        name, inside = "", False
        for line in inspect.cleandoc(cls.__dict__.get("__doc__") or "").splitlines():
            text = line.strip()
            indent = len(line) - len(line.lstrip())
            if text and indent == 0:
                inside = text == "Attributes:"
            elif inside and indent == 4 and ":" in text:
                name, _, found[name] = (part.strip() for part in text.partition(":"))
            elif inside and text and name:
                found[name] += f" {text}"
    return found
