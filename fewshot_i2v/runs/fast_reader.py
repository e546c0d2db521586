"""What a run answered, read from the few parts of its records that a comparison needs.

Lines of records are written with their keys in one order and guarded by a checksum, so the needed
parts can be cut out of them. That is many times faster than reading all probabilities.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from operator import eq
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from fewshot_i2v.errors import RecordError
from fewshot_i2v.runs.episode_record import parts
from fewshot_i2v.runs.record_check import TOLERANCE, check_answers
from fewshot_i2v.runs.run_folder import read_run
from fewshot_i2v.statistics.predictions import Outcomes

PARTS = ("classes", "support", "query")
"""What makes an episode the one it is."""
_MARKS = (b',"classes":', b',"labels":', b',"probabilities":', b',"accuracy":', b',"losses":')
_GUESSES = re.compile(rb'"labels":\[([0-9,]+)\],"predictions":\[([0-9,]+)\]')


@dataclass(frozen=True, slots=True)
class Answer:
    """One episode of a row.

    Attributes:
        asked: classes, support and query as the text of the record: equal for equal episodes.
        guesses: labels and predictions, as the text of the record; one for each training seed.
        accuracy: share of right predictions, 0..1, the mean over training seeds; None: it failed.
    """

    asked: bytes
    guesses: tuple[bytes, ...]
    accuracy: float | None

    def episode(self) -> dict[str, Any]:
        """Classes, support and query by name."""
        return dict(json.loads(b"{" + self.asked + b"}"))

    def clips(self) -> tuple[list[str], list[float]]:
        """The query clips, and the share of training seeds with which each was right."""
        seeds = [json.loads(b"{" + text + b"}") for text in self.guesses]
        rights = [
            [float(a == b) for a, b in zip(s["labels"], s["predictions"], strict=True)]
            for s in seeds
        ]
        names = list(chain.from_iterable(self.episode()["query"]))
        return names, [fmean(values) for values in zip(*rights, strict=True)]


@dataclass(frozen=True, slots=True)
class Episode:
    """An episode that was read already.

    Attributes:
        text: as `Answer.asked`.
        labels: how the lines of records write its labels, in their order.
        queries: how many query clips it has.
    """

    text: bytes
    labels: tuple[bytes, ...]
    queries: int


@dataclass(frozen=True)
class _Recorded:
    """An answer as `Outcomes` reads it; probabilities are not needed here."""

    index: int
    status: str
    classes: list[str]
    support: list[list[str]]
    query: list[list[str]]
    labels: list[int]
    predictions: list[int]
    probabilities: list[list[float]]


def outcomes_of(answers: Mapping[int, Answer], seed: int = 0) -> Outcomes:
    """Answers as the intervals over clips read them, without probabilities.

    Args:
        answers: of episodes that succeeded, by episode number.
        seed: place of the training seed.
    """

    def _records() -> Iterator[_Recorded]:
        for index in sorted(answers):
            told = json.loads(b"{" + answers[index].guesses[seed] + b"}")
            episode = answers[index].episode()
            nothing = [[0.0] * len(episode["classes"])] * len(told["labels"])
            yield _Recorded(index, "ok", probabilities=nothing, **episode, **told)

    return Outcomes.from_records(_records())


def guessed(asked: Outcomes, answers: Mapping[int, Answer], seed: int = 0) -> Outcomes:
    """Outcomes of the same episodes with the predictions of other answers.

    Args:
        asked: outcomes of the episodes of `answers`, of one training seed.
        answers: of episodes that succeeded, by episode number.
        seed: place of the training seed.
    """
    told = (json.loads(b"{" + answers[i].guesses[seed] + b"}") for i in asked.index.tolist())
    guess = np.array([place for one in told for place in one["predictions"]], dtype=np.int64)
    start = np.searchsorted(asked.member_episode, asked.episode)
    return replace(asked, predicted=asked.member_class[start + guess])


def read_answers(
    folder: Path, known: dict[bytes, Episode] | None = None
) -> tuple[dict[str, Any], dict[int, Answer]]:
    """Header and answers of a run folder, also while a run writes to it.

    Args:
        folder: the run folder.
        known: episodes that were read already, by their text; equal ones are kept once.

    Returns:
        Content of `run.json`, and the answers by episode number.

    Raises:
        RecordError: when it is no run folder, or damaged (naming file and line).
    """
    run = read_run(folder)
    known = {} if known is None else known
    answers: dict[int, Answer] = {}
    for index, line in run.records.lines(run.records):
        try:
            answers[index] = _cut(index, line, known, ok=index not in run.records.failed)
        except (ValueError, OverflowError, RecordError) as error:
            raise run.records.damage(index, error) from error
    return run.header, answers


def _cut(index: int, line: bytes, known: dict[bytes, Episode], *, ok: bool) -> Answer:
    """The answer of an episode.

    A quotation mark inside a name is written with a backslash, so no name can hold a mark.

    Raises:
        ValueError: when the line is not as it is written.
        RecordError: when its parts do not fit each other.
    """
    asked, labels, numbers = (line.find(mark) for mark in _MARKS[:3])
    accuracy = line.rfind(_MARKS[3])
    losses = line.find(_MARKS[4], accuracy)
    places = [0, asked, labels, numbers, accuracy, losses]
    if -1 in places or places != sorted(places):
        raise ValueError("its keys are not in the order in which they are written")
    text, guesses = line[asked + 1 : labels], line[labels + 1 : numbers]
    episode = known.get(text)
    if episode is None:
        said = parts(text, PARTS)
        codes = tuple(b"%d" % c for c in range(len(said["classes"])))
        if len(said["support"]) != len(codes):
            raise ValueError("support: expected one list of clips for each class")
        episode = known[text] = Episode(text, codes, sum(map(len, said["query"])))
    value = line[accuracy + len(_MARKS[3]) : losses]
    if not ok:
        if value != b"null":
            raise ValueError("it failed and has an accuracy")
        return Answer(asked=episode.text, guesses=(guesses,), accuracy=None)
    _check(index, guesses, float(value), episode)
    return Answer(asked=episode.text, guesses=(guesses,), accuracy=float(value))


def _check(index: int, guesses: bytes, accuracy: float, episode: Episode) -> None:
    """Checks labels and predictions, without reading the numbers where they are as usual."""
    found = _GUESSES.fullmatch(guesses)
    if found is not None:
        labels, guessed = (part.split(b",") for part in found.groups())
        whole = len(labels) == len(guessed) == episode.queries
        right = sum(map(eq, labels, guessed)) / len(labels)
        sound = {*labels, *guessed}.issubset(episode.labels) and abs(accuracy - right) <= TOLERANCE
        if whole and sound:
            return
    told = parts(guesses, ("labels", "predictions"))
    check_answers(
        index, **told, accuracy=accuracy, way=len(episode.labels), queries=episode.queries
    )


def over_seeds(runs: Sequence[Mapping[int, Answer]]) -> dict[int, Answer]:
    """The answers of runs that differ in the training seed alone as one: their mean.

    Args:
        runs: at least one; episodes that are not in all of them are left out, those that failed
            with one seed have failed.

    Raises:
        RecordError: when an episode is another one with another training seed.
    """
    if len(runs) == 1:
        return dict(runs[0])
    merged = {}
    for index in sorted(set.intersection(*(set(run) for run in runs))):
        answers = [run[index] for run in runs]
        if len({answer.asked for answer in answers}) > 1:
            raise RecordError(
                f"episode {index} is not the same with all training seeds; expected rows of one "
                "evaluation. Give the run folders one by one"
            )
        values = [answer.accuracy for answer in answers if answer.accuracy is not None]
        whole = len(values) == len(answers)
        guesses = tuple(chain.from_iterable(answer.guesses for answer in answers))
        merged[index] = Answer(answers[0].asked, guesses, fmean(values) if whole else None)
    return merged


def share_clips(answers: Iterable[Answer]) -> bool:
    """Whether a clip is in two of the episodes."""
    seen: set[str] = set()
    for answer in answers:
        episode = answer.episode()
        names = {name for part in PARTS[1:] for row in episode[part] for name in row}
        if names & seen:
            return True
        seen |= names
    return False
