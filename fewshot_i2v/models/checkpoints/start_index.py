"""Where starting points lie and which adapter each one is for, without loading any."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewshot_i2v.config.start_names import _INFO, FRESH, UNTRAINED, _folder, names_of_starts
from fewshot_i2v.errors import CheckpointError, ConfigError, UnknownNameError
from fewshot_i2v.utils.input_files import parse_json, read_regular

INFO_LIMIT = 64 << 20
"""Bytes of an `adapter.json` that are read: a starting point names every clip of its training."""


@dataclass(frozen=True)
class Place:
    """One starting point on disk.

    Attributes:
        folder: with `adapter.json` and `adapter.safetensors`.
        adapter: the method that it is for.
        digest: sha256 of the tensors' file, as `adapter.json` says.
    """

    folder: Path
    adapter: str
    digest: str


def places(entry: str) -> dict[str, Place]:
    """The starting points that a name or a path stands for, by adapter.

    Args:
        entry: name of shipped ones, the folder of one, or a folder with the folders of several.

    Raises:
        UnknownNameError: for a name that is not shipped and no folder either.
        CheckpointError: for a folder without a starting point, one that is damaged, and two for
            the same adapter.
    """
    folder = _folder(entry)
    own = (folder / _INFO).is_file()
    found = [folder] if own else sorted(path.parent for path in folder.glob(f"*/{_INFO}"))
    if not found:
        if folder.exists() or "/" in entry:
            what = f"no {_INFO} in it or in a folder below" if folder.is_dir() else "no such folder"
            raise CheckpointError(
                f"{entry}: {what}; expected a starting point as `fewshot-i2v train` writes it, or "
                f"the name of a shipped one ({', '.join(names_of_starts()) or 'none are shipped'})"
            )
        hint = "The path of a folder that `fewshot-i2v train` wrote works too."
        raise UnknownNameError("starting point", entry, [FRESH, *names_of_starts()], hint)
    out: dict[str, Place] = {}
    for each in found:
        place = _peek(each)
        if place.adapter in out:
            raise CheckpointError(
                f"{entry}: holds two starting points for {place.adapter}, "
                f"{out[place.adapter].folder.name} and {each.name}; give the path of one of them"
            )
        out[place.adapter] = place
    return out


def place_for(entry: str, adapter: str) -> Place:
    """The starting point of one adapter.

    Raises:
        UsageError: as `places`, and when there is none for this adapter.
    """
    found = places(entry)
    if adapter not in found:
        raise CheckpointError(
            f"{entry}: holds a starting point for {_listed(found)}; one for {adapter!r} is asked "
            "for"
        )
    return found[adapter]


def starts_by_adapter(
    adapters: Sequence[str], entries: Sequence[str]
) -> dict[str, dict[str, Place | None]]:
    """What each adapter of a run is started from.

    A path of one starting point goes to its adapter; a name or a folder of several must hold one
    for every adapter; the frozen encoder has nothing to start.

    Args:
        adapters: names of methods, in order; may repeat.
        entries: "fresh", names and paths.

    Returns:
        By adapter the entries that it runs from, in order, with their places; None for "fresh".

    Raises:
        UsageError: when an entry is for none of the adapters, lacks one, or there is none for an
            adapter; for the same starting point twice; and as `places`.
    """
    found = {entry: places(entry) for entry in entries if entry != FRESH}
    names = list(dict.fromkeys(adapters))
    trained = [name for name in names if name != UNTRAINED]
    for entry, by_adapter in found.items():
        _check_use(entry, by_adapter, trained)
    out: dict[str, dict[str, Place | None]] = {}
    for name in names:
        own: dict[str, Place | None] = {
            e: found[e][name] if e in found else None
            for e in entries
            if e == FRESH or name in found[e]
        }
        out[name] = {FRESH: None} if name == UNTRAINED else own
        if not out[name]:
            raise ConfigError(
                f"start: none of {', '.join(entries)} is for the adapter {name!r}; add one that "
                f"is, or add {FRESH}"
            )
        _check_once(name, out[name])
    return out


def _peek(folder: Path) -> Place:
    """Method and digest from `adapter.json`; everything else is checked when it is loaded."""
    path = folder / _INFO
    try:
        plain = parse_json(read_regular(path, INFO_LIMIT))
        return Place(folder, str(plain["adapter"]["name"]), str(plain["tensors"]["sha256"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: damaged: {error!r}") from error


def fitting(adapters: Iterable[str], entries: Sequence[str]) -> tuple[str, ...]:
    """The entries that a run of these adapters can use; "fresh" where there is none.

    Raises:
        UnknownNameError, CheckpointError: as `places`.
    """
    trained = [name for name in dict.fromkeys(adapters) if name != UNTRAINED]
    kept = [e for e in entries if e == FRESH or not _misfit(e, places(e), trained)]
    return tuple(kept) or (FRESH,)


def _check_use(entry: str, by_adapter: Mapping[str, Place], trained: Sequence[str]) -> None:
    """Refuses what no adapter of the run, or not every one, can be started from."""
    misfit = _misfit(entry, by_adapter, trained)
    if misfit:
        raise ConfigError(misfit)


def _misfit(entry: str, by_adapter: Mapping[str, Place], trained: Sequence[str]) -> str:
    """Why a run of some adapters cannot use an entry; empty when it can."""
    if not by_adapter.keys() & set(trained):
        return (
            f"start {entry}: is for {_listed(by_adapter)}; the adapters of this run that can be "
            f"started are {_listed(trained) or 'none'}. Give --adapter {min(by_adapter)}, or "
            f"--start {FRESH} to do without it"
        )
    single = _folder(entry) in {place.folder for place in by_adapter.values()}
    missing = [name for name in trained if name not in by_adapter]
    if missing and not single:
        return (
            f"start {entry}: holds starting points for {_listed(by_adapter)}, and none for "
            f"{_listed(missing)}; train one for each adapter of the run, leave that adapter out, "
            f"or give --start {FRESH} to do without starting points"
        )
    return ""


def _check_once(adapter: str, own: Mapping[str, Place | None]) -> None:
    seen: dict[str, str] = {}
    for entry, place in own.items():
        if place is not None and place.digest in seen:
            raise ConfigError(
                f"start: {seen[place.digest]} and {entry} are the same starting point for "
                f"{adapter!r}; give it once"
            )
        if place is not None:
            seen[place.digest] = entry


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
