"""`fewshot-i2v show`: the table of a finished or running evaluation, from its records alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fewshot_i2v.cli._common import echo_json
from fewshot_i2v.evaluation.results import EvaluationResult
from fewshot_i2v.runs.row_summary import RowResult
from fewshot_i2v.runs.run_index import (
    Header,
    RunPath,
    check_seeds,
    facts_of,
    group_key,
    names_of_starts,
    place_of,
    read_row,
    row_key,
    run_folders,
    stopped_of,
    title_of,
    told_apart,
)

if TYPE_CHECKING:
    from fewshot_i2v.report.analysis.generalization import Groups, Reach
    from fewshot_i2v.runs.record_lines import RecordLines


@click.command(short_help="Show the table of an evaluation.")
@click.argument("run", type=RunPath())
@click.option("--matrix", is_flag=True, help="Markdown: adapters down, heads across.")
@click.option(
    "--intervals",
    is_flag=True,
    help="What the accuracies say of other clips, groups of clips, classes and training seeds.",
)
@click.option("--split", help="With --intervals: the split, where the run's is not to be found.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON: one object per table.")
def command(run: Path, matrix: bool, intervals: bool, split: str | None, as_json: bool) -> None:
    """Show the table of RUN, a run folder or a folder of run folders.

    Rows of one evaluation that were asked the same episodes of the same encoder share a table.
    """
    if intervals and matrix:
        raise click.UsageError("--intervals is a table of its own: leave out --matrix")
    if split is not None and not intervals:
        raise click.UsageError("--split is for --intervals: give both or none")
    if intervals:
        show_intervals(run, split, as_json=as_json)
        return
    groups = _groups(run)
    tables = [_table(group, run, several=len(groups) > 1) for group in groups]
    if as_json and matrix:
        raise click.UsageError("--matrix is Markdown: give either --matrix or --json")
    if as_json:
        echo_json([result.to_dict() for _, result in tables])
        return
    for i, (title, result) in enumerate(tables):
        click.echo(
            ("\n" if i else "") + f"{title}\n\n{result.matrix() if matrix else result.table()}"
        )


def _groups(run: Path) -> list[list[tuple[Header, RowResult]]]:
    """Rows with their headers, those of one table together.

    Raises:
        UsageError: when there is no run folder.
    """
    groups: dict[str, list[tuple[Header, RowResult]]] = defaultdict(list)
    for folder in run_folders(run):
        data, row = read_row(folder)
        groups[f"{folder.parent}\n{group_key(data.header)}"].append((data.header, row))
    for rows in groups.values():
        check_seeds([(header, row.folder) for header, row in rows])
        rows.sort(key=lambda pair: place_of(pair[0], pair[1].adapter, pair[1].folder))
        names = names_of_starts([(header, row.folder) for header, row in rows])
        rows[:] = [
            (header, replace(row, start_name=name))
            for (header, row), name in zip(rows, names, strict=True)
        ]
    return [_told_apart(rows) for rows in groups.values()]


def _told_apart(rows: Sequence[tuple[Header, RowResult]]) -> list[tuple[Header, RowResult]]:
    """The rows; those that the table would call the same are noted with what tells them apart."""

    def _name(row: RowResult) -> tuple[object, ...]:
        return row.adapter, row.note, row.head, row.start, row.start_name, row.shot

    notes = told_apart([(_name(row), header, row.folder) for header, row in rows])
    return [
        (header, replace(row, note=", ".join(filter(None, [row.note, note]))))
        for (header, row), note in zip(rows, notes, strict=True)
    ]


def _table(
    group: list[tuple[Header, RowResult]], run: Path, *, several: bool
) -> tuple[str, EvaluationResult]:
    from fewshot_i2v.evaluation.results import EvaluationResult

    config = group[0][0]["identity"]["config"]
    way, (low, high) = config["way"], group[0][1].ways
    if isinstance(way, str) and high:
        way = low if low == high else f"{low}-{high}"
    title = title_of(group[0][0], way)
    rows = tuple(row for _, row in group)
    if several:
        title = f"{rows[0].folder.parent}: {title}"
    encoder = config["encoder"]["name"]
    stopped = stopped_of([(row.folder, row.episodes + row.failed) for row in rows])
    return title, EvaluationResult(rows, run, way, config["split"], encoder, stopped=stopped)


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
        from fewshot_i2v.runs.row_summary import share_clips

        if not self.headers[0].get("marks", {}).get("disjoint"):
            return True
        return share_clips(self.records[0].values())

    def good(self) -> frozenset[int]:
        """Episodes that succeeded with every seed."""
        return frozenset.intersection(*(frozenset(one) - one.failed for one in self.records))

    def name(self, *, heads: bool) -> str:
        """What it is called in a table; the head is named where rows differ in it."""
        from fewshot_i2v.utils.text_table import escaped

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
    from fewshot_i2v.report.analysis.generalization import reach_text

    tables = []
    for i, rows in enumerate(_tables(run)):
        groups = _clip_groups(rows, split)
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
    from fewshot_i2v.runs.header import read_header

    alike: dict[tuple[str, str], list[tuple[Header, Path]]] = defaultdict(list)
    for folder in run_folders(run):
        header = read_header(folder / "run.json") or {}
        alike[str(folder.parent), group_key(header)].append((header, folder))
    for found in alike.values():
        found.sort(key=lambda pair: place_of(pair[0], facts_of(pair[0])["adapter"], pair[1]))
        yield _rows(found)


def _rows(found: Sequence[tuple[Header, Path]]) -> list[_Row]:
    """Rows, those that differ in the training seed alone as one."""
    from fewshot_i2v.runs.run_folder import read_run

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
    from fewshot_i2v.report.analysis.generalization import reach
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


def _clip_groups(rows: Sequence[_Row], split: str | None) -> Groups | None:
    """The groups of the clips; None where they have none, or the split is not to be found."""
    from fewshot_i2v.errors import UsageError
    from fewshot_i2v.report.analysis.generalization import Groups
    from fewshot_i2v.report.page.filmstrips import Places, find_split

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
