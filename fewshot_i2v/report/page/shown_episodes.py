"""The hardest and easiest episodes of a run, as a page shows them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from fewshot_i2v.report.analysis.run_analysis import RunAnalysis
from fewshot_i2v.runs.episode_record import EpisodeRecord

_MAX_CLASSES, _MAX_QUERIES, _MAX_CORRECT = 10, 8, 3


@dataclass(frozen=True)
class ShownClass:
    """A class of an episode: its name, the clip that is shown, and the number of further clips."""

    name: str
    clip: str
    more: int


@dataclass(frozen=True)
class ShownQuery:
    """A query clip of an episode with its prediction.

    Attributes:
        clip: its name.
        label: its class.
        predicted: the predicted class.
        sure: probability of the predicted class, 0..1.
        true: probability of its class, 0..1.
    """

    clip: str
    label: str
    predicted: str
    sure: float
    true: float

    @property
    def right(self) -> bool:
        """Whether the predicted class is its class."""
        return self.label == self.predicted


@dataclass(frozen=True)
class ShownEpisode:
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
    support: tuple[ShownClass, ...]
    classes: int
    queries: tuple[ShownQuery, ...]


def extreme_episodes(analysis: RunAnalysis, frozen: Mapping[int, float]) -> list[ShownEpisode]:
    """Hardest and easiest episodes of a run, the hardest first."""
    return [
        _shown_episode(record, frozen.get(record.index), hard=hard)
        for records, hard in ((analysis.hardest, True), (analysis.easiest, False))
        for record in records
    ]


def shown_clip_names(episodes: Iterable[ShownEpisode]) -> list[str]:
    """Names of all clips that the episodes show, each once."""
    names: dict[str, None] = {}
    for episode in episodes:
        names |= dict.fromkeys(support.clip for support in episode.support)
        names |= dict.fromkeys(query.clip for query in episode.queries)
    return list(names)


def _shown_episode(record: EpisodeRecord, frozen: float | None, *, hard: bool) -> ShownEpisode:
    queries = list(_shown_queries(record))
    # wrong ones, the surest first; then the right ones that were least sure
    wrong = sorted((query for query in queries if not query.right), key=lambda query: -query.sure)
    correct = sorted((query for query in queries if query.right), key=lambda query: query.sure)
    correct = correct[: _MAX_CORRECT if wrong else _MAX_CORRECT + 1]
    return ShownEpisode(
        index=record.index,
        hard=hard,
        right=sum(query.right for query in queries),
        asked=len(queries),
        frozen=frozen,
        support=tuple(
            ShownClass(name, clips[0], len(clips) - 1)
            for name, clips in zip(record.classes, record.support, strict=True)
            if clips
        )[:_MAX_CLASSES],
        classes=len(record.classes),
        queries=(*wrong[: _MAX_QUERIES - len(correct)], *correct),
    )


def _shown_queries(record: EpisodeRecord) -> Iterator[ShownQuery]:
    clips = [name for clip_row in record.query for name in clip_row]
    predictions = zip(clips, record.labels, record.predictions, record.probabilities, strict=True)
    for clip, label, predicted, clip_row in predictions:
        yield ShownQuery(
            clip,
            record.classes[label],
            record.classes[predicted],
            clip_row[predicted],
            clip_row[label],
        )
