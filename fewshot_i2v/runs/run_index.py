"""What commands that read runs share: which run folders there are, and what their rows are."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fewshot_i2v.runs.row_summary import RowResult, Sums
    from fewshot_i2v.runs.run_folder import RunData
    from fewshot_i2v.runs.stopping_record import Stopped

    pass


def start_names(starts: Sequence[tuple[Hashable, str, str]]) -> list[str]:
    """What the starting point of each row is called: as it is named, or by its path.

    Args:
        starts: of each row something equal for rows whose starts must be told apart, the name of
            its start, and the folder that it was read from, empty where that is not known.

    Returns:
        The names; where several have the same one, as much of the end of their paths as is needed.
    """
    alike: dict[tuple[Hashable, str], set[tuple[str, ...]]] = defaultdict(set)
    for group, name, folder in starts:
        if folder:
            alike[group, name].add(_given(name, folder))
    return [
        _end(_given(name, folder), alike[group, name])
        if folder and len(alike[group, name]) > 1
        else name
        for group, name, folder in starts
    ]


def _given(name: str, folder: str) -> tuple[str, ...]:
    """Parts of the path that was named: the folder, or the one above it that has several."""
    parts, named = PurePath(folder).parts, PurePath(name).parts
    above = parts[:-1]
    return above if parts[-len(named) :] != named == above[-len(named) :] else parts


def _end(path: tuple[str, ...], others: set[tuple[str, ...]]) -> str:
    """The shortest end of a path that no other one has."""
    lengths = range(1, len(path))
    alone = (n for n in lengths if sum(other[-n:] == path[-n:] for other in others) == 1)
    return str(PurePath(*path[-next(alone, len(path)) :]))


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
    from fewshot_i2v.config.method import Choice

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
    from fewshot_i2v.runs.row_summary import Sums
    from fewshot_i2v.runs.run_folder import read_run

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
    from fewshot_i2v.errors import RecordError
    from fewshot_i2v.runs.header import read_object
    from fewshot_i2v.runs.stopping_record import Stopped

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


def row_key(header: Header, folder: Path) -> str:
    """Equal for the training seeds of one row: of one evaluation, and alike in all but the seed."""
    identity = header["identity"]
    config = {k: v for k, v in identity["config"].items() if k != "training_seed"}
    return json.dumps(
        [str(folder.parent.resolve()), {**identity, "config": config}], sort_keys=True
    )


def names_of_starts(rows: Sequence[tuple[Header, Path]]) -> list[str]:
    """What the starting point of each row is called; empty where it began fresh.

    Starts of one evaluation and adapter that have the same name are called by their paths.

    Args:
        rows: of each its header and its folder.
    """
    starts = []
    for header, folder in rows:
        adapter = json.dumps(header["identity"]["config"]["adapter"], sort_keys=True)
        start = header.get("marks", {}).get("start") or {}
        path = (header.get("start") or {}).get("path", "")
        starts.append(((str(folder.parent.resolve()), adapter), start.get("name", ""), path))
    return start_names(starts)


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
