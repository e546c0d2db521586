"""The rows of a comparison: what they are called, and which is compared with which."""

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
from fewshot_i2v.runs.fast_reader import Answer
from fewshot_i2v.runs.row_summary import FRESH, TableRow, is_frozen
from fewshot_i2v.runs.run_index import (
    Header,
    check_seeds,
    facts_of,
    group_key,
    names_of_starts,
    place_of,
    row_key,
    run_folders,
    title_of,
)
from fewshot_i2v.utils.text_table import escaped

if TYPE_CHECKING:
    from fewshot_i2v.runs.fast_reader import Answer, Episode

_MOST_KEYS = 3
_EMPTY = {"batch": "all"}
_ADVICE = "give --baseline with the name or folder of one of the rows, or --all-pairs"


@dataclass(frozen=True, eq=False)
class Contender:
    """One row of a comparison.

    Attributes:
        row: adapter, head, shot and what must be said of them.
        folder: the run folder; that of the first training seed where there are several.
        identity: what decides the results, as in `run.json`.
        answers: by episode number.
        title: the setting in words; rows of one setting share a table.
        group: equal for rows that differ in nothing but adapter, start, head, shot and tuning.
        seeds: number of training seeds that the answers are the mean of.
        apart: whether episodes were drawn so that they share no clip.
    """

    row: TableRow
    folder: Path
    identity: Mapping[str, Any] = field(repr=False)
    answers: Mapping[int, Answer] = field(repr=False)
    title: str
    group: str = field(repr=False)
    seeds: int = 1
    apart: bool = False

    @property
    def split(self) -> str:
        """Name of the split."""
        return str(self.identity["config"]["split"])


Pair = tuple[Contender, Contender]


def names_of(contenders: Sequence[Contender]) -> dict[Contender, str]:
    """What each row is called: its adapter and whatever else tells it from the others.

    Rows of one adapter that were not all tuned alike have what differs in their names, at whatever
    shot and head, for it decides what they are good for as an option of the adapter does.
    """
    rows = [c.row for c in contenders]
    tuned = _tuned(contenders)
    heads = len({row.head for row in rows}) > 1
    begun = {row.adapter for row in rows if row.start != FRESH}
    names = []
    for row, tuning in zip(rows, tuned, strict=True):
        start = f" from {escaped(row.start_name or row.start)}" if row.start != FRESH else ""
        start += " (seen)" if row.seen else ""
        if row.start == FRESH and row.adapter in begun:
            start = " fresh"
        head = f" with {escaped(row.head)}" if heads else ""
        names.append(adapter_name(row) + start + head + (f" ({tuning})" if tuning else ""))
    for place in (_above, _itself):
        alike = Counter(zip(names, (row.shot for row in rows), strict=True))
        names = [
            f"{name} ({place(c)})" if alike[name, c.row.shot] > 1 else name
            for name, c in zip(names, contenders, strict=True)
        ]
    return dict(zip(contenders, names, strict=True))


def _tuned(contenders: Sequence[Contender]) -> list[str]:
    """Of each row the keys of its tuning that differ between rows of its adapter, as text."""
    of_adapter: dict[str, list[Mapping[str, Any]]] = {}
    for c in contenders:
        of_adapter.setdefault(c.row.adapter, []).append(c.identity["config"].get("tuning", {}))
    differing = {
        adapter: sorted(
            key
            for key in {key for tuning in tunings for key in tuning}
            if any(tuning.get(key) != tunings[0].get(key) for tuning in tunings)
        )
        for adapter, tunings in of_adapter.items()
    }
    return [_tuning_text(c, differing[c.row.adapter]) for c in contenders]


def _tuning_text(contender: Contender, keys: Sequence[str]) -> str:
    tuning = contender.identity["config"].get("tuning", {})
    found = []
    for key in keys[:_MOST_KEYS]:
        value = tuning.get(key)
        found.append(f"{key} {_EMPTY.get(key, 'off') if value is None else value}")
    more = f" and {len(keys) - _MOST_KEYS} more" if len(keys) > _MOST_KEYS else ""
    return escaped(", ".join(found)) + more


def _above(contender: Contender) -> str:
    return str(contender.folder.parent)


def _itself(contender: Contender) -> str:
    return contender.folder.name


def all_pairs(contenders: Sequence[Contender]) -> list[Pair]:
    """Every two rows of the same shot, the later one first.

    Raises:
        UsageError: when there are no two rows of one shot.
    """
    pairs = [
        (later, earlier)
        for earlier, later in combinations(contenders, 2)
        if earlier.row.shot == later.row.shot
    ]
    if not pairs:
        raise UsageError(
            f"nothing to compare: {_listed(contenders)}; expected two rows of one shot"
        )
    return pairs


def against_frozen(contenders: Sequence[Contender]) -> tuple[list[Pair], list[Contender]]:
    """Each row with the row of the frozen encoder that has the same head and shot.

    Args:
        contenders: in the order to show them. Two alone, of one shot and both or neither of them
            frozen, are compared with each other, the first one as the baseline.

    Returns:
        The pairs, and the rows that have no such baseline.

    Raises:
        UsageError: when no row has one, or one has several that are equally near.
    """
    frozen = [c for c in contenders if is_frozen(c.row)]
    if len(frozen) != 1 and len(contenders) == 2 and len({c.row.shot for c in contenders}) == 1:
        return [(contenders[1], contenders[0])], []
    if not frozen:
        raise UsageError(f"no row of the adapter frozen among {_listed(contenders)}; {_ADVICE}")
    return _with_nearest(contenders, frozen, other_heads=False)


def against(
    contenders: Sequence[Contender], baseline: str, folder: Path | None
) -> tuple[list[Pair], list[Contender]]:
    """Each row with the baseline asked for.

    Args:
        contenders: in the order to show them.
        baseline: an adapter, a row as the table calls it, or the name of a run folder.
        folder: the folder meant, where `baseline` is one: a run folder or one above some.

    Returns:
        The pairs, and the rows that have no baseline of their shot.

    Raises:
        UnknownNameError: when no row is called so.
        UsageError: when no row can be compared, or one has several that are equally near.
    """
    names = names_of(contenders)
    if folder is None:
        found = [c for c in contenders if baseline in (names[c], c.folder.name, *_adapters(c))]
    else:
        found = [c for c in contenders if folder.resolve() in _places(c.folder)]
    if not found:
        known = {*names.values(), *(name for c in contenders for name in _adapters(c))}
        raise UnknownNameError("baseline", baseline, known)
    return _with_nearest(contenders, found, other_heads=True)


def _adapters(contender: Contender) -> tuple[str, str]:
    """The adapter with its options and without."""
    return contender.row.adapter, contender.row.adapter.partition(":")[0]


def _places(folder: Path) -> tuple[Path, ...]:
    whole = folder.resolve()
    return (whole, *whole.parents)


def _with_nearest(
    contenders: Sequence[Contender],
    baselines: Sequence[Contender],
    *,
    other_heads: bool,
) -> tuple[list[Pair], list[Contender]]:
    pairs, alone = [], []
    for contender in contenders:
        if contender in baselines:
            continue
        nearest = _nearest(contender, baselines, other_heads=other_heads)
        if len(nearest) > 1:
            names = names_of(contenders)
            raise UsageError(
                f"{contender.folder}: several rows could be its baseline: "
                + ", ".join(f"{names[c]!r} in {c.folder}" for c in nearest)
                + "; give --baseline with one of these names or folders"
            )
        pairs += [(contender, other) for other in nearest]
        alone += [] if nearest else [contender]
    # baselines that nothing was compared with, such as those of another split
    used = {other for _, other in pairs}
    alone += [c for c in baselines if c not in used]
    if not pairs and len(baselines) == len(contenders) > 1:
        raise UsageError(
            f"nothing to compare: all of {_listed(baselines)} are what others would be compared "
            f"with; {_ADVICE}"
        )
    if not pairs:
        raise UsageError(
            f"nothing to compare with {_listed(baselines)}: no other row has the same shot"
            f"{'' if other_heads else ' and head'}; {_ADVICE}"
        )
    return pairs, alone


def _nearest(
    contender: Contender, baselines: Iterable[Contender], *, other_heads: bool
) -> list[Contender]:
    """The baselines of the shot, narrowed down by what they have in common with a row."""
    found = [c for c in baselines if c.row.shot == contender.row.shot]
    if not other_heads:
        found = [c for c in found if c.row.head == contender.row.head]
    alike: tuple[Callable[[Contender], Hashable], ...] = (
        lambda c: c.row.head,
        lambda c: (c.row.adapter, c.row.start, c.row.start_name),
        lambda c: c.group,
        lambda c: c.folder.parent,
    )
    for of in alike:
        if len(found) > 1:
            found = [c for c in found if of(c) == of(contender)] or found
    return found


def _listed(contenders: Sequence[Contender]) -> str:
    shown = [str(c.folder) for c in contenders[:5]]
    more = f" and {len(contenders) - 5} more" if len(contenders) > 5 else ""
    return ", ".join(shown) + more


@dataclass(frozen=True)
class Read:
    """A run folder as read.

    Attributes:
        folder: the run folder.
        header: content of its `run.json`.
        answers: by episode number.
    """

    folder: Path
    header: Header
    answers: dict[int, Answer]

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Labels of adapter and head, shot and training seed."""
        return facts_of(self.header)

    @property
    def start(self) -> dict[str, Any]:
        """The starting point, as the header marks it; empty for a fresh one."""
        return self.header.get("marks", {}).get("start") or {}

    def order(self) -> tuple[str, int, bool, Path]:
        """Where it stands among others."""
        place = place_of(self.header, self.facts["adapter"], self.folder)
        return str(self.folder.parent), *place

    @property
    def but_for_the_seed(self) -> tuple[object, ...]:
        """Equal for runs that differ in the training seed alone."""
        if self.facts["training_seed"] is None:
            return (self.folder,)
        return (row_key(self.header, self.folder),)


def _contenders(places: Sequence[Path]) -> list[Contender]:
    """The rows of the folders, each once; those that differ in the training seed alone are one."""
    from fewshot_i2v.runs.fast_reader import read_answers

    known: dict[bytes, Episode] = {}
    done: set[Path] = set()
    alike: dict[tuple[object, ...], list[Read]] = defaultdict(list)
    for place in places:
        reads = [
            Read(folder, *read_answers(folder, known))
            for folder in run_folders(place)
            if folder.resolve() not in done
        ]
        done |= {read.folder.resolve() for read in reads}
        check_seeds([(read.header, read.folder) for read in reads])
        for read in sorted(reads, key=Read.order):
            alike[read.but_for_the_seed].append(read)
    found = [*alike.values()]
    names = names_of_starts([(reads[0].header, reads[0].folder) for reads in found])
    return [_contender(reads, name) for reads, name in zip(found, names, strict=True)]


def _contender(reads: Sequence[Read], start_name: str) -> Contender:
    from fewshot_i2v.runs.fast_reader import over_seeds
    from fewshot_i2v.runs.row_summary import FRESH, TableRow

    first = reads[0]
    answers = over_seeds([read.answers for read in reads])
    marks, start = first.header.get("marks", {}), first.start
    row = TableRow(
        adapter=first.facts["adapter"],
        head=first.facts["head"],
        shot=first.facts["shot"],
        accuracies={i: a.accuracy for i, a in answers.items() if a.accuracy is not None},
        note=marks.get("note", ""),
        uses_names=marks.get("uses_names", False),
        start=start.get("kind", FRESH),
        start_name=start_name,
        seen=bool(start.get("seen")),
        training_seed=None if len(reads) > 1 else first.facts["training_seed"],
    )
    identity = first.header["identity"]
    return Contender(
        row=row,
        folder=first.folder,
        identity=identity,
        answers=answers,
        title=title_of(first.header, identity["config"]["way"]),
        group=group_key(first.header),
        seeds=len(reads),
        apart=marks.get("disjoint", False),
    )
