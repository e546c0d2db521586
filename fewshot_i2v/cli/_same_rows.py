"""Which run folders are one row, and what tells rows apart that are called the same."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fewshot_i2v.cli._runs import Header


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
    from fewshot_i2v.report._start_names import start_names

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
