"""Rows of a comparison: their display names, and the baseline of each."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot_i2v.errors import UnknownNameError, UsageError
from fewshot_i2v.report.tables.terminal import adapter_name
from fewshot_i2v.runs.fast_reader import EpisodeAnswer
from fewshot_i2v.runs.row_summary import FRESH, TableRow, is_frozen
from fewshot_i2v.runs.run_index import (
    RunHeader,
    check_duplicate_seeds,
    find_run_folders,
    row_labels,
    row_order,
    seed_group_key,
    start_display_names,
    table_key,
    table_title,
)
from fewshot_i2v.utils.text_table import escape_name

if TYPE_CHECKING:
    from fewshot_i2v.runs.fast_reader import CachedEpisode, EpisodeAnswer

_MAX_KEYS = 3
_EMPTY_VALUES = {"batch": "all"}
_ADVICE = "give --baseline with the name or folder of one of the rows, or --all-pairs"


@dataclass(frozen=True, eq=False)
class ComparedRow:
    """One row of a comparison.

    Attributes:
        table_row: adapter, head, shot and the notes on them.
        folder: the run folder; that of the first training seed where there are several.
        identity: the settings that decide the results, as in `run.json`.
        answers: by episode number.
        title: the setting in words; rows of one setting share a table.
        setting_key: equal for rows that differ only in adapter, start, head, shot and tuning.
        n_seeds: number of training seeds that the answers are the mean of.
        disjoint: whether episodes were drawn so that they share no clip.
    """

    table_row: TableRow
    folder: Path
    identity: Mapping[str, Any] = field(repr=False)
    answers: Mapping[int, EpisodeAnswer] = field(repr=False)
    title: str
    setting_key: str = field(repr=False)
    n_seeds: int = 1
    disjoint: bool = False

    @property
    def split(self) -> str:
        """Name of the split."""
        return str(self.identity["config"]["split"])


RowPair = tuple[ComparedRow, ComparedRow]


def display_names(rows: Sequence[ComparedRow]) -> dict[ComparedRow, str]:
    """Display name of each row: its adapter and whatever else distinguishes it.

    Rows of one adapter with different tuning have the difference in their names, at whatever
    shot and head, since it matters to results as an option of the adapter does.
    """
    table_rows = [member.table_row for member in rows]
    tuning_texts = _tuning_differences(rows)
    several_heads = len({row.head for row in table_rows}) > 1
    started_adapters = {row.adapter for row in table_rows if row.start != FRESH}
    names = []
    for row, tuning in zip(table_rows, tuning_texts, strict=True):
        start = f" from {escape_name(row.start_name or row.start)}" if row.start != FRESH else ""
        start += " (seen)" if row.seen else ""
        if row.start == FRESH and row.adapter in started_adapters:
            start = " fresh"
        head = f" with {escape_name(row.head)}" if several_heads else ""
        names.append(adapter_name(row) + start + head + (f" ({tuning})" if tuning else ""))
    for folder_of in (_parent_folder, _folder_name):
        counts = Counter(zip(names, (row.shot for row in table_rows), strict=True))
        names = [
            f"{name} ({folder_of(member)})" if counts[name, member.table_row.shot] > 1 else name
            for name, member in zip(names, rows, strict=True)
        ]
    return dict(zip(rows, names, strict=True))


def _tuning_differences(rows: Sequence[ComparedRow]) -> list[str]:
    """For each row the keys of its tuning that differ between rows of its adapter, as text."""
    tunings_by_adapter: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        tunings_by_adapter.setdefault(row.table_row.adapter, []).append(
            row.identity["config"].get("tuning", {})
        )
    differing = {
        adapter: sorted(
            key
            for key in {key for tuning in tunings for key in tuning}
            if any(tuning.get(key) != tunings[0].get(key) for tuning in tunings)
        )
        for adapter, tunings in tunings_by_adapter.items()
    }
    return [_tuning_text(row, differing[row.table_row.adapter]) for row in rows]


def _tuning_text(row: ComparedRow, keys: Sequence[str]) -> str:
    tuning = row.identity["config"].get("tuning", {})
    phrases = []
    for key in keys[:_MAX_KEYS]:
        value = tuning.get(key)
        phrases.append(f"{key} {_EMPTY_VALUES.get(key, 'off') if value is None else value}")
    suffix = f" and {len(keys) - _MAX_KEYS} more" if len(keys) > _MAX_KEYS else ""
    return escape_name(", ".join(phrases)) + suffix


def _parent_folder(row: ComparedRow) -> str:
    return str(row.folder.parent)


def _folder_name(row: ComparedRow) -> str:
    return row.folder.name


def all_pairs(rows: Sequence[ComparedRow]) -> list[RowPair]:
    """Pair every two rows of the same shot, the later one first.

    Raises:
        UsageError: when there are no two rows of one shot.
    """
    pairs = [
        (later, earlier)
        for earlier, later in combinations(rows, 2)
        if earlier.table_row.shot == later.table_row.shot
    ]
    if not pairs:
        raise UsageError(
            f"nothing to compare: {_folders_text(rows)}; expected two rows of one shot"
        )
    return pairs


def pairs_with_frozen(rows: Sequence[ComparedRow]) -> tuple[list[RowPair], list[ComparedRow]]:
    """Pair each row with the row of the frozen encoder that has the same head and shot.

    Args:
        rows: in the order to show them. If there are only two, of one shot and both or neither of
            them frozen, they are compared with each other, the first one as the baseline.

    Returns:
        The pairs, and the rows that have no such baseline.

    Raises:
        UsageError: when no row has one, or one has several that are equally near.
    """
    frozen = [row for row in rows if is_frozen(row.table_row)]
    if len(frozen) != 1 and len(rows) == 2 and len({row.table_row.shot for row in rows}) == 1:
        return [(rows[1], rows[0])], []
    if not frozen:
        raise UsageError(f"no row of the adapter frozen among {_folders_text(rows)}; {_ADVICE}")
    return _pair_with_nearest(rows, frozen, any_head=False)


def pairs_with_baseline(
    rows: Sequence[ComparedRow], baseline: str, folder: Path | None
) -> tuple[list[RowPair], list[ComparedRow]]:
    """Pair each row with a named baseline.

    Args:
        rows: in the order to show them.
        baseline: an adapter, a row as the table calls it, or the name of a run folder.
        folder: the folder of `baseline`, where it is one: a run folder or a parent of some.

    Returns:
        The pairs, and the rows that have no baseline of their shot.

    Raises:
        UnknownNameError: when no row is called so.
        UsageError: when no row can be compared, or one has several that are equally near.
    """
    names = display_names(rows)
    if folder is None:
        baselines = [
            row for row in rows if baseline in (names[row], row.folder.name, *_adapter_names(row))
        ]
    else:
        baselines = [row for row in rows if folder.resolve() in _folder_and_parents(row.folder)]
    if not baselines:
        valid_names = {*names.values(), *(name for row in rows for name in _adapter_names(row))}
        raise UnknownNameError("baseline", baseline, valid_names)
    return _pair_with_nearest(rows, baselines, any_head=True)


def _adapter_names(row: ComparedRow) -> tuple[str, str]:
    """Name of the adapter with its options and without."""
    return row.table_row.adapter, row.table_row.adapter.partition(":")[0]


def _folder_and_parents(folder: Path) -> tuple[Path, ...]:
    resolved = folder.resolve()
    return (resolved, *resolved.parents)


def _pair_with_nearest(
    rows: Sequence[ComparedRow],
    baselines: Sequence[ComparedRow],
    *,
    any_head: bool,
) -> tuple[list[RowPair], list[ComparedRow]]:
    pairs, unpaired = [], []
    for row in rows:
        if row in baselines:
            continue
        nearest = _nearest_baselines(row, baselines, any_head=any_head)
        if len(nearest) > 1:
            names = display_names(rows)
            raise UsageError(
                f"{row.folder}: several rows could be its baseline: "
                + ", ".join(f"{names[candidate]!r} in {candidate.folder}" for candidate in nearest)
                + "; give --baseline with one of these names or folders"
            )
        pairs += [(row, match) for match in nearest]
        unpaired += [] if nearest else [row]
    # baselines that nothing was compared with, such as those of another split
    used = {match for _, match in pairs}
    unpaired += [candidate for candidate in baselines if candidate not in used]
    if not pairs and len(baselines) == len(rows) > 1:
        raise UsageError(
            f"nothing to compare: all of {_folders_text(baselines)} are what others would be "
            f"compared with; {_ADVICE}"
        )
    if not pairs:
        raise UsageError(
            f"nothing to compare with {_folders_text(baselines)}: no other row has the same shot"
            f"{'' if any_head else ' and head'}; {_ADVICE}"
        )
    return pairs, unpaired


def _nearest_baselines(
    row: ComparedRow, baselines: Iterable[ComparedRow], *, any_head: bool
) -> list[ComparedRow]:
    """Baselines of the same shot, narrowed down by what they have in common with the row."""
    candidates = [
        candidate for candidate in baselines if candidate.table_row.shot == row.table_row.shot
    ]
    if not any_head:
        candidates = [
            candidate for candidate in candidates if candidate.table_row.head == row.table_row.head
        ]
    keys: tuple[Callable[[ComparedRow], Hashable], ...] = (
        lambda candidate: candidate.table_row.head,
        lambda candidate: (
            candidate.table_row.adapter,
            candidate.table_row.start,
            candidate.table_row.start_name,
        ),
        lambda candidate: candidate.setting_key,
        lambda candidate: candidate.folder.parent,
    )
    for key in keys:
        if len(candidates) > 1:
            candidates = [
                candidate for candidate in candidates if key(candidate) == key(row)
            ] or candidates
    return candidates


def _folders_text(rows: Sequence[ComparedRow]) -> str:
    shown = [str(row.folder) for row in rows[:5]]
    suffix = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    return ", ".join(shown) + suffix


@dataclass(frozen=True)
class ComparedRun:
    """A run folder.

    Attributes:
        folder: the run folder.
        header: content of its `run.json`.
        answers: by episode number.
    """

    folder: Path
    header: RunHeader
    answers: dict[int, EpisodeAnswer]

    @cached_property
    def labels(self) -> dict[str, Any]:
        """Labels of adapter and head, shot and training seed."""
        return row_labels(self.header)

    @property
    def start(self) -> dict[str, Any]:
        """The starting point, as noted in the header; empty for a fresh one."""
        return self.header.get("marks", {}).get("start") or {}

    def sort_key(self) -> tuple[str, int, bool, Path]:
        """Sort key among all runs."""
        position = row_order(self.header, self.labels["adapter"], self.folder)
        return str(self.folder.parent), *position

    @property
    def seed_group(self) -> tuple[object, ...]:
        """Equal for runs that differ only in training seed."""
        if self.labels["training_seed"] is None:
            return (self.folder,)
        return (seed_group_key(self.header, self.folder),)


def read_compared_rows(folders: Sequence[Path]) -> list[ComparedRow]:
    """Read the rows of the folders, each once; rows of several training seeds are merged."""
    from fewshot_i2v.runs.fast_reader import read_answers

    episodes_by_digest: dict[bytes, CachedEpisode] = {}
    read_folders: set[Path] = set()
    runs_by_row: dict[tuple[object, ...], list[ComparedRun]] = defaultdict(list)
    for top_folder in folders:
        runs = [
            ComparedRun(folder, *read_answers(folder, episodes_by_digest))
            for folder in find_run_folders(top_folder)
            if folder.resolve() not in read_folders
        ]
        read_folders |= {run.folder.resolve() for run in runs}
        check_duplicate_seeds([(run.header, run.folder) for run in runs])
        for run in sorted(runs, key=ComparedRun.sort_key):
            runs_by_row[run.seed_group].append(run)
    row_runs = [*runs_by_row.values()]
    names = start_display_names([(runs[0].header, runs[0].folder) for runs in row_runs])
    return [_merge_seeds(runs, name) for runs, name in zip(row_runs, names, strict=True)]


def _merge_seeds(runs: Sequence[ComparedRun], start_name: str) -> ComparedRow:
    from fewshot_i2v.runs.fast_reader import average_seeds
    from fewshot_i2v.runs.row_summary import FRESH, TableRow

    first_run = runs[0]
    answers = average_seeds([run.answers for run in runs])
    display_flags, start = first_run.header.get("marks", {}), first_run.start
    row = TableRow(
        adapter=first_run.labels["adapter"],
        head=first_run.labels["head"],
        shot=first_run.labels["shot"],
        accuracies={
            index: answer.accuracy
            for index, answer in answers.items()
            if answer.accuracy is not None
        },
        note=display_flags.get("note", ""),
        uses_names=display_flags.get("uses_names", False),
        start=start.get("kind", FRESH),
        start_name=start_name,
        seen=bool(start.get("seen")),
        training_seed=None if len(runs) > 1 else first_run.labels["training_seed"],
    )
    identity = first_run.header["identity"]
    return ComparedRow(
        table_row=row,
        folder=first_run.folder,
        identity=identity,
        answers=answers,
        title=table_title(first_run.header, identity["config"]["way"]),
        setting_key=table_key(first_run.header),
        n_seeds=len(runs),
        disjoint=display_flags.get("disjoint", False),
    )
