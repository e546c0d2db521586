"""Find run folders and summarize their rows, for commands that read runs."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fewshot_i2v.runs.row_summary import RowResult, RowTotals
    from fewshot_i2v.runs.run_folder import RunData
    from fewshot_i2v.runs.stopping_record import StoppingRecord

    pass


def start_names(starts: Sequence[tuple[Hashable, str, str]]) -> list[str]:
    """Name of the starting point of each row: as it is named, or by its path.

    Args:
        starts: of each row a key that is equal for rows whose starts must be distinguished, the
            name of its start, and the folder that it was read from, empty where that is not known.

    Returns:
        The names; where several have the same one, as much of the end of their paths as is needed.
    """
    paths_by_name: dict[tuple[Hashable, str], set[tuple[str, ...]]] = defaultdict(set)
    for group, name, folder in starts:
        if folder:
            paths_by_name[group, name].add(_start_path(name, folder))
    return [
        _unique_suffix(_start_path(name, folder), paths_by_name[group, name])
        if folder and len(paths_by_name[group, name]) > 1
        else name
        for group, name, folder in starts
    ]


def _start_path(name: str, folder: str) -> tuple[str, ...]:
    """Path that the user named: the folder, or its parent that has several."""
    folder_path, name_path = PurePath(folder).parts, PurePath(name).parts
    parent_path = folder_path[:-1]
    return (
        parent_path
        if folder_path[-len(name_path) :] != name_path == parent_path[-len(name_path) :]
        else folder_path
    )


def _unique_suffix(path: tuple[str, ...], paths: set[tuple[str, ...]]) -> str:
    """Shortest suffix of a path that no other path has."""
    lengths = range(1, len(path))
    unique_lengths = (
        n for n in lengths if sum(other_path[-n:] == path[-n:] for other_path in paths) == 1
    )
    return str(PurePath(*path[-next(unique_lengths, len(path)) :]))


# Rows that differ in anything else do not belong in one table.
_ROW_CONFIG_KEYS = ("adapter", "start", "head", "shot", "tuning", "training_seed")
RunHeader = dict[str, Any]


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
        """Check the folder; if it is missing, the error suggests the usual location."""
        path, default_path = Path(value), Path("runs") / value
        if not path.exists():
            hint = f"; did you mean {default_path}?" if default_path.is_dir() else ""
            self.fail(
                f"{path}: no such folder; expected the --output of an evaluation{hint}", param, ctx
            )
        super().convert(value, param, ctx)
        return path


runs_argument = click.argument(
    "runs",
    metavar="RUN...",
    nargs=-1,
    required=True,
    type=RunPath(),
)
"""Run folders, or folders of some: the argument of commands that read several."""


def find_run_folders(folder: Path) -> list[Path]:
    """Find the run folders in a folder, by name.

    Args:
        folder: a run folder, or one with some in it at any depth.

    Raises:
        UsageError: when there is none.
    """
    from fewshot_i2v.errors import UsageError

    folders = sorted(path.parent for path in folder.rglob("run.json"))
    if not folders:
        raise UsageError(
            f"{folder}: no run.json in it or in a folder below; expected the --output of an "
            "evaluation"
        )
    return folders


def row_labels(header: RunHeader) -> dict[str, Any]:
    """Labels of a row from its header: adapter, head, shot and training seed."""
    from fewshot_i2v.config.method import MethodSpec

    config = header["identity"]["config"]
    return {
        "adapter": MethodSpec.model_validate(config["adapter"]).label,
        "head": MethodSpec.model_validate(config["head"]).label,
        "shot": config["shot"],
        "training_seed": config.get("training_seed"),
    }


def read_row(folder: Path) -> tuple[RunData, RowResult]:
    """A run folder with the row that it is.

    Raises:
        RecordError: when it is damaged.
    """
    from fewshot_i2v.runs.row_summary import RowTotals
    from fewshot_i2v.runs.run_folder import read_run

    run = read_run(folder)
    sums = RowTotals(run.header.get("marks", {}))
    for record in run.records.values():
        sums.add(record)
    return run, summarize_row(run.header, folder, sums)


def summarize_row(header: RunHeader, folder: Path, sums: RowTotals) -> RowResult:
    """Summarize a run folder as a row from the sums of its records."""
    labels, parameters = row_labels(header), header.get("parameters", 0)
    return sums.to_row(
        **labels, parameters=parameters, folder=folder, key=seed_group_key(header, folder)
    )


def table_key(header: RunHeader) -> str:
    """Equal for rows of one table."""
    identity = header["identity"]
    config = {
        config_key: value
        for config_key, value in identity["config"].items()
        if config_key not in _ROW_CONFIG_KEYS
    }
    table_facts = [config, *(identity.get(key) for key in ("split", "encoder", "trials"))]
    return json.dumps(table_facts, sort_keys=True)


def row_order(header: RunHeader, adapter: str, folder: Path) -> tuple[int, bool, Path]:
    """Sort key of a row: order in its run; across runs `frozen` first, by name."""
    return header.get("position", 0), adapter != "frozen", folder


def table_title(header: RunHeader, way: int | str) -> str:
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


def stopping_record_of(rows: Sequence[tuple[Path, int]]) -> StoppingRecord | None:
    """How an evaluation ended that drew episodes to a half-width.

    Args:
        rows: the run folder of each row, and its number of episodes, including failed ones.

    Returns:
        None for other or unfinished ones, and where episodes were added.

    Raises:
        RecordError: when a summary is damaged.
    """
    from fewshot_i2v.errors import RecordError
    from fewshot_i2v.runs.header import read_json_object
    from fewshot_i2v.runs.stopping_record import StoppingRecord

    stopping_records = []
    for folder, episodes in rows:
        path = folder / "summary.json"
        advice = "Delete it: the command that wrote the run writes it again"
        summary = read_json_object(path, advice)
        if summary is None:  # it was never finished
            return None
        try:
            stopping_records.append(StoppingRecord.from_summary(summary.get("until"), episodes))
        except ValueError as error:
            raise RecordError(f"{path}: damaged: {error}. {advice}") from error
    return (
        stopping_records[0]
        if stopping_records and all(record == stopping_records[0] for record in stopping_records)
        else None
    )


def seed_group_key(header: RunHeader, folder: Path) -> str:
    """Key of a row: equal for runs of one evaluation that differ only in the training seed."""
    identity = header["identity"]
    config = {key: value for key, value in identity["config"].items() if key != "training_seed"}
    return json.dumps(
        [str(folder.parent.resolve()), {**identity, "config": config}], sort_keys=True
    )


def start_display_names(rows: Sequence[tuple[RunHeader, Path]]) -> list[str]:
    """The display name of each row's starting point; empty for a fresh start.

    Starts of one evaluation and adapter with the same name are named by their paths.

    Args:
        rows: header and folder of each.
    """
    starts = []
    for header, folder in rows:
        adapter = json.dumps(header["identity"]["config"]["adapter"], sort_keys=True)
        start = header.get("marks", {}).get("start") or {}
        path = (header.get("start") or {}).get("path", "")
        starts.append(((str(folder.parent.resolve()), adapter), start.get("name", ""), path))
    return start_names(starts)


def check_duplicate_seeds(runs: Sequence[tuple[RunHeader, Path]]) -> None:
    """Refuse a row that occurs twice, such as a copy of its folder, which would count double.

    Raises:
        UsageError: naming both folders.
    """
    from fewshot_i2v.errors import UsageError

    folder_by_seed: dict[tuple[str, int], Path] = {}
    for header, folder in runs:
        seed = header["identity"]["config"].get("training_seed")
        if seed is None:
            continue
        first_folder = folder_by_seed.setdefault((seed_group_key(header, folder), seed), folder)
        if first_folder != folder:
            raise UsageError(
                f"{first_folder} and {folder} are one row with the same training seed {seed}, "
                "which would count twice; move one of them out of that folder"
            )


def distinguishing_notes(rows: Sequence[tuple[Hashable, RunHeader, Path]]) -> list[str]:
    """Notes that distinguish rows with the same name in a table; empty where not needed.

    Args:
        rows: name in the table, header and folder of each.

    Returns:
        For each row the name of its evaluation's folder, how its tuning differs, or the name of
        its run folder.
    """
    keys = [
        str(folder)
        if header["identity"]["config"].get("training_seed") is None
        else seed_group_key(header, folder)
        for _, header, folder in rows
    ]
    rows_by_name: dict[Hashable, dict[str, tuple[RunHeader, Path]]] = defaultdict(dict)
    for key, (name, header, folder) in zip(keys, rows, strict=True):
        rows_by_name[name].setdefault(key, (header, folder))
    notes = {
        key: note
        for same_name_rows in rows_by_name.values()
        for key, note in _differing_notes(same_name_rows).items()
    }
    return [notes.get(key, "") for key in keys]


def _differing_notes(rows: Mapping[str, tuple[RunHeader, Path]]) -> dict[str, str]:
    if len(rows) < 2:
        return {}
    parents = {key: folder.parent.name for key, (_, folder) in rows.items()}
    if len(set(parents.values())) == len(parents):
        return parents
    tunings = {key: header["identity"]["config"]["tuning"] for key, (header, _) in rows.items()}
    tuning_keys = {name for tuning in tunings.values() for name in tuning}
    differing_keys = sorted(
        n for n in tuning_keys if len({repr(t.get(n)) for t in tunings.values()}) > 1
    )
    tuning_notes = {
        key: ", ".join(f"{n} {t.get(n)}" for n in differing_keys) for key, t in tunings.items()
    }
    if len(set(tuning_notes.values())) == len(tuning_notes):
        return tuning_notes
    return {key: folder.name for key, (_, folder) in rows.items()}
