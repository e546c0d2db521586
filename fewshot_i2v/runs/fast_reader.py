"""Fast reader of the parts of records that a comparison needs: episode, predictions and accuracy.

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
from fewshot_i2v.runs.episode_record import parse_fields
from fewshot_i2v.runs.record_check import TOLERANCE, check_predictions
from fewshot_i2v.runs.run_folder import read_run
from fewshot_i2v.statistics.predictions import PredictionTable

EPISODE_KEYS = ("classes", "support", "query")
"""What makes an episode the one it is."""
_KEY_MARKERS = (b',"classes":', b',"labels":', b',"probabilities":', b',"accuracy":', b',"losses":')
_PREDICTIONS_PATTERN = re.compile(rb'"labels":\[([0-9,]+)\],"predictions":\[([0-9,]+)\]')


@dataclass(frozen=True, slots=True)
class EpisodeAnswer:
    """One episode of a row with its predictions.

    Attributes:
        episode_text: classes, support and query as in the record: equal for equal episodes.
        prediction_texts: labels and predictions as in the record, one for each training seed.
        accuracy: share of right predictions, 0..1, the mean over training seeds; None: it failed.
    """

    episode_text: bytes
    prediction_texts: tuple[bytes, ...]
    accuracy: float | None

    def parse_episode(self) -> dict[str, Any]:
        """Parse classes, support and query, by name."""
        return dict(json.loads(b"{" + self.episode_text + b"}"))

    def query_results(self) -> tuple[list[str], list[float]]:
        """Query clips, and for each the share of training seeds that got it right."""
        seeds = [json.loads(b"{" + text + b"}") for text in self.prediction_texts]
        rights = [
            [
                float(label == predicted)
                for label, predicted in zip(seed["labels"], seed["predictions"], strict=True)
            ]
            for seed in seeds
        ]
        names = list(chain.from_iterable(self.parse_episode()["query"]))
        return names, [fmean(values) for values in zip(*rights, strict=True)]


@dataclass(frozen=True, slots=True)
class CachedEpisode:
    """An episode that was parsed before.

    Attributes:
        text: as `EpisodeAnswer.episode_text`.
        label_texts: how the lines of records write its labels, in their order.
        n_queries: number of its query clips.
    """

    text: bytes
    label_texts: tuple[bytes, ...]
    n_queries: int


@dataclass(frozen=True)
class _AnswerRecord:
    """An answer in the form that `PredictionTable` reads; probabilities are not needed here."""

    index: int
    status: str
    classes: list[str]
    support: list[list[str]]
    query: list[list[str]]
    labels: list[int]
    predictions: list[int]
    probabilities: list[list[float]]


def build_prediction_table(answers: Mapping[int, EpisodeAnswer], seed: int = 0) -> PredictionTable:
    """Build a prediction table from answers, without probabilities.

    Args:
        answers: of episodes that succeeded, by episode number.
        seed: position of the training seed.
    """

    def _records() -> Iterator[_AnswerRecord]:
        for index in sorted(answers):
            predictions = json.loads(b"{" + answers[index].prediction_texts[seed] + b"}")
            episode = answers[index].parse_episode()
            zeros = [[0.0] * len(episode["classes"])] * len(predictions["labels"])
            yield _AnswerRecord(index, "ok", probabilities=zeros, **episode, **predictions)

    return PredictionTable.from_records(_records())


def replace_predictions(
    outcomes: PredictionTable, answers: Mapping[int, EpisodeAnswer], seed: int = 0
) -> PredictionTable:
    """Replace the predictions of a table by those of other answers to the same episodes.

    Args:
        outcomes: of the episodes of `answers`, of one training seed.
        answers: of episodes that succeeded, by episode number.
        seed: position of the training seed.
    """
    payloads = (
        json.loads(b"{" + answers[i].prediction_texts[seed] + b"}") for i in outcomes.index.tolist()
    )
    predicted = np.array(
        [position for payload in payloads for position in payload["predictions"]], dtype=np.int64
    )
    start = np.searchsorted(outcomes.member_episode, outcomes.episode)
    return replace(outcomes, predicted=outcomes.member_class[start + predicted])


def read_answers(
    folder: Path, cache: dict[bytes, CachedEpisode] | None = None
) -> tuple[dict[str, Any], dict[int, EpisodeAnswer]]:
    """Read header and answers of a run folder, also while a run writes to it.

    Args:
        folder: the run folder.
        cache: episodes that were parsed before, by their text; equal ones are stored once.

    Returns:
        Content of `run.json`, and the answers by episode number.

    Raises:
        RecordError: when it is no run folder, or damaged (naming file and line).
    """
    run = read_run(folder)
    cache = {} if cache is None else cache
    answers: dict[int, EpisodeAnswer] = {}
    for index, line in run.records.lines(run.records):
        try:
            answers[index] = _parse_line(index, line, cache, ok=index not in run.records.failed)
        except (ValueError, OverflowError, RecordError) as error:
            raise run.records.damage_error(index, error) from error
    return run.header, answers


def _parse_line(
    index: int, line: bytes, cache: dict[bytes, CachedEpisode], *, ok: bool
) -> EpisodeAnswer:
    """Parse the answer of an episode from its line.

    A quotation mark inside a name is written with a backslash, so no name can hold a marker.

    Raises:
        ValueError: when the line is not as it is written.
        RecordError: when its parts do not fit each other.
    """
    episode_start, labels_start, probabilities_start = (
        line.find(marker) for marker in _KEY_MARKERS[:3]
    )
    accuracy_start = line.rfind(_KEY_MARKERS[3])
    losses_start = line.find(_KEY_MARKERS[4], accuracy_start)
    starts = [0, episode_start, labels_start, probabilities_start, accuracy_start, losses_start]
    if -1 in starts or starts != sorted(starts):
        raise ValueError("its keys are not in the order in which they are written")
    text, prediction_text = (
        line[episode_start + 1 : labels_start],
        line[labels_start + 1 : probabilities_start],
    )
    episode = cache.get(text)
    if episode is None:
        parsed = parse_fields(text, EPISODE_KEYS)
        codes = tuple(b"%d" % c for c in range(len(parsed["classes"])))
        if len(parsed["support"]) != len(codes):
            raise ValueError("support: expected one list of clips for each class")
        episode = cache[text] = CachedEpisode(text, codes, sum(map(len, parsed["query"])))
    value = line[accuracy_start + len(_KEY_MARKERS[3]) : losses_start]
    if not ok:
        if value != b"null":
            raise ValueError("it failed and has an accuracy")
        return EpisodeAnswer(
            episode_text=episode.text, prediction_texts=(prediction_text,), accuracy=None
        )
    _check_predictions(index, prediction_text, float(value), episode)
    return EpisodeAnswer(
        episode_text=episode.text, prediction_texts=(prediction_text,), accuracy=float(value)
    )


def _check_predictions(
    index: int, prediction_text: bytes, accuracy: float, episode: CachedEpisode
) -> None:
    """Check labels and predictions, without parsing the numbers where they are as usual."""
    match = _PREDICTIONS_PATTERN.fullmatch(prediction_text)
    if match is not None:
        labels, predicted = (group.split(b",") for group in match.groups())
        complete = len(labels) == len(predicted) == episode.n_queries
        expected = sum(map(eq, labels, predicted)) / len(labels)
        valid = {*labels, *predicted}.issubset(episode.label_texts) and abs(
            accuracy - expected
        ) <= TOLERANCE
        if complete and valid:
            return
    payload = parse_fields(prediction_text, ("labels", "predictions"))
    check_predictions(
        index, **payload, accuracy=accuracy, way=len(episode.label_texts), queries=episode.n_queries
    )


def average_seeds(runs: Sequence[Mapping[int, EpisodeAnswer]]) -> dict[int, EpisodeAnswer]:
    """Average the answers of runs that differ only in the training seed.

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
        if len({answer.episode_text for answer in answers}) > 1:
            raise RecordError(
                f"episode {index} is not the same with all training seeds; expected rows of one "
                "evaluation. Give the run folders one by one"
            )
        values = [answer.accuracy for answer in answers if answer.accuracy is not None]
        complete = len(values) == len(answers)
        prediction_texts = tuple(chain.from_iterable(answer.prediction_texts for answer in answers))
        merged[index] = EpisodeAnswer(
            answers[0].episode_text, prediction_texts, fmean(values) if complete else None
        )
    return merged


def share_clips(answers: Iterable[EpisodeAnswer]) -> bool:
    """Whether any clip is in two of the episodes."""
    known_clips: set[str] = set()
    for answer in answers:
        episode = answer.parse_episode()
        names = {name for key in EPISODE_KEYS[1:] for row in episode[key] for name in row}
        if names & known_clips:
            return True
        known_clips |= names
    return False
