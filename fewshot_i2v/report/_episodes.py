"""Single episodes of a page: which clips of them are shown, and what was said of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fewshot_i2v.records import EpisodeRecord
from fewshot_i2v.report.findings import Findings

_CLASSES, _QUERIES, _RIGHT = 10, 8, 3


@dataclass(frozen=True)
class Support:
    """A class of an episode: its name, the clip that is shown, and how many more there are."""

    name: str
    clip: str
    more: int


@dataclass(frozen=True)
class Query:
    """A query clip of an episode.

    Attributes:
        clip: its name.
        label: its class.
        predicted: the class it was taken for.
        sure: probability of that, 0..1.
        true: probability of its class, 0..1.
    """

    clip: str
    label: str
    predicted: str
    sure: float
    true: float

    @property
    def right(self) -> bool:
        """Whether it was taken for what it is."""
        return self.label == self.predicted


@dataclass(frozen=True)
class Episode:
    """An episode as it is shown.

    Attributes:
        index: its number.
        hard: whether it is one of the hardest; else of the easiest.
        right: query clips that were right.
        asked: query clips.
        frozen: accuracy of the frozen encoder in the same episode, or None.
        support: of the first ten classes.
        classes: number of classes.
        queries: those shown: wrong ones first, the surest first.
    """

    index: int
    hard: bool
    right: int
    asked: int
    frozen: float | None
    support: tuple[Support, ...]
    classes: int
    queries: tuple[Query, ...]


def episodes_of(findings: Findings, frozen: Mapping[int, float]) -> list[Episode]:
    """The extreme episodes of a run, the hardest first.

    Args:
        findings: of the run.
        frozen: accuracies of the frozen encoder, by episode number; may be empty.
    """
    return [
        _episode(record, frozen.get(record.index), hard=hard)
        for records, hard in ((findings.hardest, True), (findings.easiest, False))
        for record in records
    ]


def clips_of(episodes: Iterable[Episode]) -> list[str]:
    """Names of all clips that the episodes show, each once."""
    names: dict[str, None] = {}
    for episode in episodes:
        names |= dict.fromkeys(support.clip for support in episode.support)
        names |= dict.fromkeys(query.clip for query in episode.queries)
    return list(names)


def _episode(record: EpisodeRecord, frozen: float | None, *, hard: bool) -> Episode:
    queries = list(_queries(record))
    return Episode(
        index=record.index,
        hard=hard,
        right=sum(query.right for query in queries),
        asked=len(queries),
        frozen=frozen,
        support=tuple(
            Support(name, clips[0], len(clips) - 1)
            for name, clips in zip(record.classes, record.support, strict=True)
            if clips
        )[:_CLASSES],
        classes=len(record.classes),
        queries=tuple(_shown(queries)),
    )


def _queries(record: EpisodeRecord) -> Iterator[Query]:
    clips = [name for row in record.query for name in row]
    answers = zip(clips, record.labels, record.predictions, record.probabilities, strict=True)
    for clip, label, guess, row in answers:
        yield Query(clip, record.classes[label], record.classes[guess], row[guess], row[label])


def _shown(queries: Sequence[Query]) -> list[Query]:
    """Wrong ones first, the surest first; then the right ones that were least sure."""
    wrong = sorted((q for q in queries if not q.right), key=lambda q: -q.sure)
    right = sorted((q for q in queries if q.right), key=lambda q: q.sure)
    room = _RIGHT if wrong else _RIGHT + 1
    return [*wrong[: _QUERIES - min(room, len(right))], *right[:room]]
