"""What commands that read runs share: which run folders there are, and what their rows are."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fewshot_i2v.cli._same_rows import row_key

if TYPE_CHECKING:
    from fewshot_i2v._stopped import Stopped
    from fewshot_i2v.records import RunData
    from fewshot_i2v.results import RowResult, Sums

# Rows that differ in anything else do not belong in one table.
_ROW_KEYS = ("adapter", "start", "head", "shot", "tuning", "training_seed")
Header = dict[str, Any]


class RunPath(click.Path):
    """A folder with runs in it: what `evaluate` wrote to its `--output`."""

    name = "run folder"

    def __init__(self) -> None:
        """A folder that is there."""
        super().__init__(exists=True, file_okay=False, path_type=Path)

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Path:
        """The folder; where there is none, the error says where the usual one would be."""
        given, usual = Path(value), Path("runs") / value
        if not given.exists():
            hint = f"; did you mean {usual}?" if usual.is_dir() else ""
            self.fail(
                f"{given}: no such folder; expected the --output of an evaluation{hint}", param, ctx
            )
        super().convert(value, param, ctx)
        return given


several_runs = click.argument(
    "runs",
    metavar="RUN...",
    nargs=-1,
    required=True,
    type=RunPath(),
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
    from fewshot_i2v.results import Sums

    run = read_run(folder)
    sums = Sums(run.header.get("marks", {}))
    for record in run.records.values():
        sums.add(record)
    return run, row_of(run.header, folder, sums)


def row_of(header: Header, folder: Path, sums: Sums) -> RowResult:
    """The row that a run folder is, once its records are summed up."""
    facts, parameters = facts_of(header), header.get("parameters", 0)
    return sums.row(**facts, parameters=parameters, folder=folder, key=row_key(header, folder))


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


def stopped_of(rows: Sequence[tuple[Path, int]]) -> Stopped | None:
    """How an evaluation ended that drew episodes until its means were known well enough.

    Args:
        rows: the run folder of each row, and how many episodes it has, failed ones among them.

    Returns:
        None where it is not one, is not finished, or has other episodes by now.

    Raises:
        RecordError: when a summary is damaged.
    """
    from fewshot_i2v._header import read_object
    from fewshot_i2v._stopped import Stopped
    from fewshot_i2v.errors import RecordError

    found = []
    for folder, episodes in rows:
        path = folder / "summary.json"
        advice = "Delete it: the command that wrote the run writes it again"
        summary = read_object(path, advice)
        if summary is None:  # it was never finished
            return None
        try:
            found.append(Stopped.from_summary(summary.get("until"), episodes))
        except ValueError as error:
            raise RecordError(f"{path}: damaged: {error}. {advice}") from error
    return found[0] if found and all(one == found[0] for one in found) else None
