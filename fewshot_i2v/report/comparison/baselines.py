"""Rows of a comparison, and the baseline of each."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from fewshot_i2v.errors import UnknownNameError, UsageError
from fewshot_i2v.runs.prediction_reader import (
    PredictionReader,
    RecordedRow,
    check_seed_episodes,
    merge_recorded_seeds,
)
from fewshot_i2v.runs.repeated_rows import merge_repeated_frozen
from fewshot_i2v.runs.row_names import display_names, name_starts
from fewshot_i2v.runs.row_summary import check_duplicate_seeds
from fewshot_i2v.runs.run_index import find_run_folders, row_order, table_key

_ADVICE = "give --baseline with the name or folder of one of the rows, or --all-pairs"
RowPair = tuple[RecordedRow, RecordedRow]


def read_compared_rows(folders: Sequence[Path]) -> list[RecordedRow]:
    """Read the rows of the folders, each once; rows of several training seeds are merged."""
    reader, rows, read_folders = PredictionReader(), [], set[Path]()
    for top_folder in folders:
        new_rows = [
            reader.read(folder)
            for folder in find_run_folders(top_folder)
            if folder.resolve() not in read_folders
        ]
        read_folders |= {row.summary.folder.resolve() for row in new_rows}
        check_duplicate_seeds(row.summary for row in new_rows)
        rows += sorted(
            new_rows, key=lambda row: (str(row.summary.folder.parent), row_order(row.summary))
        )
    check_seed_episodes(rows)
    return with_start_names(merge_recorded_seeds(rows))


def with_start_names(rows: Sequence[RecordedRow]) -> list[RecordedRow]:
    """Name the starts of rows as `name_starts` does."""
    summaries = name_starts([row.summary for row in rows])
    return [replace(row, summary=summary) for row, summary in zip(rows, summaries, strict=True)]


def merge_repeated(rows: Sequence[RecordedRow]) -> list[RecordedRow]:
    """Merge rows of the frozen encoder that several runs recorded alike, beside other rows."""
    summaries = [row.summary for row in rows]
    if all(summary.is_frozen for summary in summaries):
        return list(rows)
    merged = merge_repeated_frozen(summaries, [row.predictions for row in rows])
    return [
        rows[i] if summary is rows[i].summary else replace(rows[i], summary=summary)
        for i, summary in merged.items()
    ]


def names_by_row(rows: Sequence[RecordedRow]) -> dict[RecordedRow, str]:
    """Display name of each row."""
    return dict(zip(rows, display_names([row.summary for row in rows]), strict=True))


def all_pairs(rows: Sequence[RecordedRow]) -> list[RowPair]:
    """Pair every two rows of the same shot, the later one first.

    Raises:
        UsageError: when there are no two rows of one shot.
    """
    pairs = [
        (later, earlier)
        for earlier, later in combinations(rows, 2)
        if earlier.summary.shot == later.summary.shot
    ]
    if not pairs:
        raise UsageError(
            f"nothing to compare: {_folders_text(rows)}; expected two rows of one shot"
        )
    return pairs


def pairs_with_frozen(rows: Sequence[RecordedRow]) -> tuple[list[RowPair], list[RecordedRow]]:
    """Pair each row with the row of the frozen encoder that has the same head and shot.

    If there are only two rows, of one shot and both or neither of them frozen, they are compared
    with each other, the first one as the baseline. Rows without a baseline are returned after the
    pairs.

    Raises:
        UsageError: when no row has one, or one has several that are equally near.
    """
    frozen = [row for row in rows if row.summary.is_frozen]
    if len(frozen) != 1 and len(rows) == 2 and len({row.summary.shot for row in rows}) == 1:
        return [(rows[1], rows[0])], []
    if not frozen:
        raise UsageError(f"no row of the adapter frozen among {_folders_text(rows)}; {_ADVICE}")
    return _pair_with_nearest(rows, frozen, any_head=False)


def pairs_with_baseline(
    rows: Sequence[RecordedRow], baseline: str, folder: Path | None
) -> tuple[list[RowPair], list[RecordedRow]]:
    """Pair each row with a named baseline.

    Args:
        rows: in the order to show them.
        baseline: an adapter, a row as the table calls it, or the name of a run folder.
        folder: the folder of `baseline`, where it is one: a run folder or a parent of some.

    Raises:
        UnknownNameError: when no row is called so.
        UsageError: when no row can be compared, or one has several that are equally near.
    """
    names = names_by_row(rows)
    if folder is None:
        baselines = [
            row
            for row in rows
            if baseline in (names[row], row.summary.folder.name, *_adapter_names(row))
        ]
    else:
        resolved = folder.resolve()
        baselines = [row for row in rows if row.summary.folder.resolve().is_relative_to(resolved)]
    if not baselines:
        valid_names = {*names.values(), *(name for row in rows for name in _adapter_names(row))}
        raise UnknownNameError("baseline", baseline, valid_names)
    return _pair_with_nearest(rows, baselines, any_head=True)


def _adapter_names(row: RecordedRow) -> tuple[str, str]:
    """Name of the adapter with its options and without."""
    return row.summary.adapter, row.summary.adapter.partition(":")[0]


def _pair_with_nearest(
    rows: Sequence[RecordedRow],
    baselines: Sequence[RecordedRow],
    *,
    any_head: bool,
) -> tuple[list[RowPair], list[RecordedRow]]:
    pairs, unpaired = [], []
    for row in rows:
        if row in baselines:
            continue
        nearest = _nearest_baselines(row, baselines, any_head=any_head)
        if len(nearest) > 1:
            names = names_by_row(rows)
            raise UsageError(
                f"{row.summary.folder}: several rows could be its baseline: "
                + ", ".join(
                    f"{names[candidate]!r} in {candidate.summary.folder}" for candidate in nearest
                )
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
    row: RecordedRow, baselines: Iterable[RecordedRow], *, any_head: bool
) -> list[RecordedRow]:
    """Baselines of the same shot, narrowed down by what they have in common with the row."""
    candidates = [
        candidate for candidate in baselines if candidate.summary.shot == row.summary.shot
    ]
    if not any_head:
        candidates = [
            candidate for candidate in candidates if candidate.summary.head == row.summary.head
        ]
    keys: tuple[Callable[[RecordedRow], Hashable], ...] = (
        lambda candidate: candidate.summary.head,
        lambda candidate: candidate.summary.class_texts,
        lambda candidate: (
            candidate.summary.adapter,
            candidate.summary.start,
            candidate.summary.start_name,
        ),
        lambda candidate: table_key(candidate.summary),
        lambda candidate: candidate.summary.folder.parent,
    )
    for key in keys:
        if len(candidates) > 1:
            candidates = [
                candidate for candidate in candidates if key(candidate) == key(row)
            ] or candidates
    return candidates


def _folders_text(rows: Sequence[RecordedRow]) -> str:
    shown = [str(row.summary.folder) for row in rows[:5]]
    suffix = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    return ", ".join(shown) + suffix
