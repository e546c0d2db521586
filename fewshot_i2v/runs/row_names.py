"""Names of rows: in a comparison, and what tells rows of the same name in a table apart."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from fewshot_i2v.runs.row_summary import FRESH, UNTUNED_NOTE, RowSummary
from fewshot_i2v.utils.text_table import escape_name

LONGEST_HEAD = 400
"""Characters of the label of a head where it is written out."""
_MAX_KEYS = 3
_EMPTY_VALUES = {"batch": "all"}


def adapter_name(row: RowSummary) -> str:
    """Label of the adapter as one printable line, with its note behind it in brackets."""
    return escape_name(row.adapter) + (f" ({escape_name(row.note)})" if row.note else "")


def row_notes(row: RowSummary) -> list[str]:
    """Notes of a row, each as printable text."""
    return [escape_name(note) for note in row.note.split(", ") if note]


def number_duplicates(names: Iterable[tuple[str, str]]) -> list[str]:
    """Number the shown texts that are equal although their names differ, as where they were cut.

    Each pair is a name and the text that is shown for it.
    """
    names = list(names)
    numbers: dict[str, dict[str, int]] = defaultdict(dict)
    for name, shown in names:
        numbers[shown].setdefault(name, len(numbers[shown]) + 1)
    return [
        shown if len(numbers[shown]) == 1 else f"{shown} ({numbers[shown][name]})"
        for name, shown in names
    ]


def display_names(rows: Sequence[RowSummary]) -> list[str]:
    """Display name of each row of a comparison: its adapter and whatever else distinguishes it.

    Rows of one adapter with different tuning have the difference in their names, at whatever
    shot and head, since it matters to results as an option of the adapter does.
    """
    heads = _head_texts(rows)
    started_adapters = {row.adapter for row in rows if row.start != FRESH}
    names = []
    for row, tuning, head in zip(rows, _tuning_differences(rows), heads, strict=True):
        start = f" from {escape_name(row.start_name or row.start)}" if row.start != FRESH else ""
        start += " (seen)" if row.seen else ""
        if row.start == FRESH and row.adapter in started_adapters:
            start = " fresh"
        names.append(adapter_name(row) + start + head + (f" ({tuning})" if tuning else ""))
    for folders in ([str(row.folder.parent) for row in rows], [row.folder.name for row in rows]):
        labels = [(name, row.shot) for name, row in zip(names, rows, strict=True)]
        folders_of: dict[Hashable, set[str]] = defaultdict(set)
        for label, folder in zip(labels, folders, strict=True):
            folders_of[label].add(folder)
        # a folder that all rows of a name have tells none of them apart
        names = [
            f"{label[0]} ({folder})" if len(folders_of[label]) > 1 else label[0]
            for label, folder in zip(labels, folders, strict=True)
        ]
    return names


def _head_texts(rows: Sequence[RowSummary]) -> list[str]:
    """What names of rows say of their heads: nothing where all have the same.

    A long label is cut, unless another one is the same then.
    """
    labels = {row.head for row in rows}
    if len(labels) < 2:
        return [""] * len(rows)
    counts = Counter(map(escape_name, labels))
    return [
        f" with {escape_name(row.head, LONGEST_HEAD)}"
        if counts[escape_name(row.head)] > 1
        else f" with {escape_name(row.head)}"
        for row in rows
    ]


def shorten_head(name: str, head: str, short: str) -> str:
    """Replace the label of the head in a display name of `display_names` by a short name.

    Nothing is left of it where `short` is empty.
    """
    for text in (escape_name(head, LONGEST_HEAD), escape_name(head)):
        if f" with {text}" in name:
            return name.replace(f" with {text}", f" with head {short}" if short else "", 1)
    return name


def _tuning_differences(rows: Sequence[RowSummary]) -> list[str]:
    """For each row the keys of its tuning that differ between rows of its adapter, as text.

    A recipe has other values for another start or number of shots: this is no difference.
    """
    tunings = [row.config.get("tuning", {}) for row in rows]
    tuned = [row.adapter for row, tuning in zip(rows, tunings, strict=True) if _is_tuned(tuning)]
    recipes: dict[str, set[str]] = defaultdict(set)
    groups: list[Hashable] = []
    for row, tuning in zip(rows, tunings, strict=True):
        if _is_tuned(tuning):
            recipes[row.adapter].add(tuning.get("recipe", ""))
    for row, tuning in zip(rows, tunings, strict=True):
        is_recipe = len(recipes[row.adapter]) == 1 and "" not in recipes[row.adapter]
        setting = (row.start, row.start_name, row.shot) if is_recipe else ()
        # without steps the other keys have no effect
        groups.append((row.adapter, _is_tuned(tuning) or row.adapter not in tuned, setting))
    tunings_by_group: dict[Hashable, list[Mapping[str, Any]]] = defaultdict(list)
    for group, tuning in zip(groups, tunings, strict=True):
        tunings_by_group[group].append(tuning)
    differing = {
        group: _differing_keys(group_tunings) for group, group_tunings in tunings_by_group.items()
    }
    texts = []
    for row, group, tuning in zip(rows, groups, tunings, strict=True):
        untuned = row.adapter in tuned and not _is_tuned(tuning)
        text = UNTUNED_NOTE if untuned else _tuning_text(tuning, differing[group])
        # a frozen row with nothing to train is the same under any tuning
        texts.append("" if row.is_frozen and not row.parameters else text)
    return texts


def _is_tuned(tuning: Mapping[str, Any]) -> bool:
    return tuning.get("steps") != 0


def _differing_keys(tunings: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = {key for tuning in tunings for key in tuning}
    return sorted(
        key for key in keys if any(tuning.get(key) != tunings[0].get(key) for tuning in tunings)
    )


def _value_text(tuning: Mapping[str, Any], key: str) -> str:
    """Writes the value of a key of tuning, also of one that is absent for it has its default."""
    value = tuning.get(key)
    if key not in tuning:
        # on demand: reading records needs no configuration
        from fewshot_i2v.config.absent_keys import values_of_absent_keys

        value = values_of_absent_keys().get(f"config.tuning.{key}")
    # a default of nothing reads as a switch
    is_off = value is None or (key not in tuning and not isinstance(value, str))
    return str(_EMPTY_VALUES.get(key, "off") if is_off else value)


def _tuning_text(tuning: Mapping[str, Any], keys: Sequence[str]) -> str:
    phrases = [f"{key} {_value_text(tuning, key)}" for key in keys[:_MAX_KEYS]]
    suffix = f" and {len(keys) - _MAX_KEYS} more" if len(keys) > _MAX_KEYS else ""
    return escape_name(", ".join(phrases)) + suffix


def name_rows(rows: Sequence[RowSummary]) -> list[RowSummary]:
    """Name the starts of a table's rows, and note what distinguishes rows of the same name.

    The note is the name of the evaluation's folder, how the tuning differs, or the name of the run
    folder.
    """
    rows = name_starts(rows)
    keys = [str(row.folder) if row.training_seed is None else row.seed_group_key for row in rows]
    rows_by_name: dict[Hashable, dict[Hashable, RowSummary]] = defaultdict(dict)
    for key, row in zip(keys, rows, strict=True):
        rows_by_name[row.names].setdefault(key, row)
    notes = {
        key: note
        for same_name_rows in rows_by_name.values()
        for key, note in _differing_notes(same_name_rows).items()
    }
    return [
        replace(row, note=", ".join(filter(None, [row.note, notes.get(key, "")])))
        for key, row in zip(keys, rows, strict=True)
    ]


def _differing_notes(rows: Mapping[Hashable, RowSummary]) -> dict[Hashable, str]:
    if len(rows) < 2:
        return {}
    parents = {key: row.folder.parent.name for key, row in rows.items()}
    if len(set(parents.values())) == len(parents):
        return parents
    tunings = {key: row.config["tuning"] for key, row in rows.items()}
    names = _differing_keys([tuning for tuning in tunings.values() if _is_tuned(tuning)])
    tuning_notes = {
        key: ", ".join(f"{n} {_value_text(t, n)}" for n in names) if _is_tuned(t) else UNTUNED_NOTE
        for key, t in tunings.items()
    }
    if len(set(tuning_notes.values())) == len(tuning_notes):
        return tuning_notes
    return {key: row.folder.name for key, row in rows.items()}


def name_starts(rows: Sequence[RowSummary]) -> list[RowSummary]:
    """Name the starts of rows, those of one evaluation, adapter and name by their paths."""
    starts = []
    for row in rows:
        group = str(row.folder.parent.resolve()), json.dumps(row.config["adapter"], sort_keys=True)
        marked_start = row.header.get("marks", {}).get("start") or {}
        path = (row.header.get("start") or {}).get("path", "")
        starts.append((group, marked_start.get("name", ""), path))
    return [
        replace(row, start_name=name) for row, name in zip(rows, start_names(starts), strict=True)
    ]


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
    if folder_path[-len(name_path) :] != name_path == parent_path[-len(name_path) :]:
        return parent_path
    return folder_path


def _unique_suffix(path: tuple[str, ...], paths: set[tuple[str, ...]]) -> str:
    """Shortest suffix of a path that no other path has."""
    unique_lengths = (
        n for n in range(1, len(path)) if sum(other[-n:] == path[-n:] for other in paths) == 1
    )
    return str(PurePath(*path[-next(unique_lengths, len(path)) :]))
