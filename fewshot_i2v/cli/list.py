"""`fewshot-i2v list`: list names to choose from."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from fewshot_i2v import registry
from fewshot_i2v.cli._common import echo_columns, echo_json
from fewshot_i2v.cli._flags import ENCODERS, completer
from fewshot_i2v.cli._help import help_command, rare_flag
from fewshot_i2v.cli._method_details import show_details
from fewshot_i2v.cli._next import command_line, echo_next
from fewshot_i2v.config.start_names import names_of_starts, shipped_starts_folder
from fewshot_i2v.errors import UsageError
from fewshot_i2v.models.checkpoints.start_index import find_starts
from fewshot_i2v.utils import resources
from fewshot_i2v.utils.text_table import WIDTH, align_columns, count_text, wrap_notes

if TYPE_CHECKING:
    from fewshot_i2v.models.cost import CostRow

_DEFAULT_FRAMES = 8
_GIGA = 1e9
_NONE = "-"
_HEADINGS = ("adapter", "parameters", "GMACs", "merged to", "order", "neighbours")
_LEFT = ("adapter", "order", "neighbours")
# "zeroi2v offsets=[-1, 1]: " before the fact, and what follows it
_OPTION_PREFIX = re.compile(r"^\S+ (\w+)=(?:\[[^\]]*\]|\S+): ")
_END_OF_FACT = re.compile(r"\. |, and |; (?=use |give )|\n")
_LEGEND = (
    "parameters: trained in each episode, without the head.",
    "GMACs: 10^9 multiply-accumulates of the encoder for one frame (products, convolutions, "
    "attention).",
    "merged to: parameters and GMACs after folding into the frozen weights.",
    "order: whether the order of frames can matter; embedding: through that alone.",
    "neighbours: other frames that one block or level sees.",
)


def show_costs(
    *,
    encoder: str | None,
    architecture: str | None,
    image_size: int | None,
    frames: int | None,
    presets: bool,
    as_json: bool,
) -> None:
    """Write the cost of each adapter on an encoder; no weights are read.

    Raises:
        UsageError: when there is no such encoder, or it has no blocks.
    """
    from fewshot_i2v.models.cost import compare_costs
    from fewshot_i2v.models.encoders.loading import meta_tower

    path = None if architecture is None else Path(architecture)
    tower = meta_tower(encoder or "demo", image_size=image_size, architecture=path)
    frames = _DEFAULT_FRAMES if frames is None else frames
    rows = compare_costs(tower, frames=frames, presets=presets)
    if as_json:
        echo_json([_cost_to_dict(row) for row in rows])
        return
    name = encoder or (path.stem if path else "demo")
    click.echo(
        f"encoder {name}, {tower.image_size} pixels, clips of {count_text(frames, 'frame')}\n"
    )
    columns = zip(*(_cost_cells(row) for row in rows), strict=True)
    table = align_columns(dict(zip(_HEADINGS, columns, strict=True)), _LEFT, WIDTH)
    click.echo("\n".join([*table, "", *wrap_notes([*_cost_notes(rows), *_LEGEND])]))
    if problems := [(row.label, _problem(row)) for row in rows if row.cost is None]:
        click.echo()
        echo_columns(problems)


def _cost_to_dict(row: CostRow) -> dict[str, Any]:
    """A row as plain data; an adapter that cannot be used has nulls and a `reason`."""
    entry = {
        "name": row.adapter,
        "preset": row.preset or None,
        "reason": row.reason or None,
        "source": row.source or None,
    }
    if row.cost is None:
        return entry | dict.fromkeys(_COST_KEYS)
    costs = asdict(row.cost)
    return entry | {key: costs[key] for key in _COST_KEYS}


_COST_KEYS = (
    "options", "parameters", "macs_per_frame", "parameters_merged", "macs_per_frame_merged",
    "order", "reach", "frames", "note",
)  # fmt: skip


def _cost_cells(row: CostRow) -> tuple[str, ...]:
    if row.cost is None:
        return (row.label, *[_NONE] * (len(_HEADINGS) - 1))
    cost, merged = row.cost, _NONE
    if cost.parameters_merged is not None:
        merged = f"{cost.parameters_merged:,} / {format_giga(cost.macs_per_frame_merged)}"
    return (
        row.label,
        _NONE if cost.parameters is None else f"{cost.parameters:,}",
        format_giga(cost.macs_per_frame),
        merged,
        cost.order,
        cost.neighbours,
    )


def _cost_notes(rows: Sequence[CostRow]) -> list[str]:
    """Lines on the notes of adapters, each note once."""
    labels: dict[str, list[str]] = {}
    for row in rows:
        if row.cost is not None and row.cost.note:
            labels.setdefault(row.cost.note, []).append(row.label)
    return [f"{note}: {', '.join(of_note)}." for note, of_note in labels.items()]


def _problem(row: CostRow) -> str:
    """Why the cost of an adapter is not known."""
    if row.usable:
        return f"does not fit: {_short_reason(row.reason)}"
    return f"broken: {' '.join(row.reason.split())}"


def _short_reason(reason: str) -> str:
    """Shorten a reason to the fact, without values and advice; JSON has all of it."""
    fact = _OPTION_PREFIX.sub(r"\1: ", reason)
    return _END_OF_FACT.split(fact, maxsplit=1)[0]


def format_giga(value: float | None) -> str:
    """Format in units of 10^9, or "-"."""
    if value is None:
        return _NONE
    scaled = value / _GIGA
    return f"{scaled:.2f}" if scaled >= 1 else f"{scaled:.4f}"


ListEntry = dict[str, Any]
_HEAD_BYTES = 4096


def _method_entries(kind: registry.MethodKind) -> list[ListEntry]:
    entries = []
    for info in registry.list_methods(kind):
        problem = " ".join(registry.find_problem(kind, info).split())
        summary = f"broken: {problem}" if problem else info.summary
        entries.append(
            {
                "name": info.name,
                "summary": summary,
                "origin": info.origin,
                "problem": problem or None,
            }
        )
    return entries


def _data_entries(kind: resources.DataKind) -> list[ListEntry]:
    entries = []
    for name in resources.data_names(kind):
        path = resources.data_file(kind, name)
        entries.append({"name": name, "summary": head_summary(path), "origin": str(path)})
    return entries


def head_summary(path: Path) -> str:
    """Summarize a YAML file in one line: its `description`, else the comment at its top.

    Only the head of the file is read, and not parsed, since a split can list 200,000 clips.
    """
    with path.open(encoding="utf-8", errors="replace") as file:
        lines = file.read(_HEAD_BYTES).splitlines()
    comment = [line.lstrip("# ") for line in takewhile(lambda line: line.startswith("#"), lines)]
    for i, line in enumerate(lines):
        if line.startswith("description:"):
            inline_text = line.partition(":")[2].strip()
            is_block = inline_text[:1] in {">", "|", ""}
            block = takewhile(lambda line: line.startswith(" "), lines[i + 1 :])
            text = " ".join(map(str.strip, block)) if is_block else inline_text.strip("'\"")
            return _sentence(text)
    return _sentence(" ".join(comment))


def _sentence(text: str) -> str:
    """The first sentence, without its full stop."""
    return text.partition(". ")[0].rstrip(".")


def _encoder_entries() -> list[ListEntry]:
    from fewshot_i2v.models.encoders.catalog import list_encoders

    entries = []
    for info in list_encoders():
        facts = {key: value for key, value in vars(info).items() if key != "name"}
        facts["adaptable"] = info.adaptable
        entries.append({"name": info.name, "summary": _encoder_summary(facts), **facts})
    return entries


def _encoder_summary(facts: ListEntry) -> str:
    text = str(facts["kind"])
    if facts["width"] is not None:
        text += f", width {facts['width']}, {facts['layers']} blocks, patch {facts['patch']}"
        text += f", {facts['image_size']} px"
    return text if facts["adaptable"] else f"{text}, frozen only: {facts['lacks']}"


def _start_entries() -> list[ListEntry]:
    entries = []
    for name in names_of_starts():
        methods = [location.adapter for location in find_starts(name).values()]
        origin = str(shipped_starts_folder() / name)
        entries.append({"name": name, "summary": f"for {', '.join(methods)}", "origin": origin})
    return entries


_ENTRIES_BY_KIND: dict[str, Callable[[], list[ListEntry]]] = {
    "adapters": lambda: _method_entries("adapters"),
    "heads": lambda: _method_entries("heads"),
    "splits": lambda: _data_entries("episodes"),
    "encoders": _encoder_entries,
    "configs": lambda: _data_entries("configs"),
    "starts": _start_entries,
}


def _complete_method_names(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete NAME with the adapters or heads; of other kinds nothing can be shown."""
    kind = ctx.params.get("kind")
    if kind not in ("adapters", "heads"):
        return []
    return completer(lambda: registry.method_names(kind))(ctx, param, incomplete)


@help_command(
    "List adapters, heads, splits, encoders and configs by name.",
    ("list adapters", "the adapters, a line each"),
    ("list adapters aim", "options, presets and source of one"),
    ("list adapters --encoder ViT-B-16", "parameters and computation of all on an encoder"),
    ("list encoders", "the image encoders"),
)
@click.argument("kind", type=click.Choice(list(_ENTRIES_BY_KIND)), required=False)
@click.argument("name", required=False, shell_complete=_complete_method_names)
@click.option(
    "--encoder",
    help="With `list adapters`: what they cost on this encoder. Its weights are not needed.",
    **ENCODERS,
)
@rare_flag(
    "--architecture",
    type=click.Path(),
    help="With `list adapters`: what they cost on your own model configuration, a JSON file.",
)
@rare_flag(
    "--image-size",
    type=int,
    help="With --encoder: side of a frame in pixels.  [default: that of the encoder]",
)
@rare_flag(
    "--frames",
    type=click.IntRange(min=1),
    help=f"With --encoder: frames of a clip.  [default: {_DEFAULT_FRAMES}]",
)
@rare_flag("--presets", is_flag=True, help="With --encoder: a row for each preset, too.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def command(kind: str | None, name: str | None, as_json: bool, **cost_options: Any) -> None:
    """List what can be used by name. Without an argument: everything but the encoders.

    With the name of an adapter or head: its options, presets and source. With --encoder: the
    parameters and multiply-accumulates of every adapter.
    """
    cost_keys = [
        key for key, value in cost_options.items() if value is not None and value is not False
    ]
    cost_flags = [f"--{key.replace('_', '-')}" for key in cost_keys]
    if name is not None and kind not in ("adapters", "heads"):
        raise UsageError(f"{name!r}: only adapters and heads have options to show; leave it out")
    if cost_flags and (kind != "adapters" or name is not None):
        usage = f"`list {kind}{' NAME' if name else ''}`" if kind else "`list` alone"
        raise UsageError(f"{', '.join(cost_flags)}: goes with `list adapters`, not with {usage}")
    if name is not None:
        show_details("adapters" if kind == "adapters" else "heads", name, as_json=as_json)
    elif cost_flags:
        show_costs(**cost_options, as_json=as_json)
    else:
        _show_names(kind, as_json=as_json)
    if not as_json:
        echo_next(command_line(*_next_words(kind, name)))


_NEXT_WORDS = {
    None: "list adapters",
    "adapters": "list adapters st-adapter",
    "heads": "list heads otam",
    "splits": "episodes show motions",
    "encoders": "list adapters --encoder ViT-B-16",
    "configs": "config show quickstart",
    "starts": "train",
}
"""By kind of what was listed: arguments of the next useful command."""


def _next_words(kind: str | None, name: str | None) -> list[str]:
    """Arguments of the next useful command."""
    if kind == "starts" and (starts := names_of_starts()):
        return ["evaluate", "--start", starts[0]]
    if name is None:
        return _NEXT_WORDS[kind].split()
    if kind == "heads":
        return ["evaluate", "--head", name]
    return ["evaluate", "--adapter", "frozen", "--adapter", name]


def _show_names(kind: str | None, *, as_json: bool) -> None:
    kinds = [kind] if kind else [name for name in _ENTRIES_BY_KIND if name != "encoders"]
    entries_by_kind = {kind_name: _ENTRIES_BY_KIND[kind_name]() for kind_name in kinds}
    if as_json:
        echo_json(entries_by_kind[kind] if kind else entries_by_kind)
        return
    for kind_name, entries in entries_by_kind.items():
        if not kind:
            click.echo(f"{kind_name}:")
        if not entries:
            click.echo(f"{'' if kind else '  '}(no {kind_name} are shipped)", err=bool(kind))
        echo_columns([(entry["name"], entry["summary"]) for entry in entries], "" if kind else "  ")
    for kind_name in ("adapters", "heads"):
        if broken := [e["name"] for e in entries_by_kind.get(kind_name, []) if e["problem"]]:
            check = f"`fewshot-i2v check-{kind_name[:-1]} FILE` says more"
            click.echo(f"\n{len(broken)} of the {kind_name} are broken; {check}", err=True)
    if kind == "encoders":
        encoders = entries_by_kind[kind]
        n_adaptable = sum(encoder["adaptable"] for encoder in encoders)
        click.echo(
            f"\n{n_adaptable} of {len(encoders)} take every adapter, the others frozen alone",
            err=True,
        )


# by key of the JSON output: the member that it shows, and its words in the text
