"""Find starting points and the adapter of each, without loading any weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewshot_i2v.config.start_names import (
    FRESH,
    FROZEN_ADAPTER,
    METADATA_FILE,
    names_of_starts,
    start_folder,
)
from fewshot_i2v.errors import CheckpointError, ConfigError, UnknownNameError
from fewshot_i2v.utils.input_files import parse_json, read_regular

MAX_METADATA_BYTES = 64 << 20
"""Bytes of an `adapter.json` that are read: a starting point names every clip of its training."""


@dataclass(frozen=True)
class StartLocation:
    """One starting point on disk.

    Attributes:
        folder: with `adapter.json` and `adapter.safetensors`.
        adapter: name of its adapter.
        digest: sha256 of the tensors' file, as recorded in `adapter.json`.
    """

    folder: Path
    adapter: str
    digest: str


def find_starts(entry: str) -> dict[str, StartLocation]:
    """Find the starting points of a name or a path, by adapter.

    Args:
        entry: name of shipped ones, the folder of one, or a folder with the folders of several.

    Raises:
        UnknownNameError: for a name that is not shipped and no folder either.
        CheckpointError: for a folder without a starting point, a damaged one, and two for the same
            adapter.
    """
    folder = start_folder(entry)
    is_start = (folder / METADATA_FILE).is_file()
    start_folders = (
        [folder] if is_start else sorted(path.parent for path in folder.glob(f"*/{METADATA_FILE}"))
    )
    if not start_folders:
        if folder.exists() or "/" in entry:
            problem = (
                f"no {METADATA_FILE} in it or in a folder below"
                if folder.is_dir()
                else "no such folder"
            )
            raise CheckpointError(
                f"{entry}: {problem}; expected a starting point as `fewshot-i2v train` writes it, "
                "or the name of a shipped one "
                f"({', '.join(names_of_starts()) or 'none are shipped'})"
            )
        hint = "The path of a folder that `fewshot-i2v train` wrote works too."
        raise UnknownNameError("starting point", entry, [FRESH, *names_of_starts()], hint)
    by_adapter: dict[str, StartLocation] = {}
    for path_of_start in start_folders:
        location = _read_location(path_of_start)
        if location.adapter in by_adapter:
            raise CheckpointError(
                f"{entry}: holds two starting points for {location.adapter}, "
                f"{by_adapter[location.adapter].folder.name} and {path_of_start.name}; give the "
                "path of one of them"
            )
        by_adapter[location.adapter] = location
    return by_adapter


def find_start(entry: str, adapter: str) -> StartLocation:
    """Find the start of one adapter.

    Raises:
        UsageError: as `find_starts`, and when there is none for this adapter.
    """
    locations = find_starts(entry)
    if adapter not in locations:
        raise CheckpointError(
            f"{entry}: holds a starting point for {_quoted_list(locations)}; expected one for "
            f"{adapter!r}"
        )
    return locations[adapter]


def starts_by_adapter(
    adapters: Sequence[str], entries: Sequence[str]
) -> dict[str, dict[str, StartLocation | None]]:
    """Assign starting points to adapters.

    A path of one starting point goes to its adapter; a name or a folder of several must hold one
    for every adapter; the frozen encoder has nothing to start.

    Args:
        adapters: names of methods, in order; may repeat.
        entries: "fresh", names and paths.

    Returns:
        By adapter its entries, in order, with their locations; None for "fresh".

    Raises:
        UsageError: when an entry is for none of the adapters, lacks one, or there is none for an
            adapter; for the same starting point twice; and as `find_starts`.
    """
    by_entry = {entry: find_starts(entry) for entry in entries if entry != FRESH}
    adapter_names = list(dict.fromkeys(adapters))
    trainable = [name for name in adapter_names if name != FROZEN_ADAPTER]
    for entry, by_adapter in by_entry.items():
        mismatch = _mismatch(entry, by_adapter, trainable)
        if mismatch:
            raise ConfigError(mismatch)
    starts: dict[str, dict[str, StartLocation | None]] = {}
    for name in adapter_names:
        usable_entries: dict[str, StartLocation | None] = {
            e: by_entry[e][name] if e in by_entry else None
            for e in entries
            if e == FRESH or name in by_entry[e]
        }
        starts[name] = {FRESH: None} if name == FROZEN_ADAPTER else usable_entries
        if not starts[name]:
            raise ConfigError(
                f"start: none of {', '.join(entries)} is for the adapter {name!r}; add one that "
                f"is, or add {FRESH}"
            )
        _check_duplicates(name, starts[name])
    return starts


def _read_location(folder: Path) -> StartLocation:
    """Read adapter and digest from `adapter.json`; loading checks everything else."""
    path = folder / METADATA_FILE
    try:
        metadata = parse_json(read_regular(path, MAX_METADATA_BYTES))
        return StartLocation(
            folder, str(metadata["adapter"]["name"]), str(metadata["tensors"]["sha256"])
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: damaged: {error!r}") from error


def usable_starts(adapters: Iterable[str], entries: Sequence[str]) -> tuple[str, ...]:
    """The entries that these adapters can use; "fresh" if there is none.

    Raises:
        UnknownNameError, CheckpointError: as `find_starts`.
    """
    trainable = [name for name in dict.fromkeys(adapters) if name != FROZEN_ADAPTER]
    usable_entries = [
        entry
        for entry in entries
        if entry == FRESH or not _mismatch(entry, find_starts(entry), trainable)
    ]
    return tuple(usable_entries) or (FRESH,)


def _mismatch(entry: str, by_adapter: Mapping[str, StartLocation], trainable: Sequence[str]) -> str:
    """Say why these adapters cannot use an entry; empty if they can."""
    if not by_adapter.keys() & set(trainable):
        return (
            f"start {entry}: is for {_quoted_list(by_adapter)}; the adapters of this run that can "
            f"be started are {_quoted_list(trainable) or 'none'}. Give --adapter "
            f"{min(by_adapter)}, or --start {FRESH} to do without it"
        )
    is_single_start = start_folder(entry) in {location.folder for location in by_adapter.values()}
    missing = [name for name in trainable if name not in by_adapter]
    if missing and not is_single_start:
        return (
            f"start {entry}: holds starting points for {_quoted_list(by_adapter)}, and none for "
            f"{_quoted_list(missing)}; train one for each adapter of the run, leave that adapter "
            f"out, or give --start {FRESH} to do without starting points"
        )
    return ""


def _check_duplicates(adapter: str, starts: Mapping[str, StartLocation | None]) -> None:
    entry_by_digest: dict[str, str] = {}
    for entry, location in starts.items():
        if location is not None and location.digest in entry_by_digest:
            raise ConfigError(
                f"start: {entry_by_digest[location.digest]} and {entry} are the same starting "
                f"point for {adapter!r}; give it once"
            )
        if location is not None:
            entry_by_digest[location.digest] = entry


def _quoted_list(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
