"""What commands that read runs share: which run folders there are, and what their rows are."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fewshot_i2v.records import RunData
    from fewshot_i2v.results import RowResult

# Rows that differ in anything else do not belong in one table.
_ROW_KEYS = ("adapter", "start", "head", "shot", "tuning", "training_seed")
Header = dict[str, Any]

several_runs = click.argument(
    "runs",
    metavar="RUN...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
"""Run folders, or folders of some: the argument of commands that read several."""


def run_folders(place: Path) -> list[Path]:
    """The run folders in a folder or below it, by name.

    Args:
        place: a run folder, or a folder with some in it at any depth.

    Raises:
        UsageError: when there is none.
    """
    from fewshot_i2v.errors import UsageError

    folders = sorted(path.parent for path in place.rglob("run.json"))
    if not folders:
        raise UsageError(
            f"{place}: no run.json in it or in a folder below; expected the --output of an "
            "evaluation"
        )
    return folders


def facts_of(header: Header) -> dict[str, Any]:
    """What a row is, from its header: labels of adapter and head, shot and training seed."""
    from fewshot_i2v.config import Choice

    config = header["identity"]["config"]
    return {
        "adapter": Choice.model_validate(config["adapter"]).label,
        "head": Choice.model_validate(config["head"]).label,
        "shot": config["shot"],
        "training_seed": config.get("training_seed"),
    }


def read_row(folder: Path) -> tuple[RunData, RowResult]:
    """A run folder with the row that it is.

    Raises:
        RecordError: when it is damaged.
    """
    from fewshot_i2v.records import read_run
    from fewshot_i2v.results import RowResult

    run = read_run(folder)
    row = RowResult.from_records(
        run.records.values(),
        **facts_of(run.header),
        parameters=run.header.get("parameters", 0),
        marks=run.header.get("marks", {}),
        folder=folder,
        key=row_key(run.header, folder),
    )
    return run, row


def row_key(header: Header, folder: Path) -> str:
    """Equal for the training seeds of one row: of one evaluation, and alike in all but the seed."""
    identity = header["identity"]
    config = {k: v for k, v in identity["config"].items() if k != "training_seed"}
    return json.dumps(
        [str(folder.parent.resolve()), {**identity, "config": config}], sort_keys=True
    )


def check_seeds(folders: Sequence[tuple[Header, Path]]) -> None:
    """Refuses a row that is there twice, as a copy of its folder is, which would count double.

    Raises:
        UsageError: naming both folders.
    """
    from fewshot_i2v.errors import UsageError

    known: dict[tuple[str, int], Path] = {}
    for header, folder in folders:
        seed = header["identity"]["config"].get("training_seed")
        if seed is None:
            continue
        first = known.setdefault((row_key(header, folder), seed), folder)
        if first != folder:
            raise UsageError(
                f"{first} and {folder} are one row with the same training seed {seed}, which would "
                "count twice; move one of them out of that folder"
            )


def told_apart(rows: Sequence[tuple[Hashable, Header, Path]]) -> list[str]:
    """What tells rows apart that a table calls the same; empty where nothing has to.

    Args:
        rows: of each what the table calls it, its header and its folder.

    Returns:
        For each row the name of its evaluation's folder, how its tuning differs, or the name of its
        own folder.
    """
    keys = [
        str(folder)
        if header["identity"]["config"].get("training_seed") is None
        else row_key(header, folder)
        for _, header, folder in rows
    ]
    alike: dict[Hashable, dict[str, tuple[Header, Path]]] = defaultdict(dict)
    for key, (name, header, folder) in zip(keys, rows, strict=True):
        alike[name].setdefault(key, (header, folder))
    notes = {key: note for found in alike.values() for key, note in _differing(found).items()}
    return [notes.get(key, "") for key in keys]


def _differing(found: Mapping[str, tuple[Header, Path]]) -> dict[str, str]:
    if len(found) < 2:
        return {}
    parents = {key: folder.parent.name for key, (_, folder) in found.items()}
    if len(set(parents.values())) == len(parents):
        return parents
    tunings = {key: header["identity"]["config"]["tuning"] for key, (header, _) in found.items()}
    names = {name for tuning in tunings.values() for name in tuning}
    differ = sorted(n for n in names if len({repr(t.get(n)) for t in tunings.values()}) > 1)
    texts = {key: ", ".join(f"{n} {t.get(n)}" for n in differ) for key, t in tunings.items()}
    if len(set(texts.values())) == len(texts):
        return texts
    return {key: folder.name for key, (_, folder) in found.items()}


def group_key(header: Header) -> str:
    """Equal for rows that belong in one table."""
    identity = header["identity"]
    config = {k: v for k, v in identity["config"].items() if k not in _ROW_KEYS}
    parts = [config, *(identity.get(key) for key in ("split", "encoder", "trials"))]
    return json.dumps(parts, sort_keys=True)


def place_of(header: Header, adapter: str, folder: Path) -> tuple[int, bool, Path]:
    """Where a row stands: in the order of its run; beside other runs `frozen` first, by name."""
    return header.get("position", 0), adapter != "frozen", folder


def title_of(header: Header, way: int | str) -> str:
    """The setting of a table in words.

    Args:
        header: of one of its rows.
        way: classes of an episode.
    """
    config = header["identity"]["config"]
    return (
        f"split {config['split']} ({config['subset']}), {way}-way, "
        f"{config['query']} query clips per class, seed {config['seed']}, "
        f"encoder {config['encoder']['name']}, {config['video']['frames']} frames"
    )
