"""What a pilot run says: how the accuracies of its rows, and their differences, spread."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot_i2v.errors import UsageError
from fewshot_i2v.report.plan.sample_size_plan import EQUAL, Key
from fewshot_i2v.runs.fast_reader import outcomes_of
from fewshot_i2v.statistics.clip_variance import ClipSpread, clip_spread
from fewshot_i2v.statistics.predictions import Outcomes
from fewshot_i2v.statistics.variance_components import Components, components

if TYPE_CHECKING:
    from fewshot_i2v.report.comparison.baselines import Contender
    from fewshot_i2v.runs.fast_reader import Answer

_LISTED = 3


@dataclass(frozen=True)
class PilotRow:
    """A row of the pilot; of several training seeds, the outcomes are those of the first."""

    name: str
    shot: int | str
    found: Components
    failed: int
    outcomes: Outcomes = field(repr=False)


@dataclass(frozen=True)
class PilotPair:
    """Two rows of the pilot on the same episodes."""

    names: tuple[str, str]
    shot: int | str
    found: Components
    differ: int
    outcomes: tuple[Outcomes, Outcomes] = field(repr=False)


@dataclass(frozen=True)
class Pilot:
    """A pilot run.

    Attributes:
        title: its setting in words.
        config: what decides its results.
        digest: of its split.
        rows: those with at least two episodes.
        pairs: each row with that of the frozen encoder, or with the first one of its shot.
        remarks: what was left out, and why.
    """

    title: str
    config: dict[str, Any] = field(repr=False)
    digest: str
    rows: tuple[PilotRow, ...]
    pairs: tuple[PilotPair, ...]
    remarks: tuple[str, ...]


def read_pilot(run: Path, shots: Sequence[int]) -> Pilot:
    """Reads a run folder, or a folder of run folders.

    Args:
        run: the folder.
        shots: which rows, by their support clips per class; none: all.

    Raises:
        UsageError: when there is no run folder, the rows are of several settings, none has such a
            shot, or none has two episodes that succeeded.
        RecordError: when a run folder is damaged.
    """
    from fewshot_i2v.report.comparison.baselines import _contenders

    every = _contenders([run])
    titles = {c.group: c.folder for c in every}
    if len(titles) > 1:
        raise UsageError(
            f"{run}: rows of {len(titles)} settings, such as {_some(titles.values())}; expected "
            "one evaluation. Give one of the folders"
        )
    chosen = [c for c in every if not shots or c.row.shot in shots]
    if not chosen:
        there = ", ".join(sorted({str(c.row.shot) for c in every}))
        asked = ", ".join(map(str, shots))
        raise UsageError(
            f"{run}: no row of shot {asked}; there are rows of shot {there}. Give --shot with one "
            "of these, or a pilot of it"
        )
    identity = chosen[0].identity
    rows, short = _rows(chosen)
    if not rows:
        raise UsageError(
            f"{run}: fewer than 2 episodes that succeeded in every row; expected a pilot of 30 or "
            "so. Evaluate more episodes into this folder, or plan without RUN"
        )
    pairs, remarks = _pairs(chosen)
    return Pilot(
        title=chosen[0].title,
        config=dict(identity["config"]),
        digest=str(identity.get("split", {}).get("digest", "")),
        rows=tuple(rows),
        pairs=tuple(pairs),
        remarks=(*short, *remarks),
    )


def spreads_over_clips(pilot: Pilot, sizes: Sequence[int]) -> dict[Key, ClipSpread]:
    """How much clips matter to the rows and pairs of which the pilot is long enough to tell.

    Args:
        pilot: with `sampling` shared: where no clip is in two episodes, nothing can be told.
        sizes: clips of each class of its subset.
    """
    asked: dict[Key, tuple[Outcomes, Outcomes | None]] = {
        (row.name, None, row.shot): (row.outcomes, None) for row in pilot.rows
    }
    asked |= {(*pair.names, pair.shot): pair.outcomes for pair in pilot.pairs}
    found = {key: clip_spread(one, sizes, other) for key, (one, other) in asked.items()}
    return {key: spread for key, spread in found.items() if spread is not None}


def _some(folders: Iterable[Path]) -> str:
    return " and ".join(str(folder) for folder in sorted(folders)[:_LISTED])


def _rows(contenders: Sequence[Contender]) -> tuple[list[PilotRow], list[str]]:
    from fewshot_i2v.report.comparison.baselines import names_of

    names, rows, remarks = names_of(contenders), [], []
    for contender in contenders:
        good = {i: a for i, a in contender.answers.items() if a.accuracy is not None}
        failed = len(contender.answers) - len(good)
        if len(good) < 2:
            remarks.append(
                f"{names[contender]}, {contender.row.shot}-shot: left out, "
                f"{len(good)} episodes that succeeded."
            )
            continue
        found = components([_by_class(answer) for answer in good.values()])
        name, shot = names[contender], contender.row.shot
        rows.append(PilotRow(name, shot, found, failed, outcomes_of(good)))
    return rows, remarks


def _by_class(answer: Answer) -> list[list[float]]:
    """Whether each query was right, by class."""
    values = iter(answer.clips()[1])
    return [[next(values) for _ in clips] for clips in answer.episode()["query"]]


def _pairs(contenders: Sequence[Contender]) -> tuple[list[PilotPair], list[str]]:
    from fewshot_i2v.report.comparison.baselines import against_frozen, names_of

    if len(contenders) < 2:
        return [], ["Differences: not planned, there is one row."]
    names, remarks = names_of(contenders), []
    try:
        found, _alone = against_frozen(contenders)
    except UsageError:
        found = _against_first(contenders)
        remarks = [
            "Differences: planned against the first row of each shot, since no row of the adapter "
            "frozen is the baseline; `compare` asks for --baseline then."
        ]
    if not found:
        return [], ["Differences: not planned, there is one row of each shot."]
    pairs = [_pair(a, b, (names[a], names[b])) for a, b in found]
    return [pair for pair in pairs if pair is not None], remarks


def _against_first(contenders: Sequence[Contender]) -> list[tuple[Contender, Contender]]:
    first: dict[object, Contender] = {}
    for contender in contenders:
        first.setdefault(contender.row.shot, contender)
    return [(c, first[c.row.shot]) for c in contenders if c is not first[c.row.shot]]


def _pair(a: Contender, b: Contender, names: tuple[str, str]) -> PilotPair | None:
    both = {
        i: (a.answers[i], b.answers[i])
        for i in sorted(a.answers.keys() & b.answers.keys())
        if a.answers[i].accuracy is not None and b.answers[i].accuracy is not None
    }
    if len(both) < 2:
        return None
    if any(x.asked != y.asked for x, y in both.values()):
        raise UsageError(
            f"{a.folder} and {b.folder}: an episode of the same number is not the same; expected "
            "rows of one evaluation. Give one of the folders"
        )
    values = [
        [
            [x - y for x, y in zip(*groups, strict=True)]
            for groups in zip(_by_class(one), _by_class(other), strict=True)
        ]
        for one, other in both.values()
    ]
    differ = sum(abs(sum(map(sum, episode))) > EQUAL for episode in values)
    one, other = (outcomes_of({i: pair[k] for i, pair in both.items()}) for k in (0, 1))
    return PilotPair(names, a.row.shot, components(values), differ, (one, other))
