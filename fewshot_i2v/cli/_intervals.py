"""`show --intervals`: what the accuracies of a run say of other clips, classes and seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fewshot_i2v.cli._common import echo_json
from fewshot_i2v.cli._runs import Header, facts_of, group_key, place_of, run_folders, title_of
from fewshot_i2v.cli._same_rows import check_seeds, names_of_starts, row_key

if TYPE_CHECKING:
    from fewshot_i2v._record_lines import RecordLines
    from fewshot_i2v.report.reach import Groups, Reach


@dataclass(frozen=True, eq=False)
class _Row:
    """One row: a run folder for each of its training seeds."""

    headers: list[Header]
    records: list[RecordLines]
    folder: Path
    start: str = ""

    @property
    def facts(self) -> dict[str, Any]:
        return facts_of(self.headers[0])

    @property
    def frozen(self) -> bool:
        return str(self.facts["adapter"]).partition(":")[0] == "frozen"

    @property
    def shared(self) -> bool:
        """Whether episodes may have clips in common."""
        from fewshot_i2v.results import share_clips

        if not self.headers[0].get("marks", {}).get("disjoint"):
            return True
        return share_clips(self.records[0].values())

    def good(self) -> frozenset[int]:
        """Episodes that succeeded with every seed."""
        return frozenset.intersection(*(frozenset(one) - one.failed for one in self.records))

    def name(self, *, heads: bool) -> str:
        """What it is called in a table; the head is named where rows differ in it."""
        from fewshot_i2v.report.terminal import escaped

        start = f" from {escaped(self.start)}" if self.start else ""
        head = f" with {escaped(self.facts['head'])}" if heads else ""
        return escaped(self.facts["adapter"]) + start + head


def show_intervals(run: Path, split: str | None, *, as_json: bool) -> None:
    """Writes the intervals of all rows.

    Args:
        run: a run folder or a folder with some.
        split: name or path of the split, for the groups of its clips; None: where the runs found
            it.
        as_json: whether to write JSON, one object per table.

    Raises:
        UsageError: when there is no run folder, or `split` is not that of the runs.
    """
    from fewshot_i2v.report.reach import reach_text

    tables = []
    for i, rows in enumerate(_tables(run)):
        groups = _groups(rows, split)
        accuracies, gains = _reaches(rows, groups)
        title = title_of(rows[0].headers[0], rows[0].headers[0]["identity"]["config"]["way"])
        if as_json:
            tables.append(
                {
                    "title": title,
                    "rows": [one.to_dict() for one in accuracies],
                    "over_frozen": [one.to_dict() for one in gains],
                }
            )
        elif not accuracies:
            click.echo(("\n" if i else "") + f"{title}\n\nno episode succeeded yet")
        else:
            click.echo(("\n" if i else "") + f"{title}\n\n{reach_text(accuracies, gains)}")
    if as_json:
        echo_json(tables)


def _tables(run: Path) -> Iterator[list[_Row]]:
    """The rows of each table, one table at a time."""
    from fewshot_i2v._header import read_header

    alike: dict[tuple[str, str], list[tuple[Header, Path]]] = defaultdict(list)
    for folder in run_folders(run):
        header = read_header(folder / "run.json") or {}
        alike[str(folder.parent), group_key(header)].append((header, folder))
    for found in alike.values():
        found.sort(key=lambda pair: place_of(pair[0], facts_of(pair[0])["adapter"], pair[1]))
        yield _rows(found)


def _rows(found: Sequence[tuple[Header, Path]]) -> list[_Row]:
    """Rows, those that differ in the training seed alone as one."""
    from fewshot_i2v.records import read_run

    check_seeds(found)
    rows: dict[str | Path, _Row] = {}
    for header, folder in found:
        one = facts_of(header)["training_seed"] is None
        row = rows.setdefault(folder if one else row_key(header, folder), _Row([], [], folder))
        row.headers.append(header)
        row.records.append(read_run(folder).records)
    names = names_of_starts([(row.headers[0], row.folder) for row in rows.values()])
    return [replace(row, start=name) for row, name in zip(rows.values(), names, strict=True)]


def _reaches(rows: Sequence[_Row], groups: Groups | None) -> tuple[list[Reach], list[Reach]]:
    """Of the accuracy of each row, and of its gain over the frozen encoder."""
    from fewshot_i2v.errors import UsageError
    from fewshot_i2v.report.reach import reach
    from fewshot_i2v.statistics import Outcomes

    @cache
    def _outcomes(row: _Row, indices: frozenset[int]) -> list[Outcomes]:
        chosen = sorted(indices)
        return [Outcomes.from_records(records.read(chosen)) for records in row.records]

    heads = len({row.facts["head"] for row in rows}) > 1
    accuracies, gains = [], []
    for row in rows:
        name, shot, good = row.name(heads=heads), row.facts["shot"], row.good()
        if not good:
            continue
        of = partial(reach, name, shot, groups=groups, shared=row.shared)
        accuracies.append(of(_outcomes(row, good)))
        frozen = next((other for other in rows if _is_frozen_of(other, row)), None)
        both = good & frozen.good() if frozen else frozenset()
        if frozen and both:
            against = _outcomes(frozen, both)
            try:
                gains.append(of(_outcomes(row, both), against=against))
            except UsageError as error:
                raise UsageError(f"{row.folder} and {frozen.folder}: {error}") from error
    return accuracies, gains


def _is_frozen_of(other: _Row, row: _Row) -> bool:
    same = all(other.facts[key] == row.facts[key] for key in ("head", "shot"))
    return other.frozen and not row.frozen and same


def _groups(rows: Sequence[_Row], split: str | None) -> Groups | None:
    """The groups of the clips; None where they have none, or the split is not to be found."""
    from fewshot_i2v.errors import UsageError
    from fewshot_i2v.filmstrips import Places, find_split
    from fewshot_i2v.report.reach import Groups

    try:
        found = find_split(rows[0].headers[0], Places(split))
    except UsageError:
        if split is not None:
            raise
        click.echo(
            "note: the split of the run is not to be found, so groups of clips are not looked at; "
            "give it with --split",
            err=True,
        )
        return None
    subset = rows[0].headers[0]["identity"]["config"]["subset"]
    subsets = ("train", "test") if subset == "test" and "train" in found.subsets else (subset,)
    of = {
        clip.name: clip.group
        for one in subsets
        for name in found.classes(one)
        for clip in found.clips(one, name)
    }
    grouped = {name: group for name, group in of.items() if group is not None}
    # one group per clip says nothing that the clips do not
    if len(grouped) < len(of) or len(set(grouped.values())) == len(grouped):
        return None
    return Groups(grouped, found.group_scope)
