"""Tests a fitted model on labelled clips that it has not seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewshot_i2v.data.splits.builder.labelled_clips import read_labelled_clips
from fewshot_i2v.errors import UsageError
from fewshot_i2v.evaluation.classifier import FewShotClassifier
from fewshot_i2v.evaluation.prediction import Prediction
from fewshot_i2v.models.checkpoints.model_file import ShareFacts
from fewshot_i2v.statistics.shares import Share, share_of

_DIGEST_LENGTH = 16


@dataclass(frozen=True)
class TestResult:
    """Result of a test.

    Attributes:
        predictions: of the clips, by name, those of other classes included.
        labels: class of each of these clips, by name.
        accuracy: share of the clips of the model's classes that are right, whatever "none of these"
            says.
        promised: between how many right the fit promised for so many clips; None: it could not.
        promised_share: the share that it promised; None likewise.
        rejected_known: share of them that are of none of the classes; None: that is off.
        rejected_unknown: share of the clips of other classes that are; None: there are none.
        promised_unknown: between how many of these clips the fit promised to be; None likewise.
        promised_unknown_share: the share that it promised, on average over many other classes.
        unknown_classes: classes that the model does not have.
        confusions: (class, predicted class) and number of clips, most first.
        fitted_clips: names of clips that the model was fitted on, which are left out.
        unreadable: path and reason of clips that cannot be read.
    """

    __test__ = False  # pytest takes classes of this name for tests

    predictions: dict[str, Prediction]
    labels: dict[str, str]
    accuracy: Share
    promised: tuple[int, int] | None
    promised_share: Share | None
    rejected_known: Share | None
    rejected_unknown: Share | None
    promised_unknown: tuple[int, int] | None
    promised_unknown_share: Share | None
    unknown_classes: tuple[str, ...]
    confusions: tuple[tuple[tuple[str, str], int], ...]
    fitted_clips: tuple[str, ...]
    unreadable: tuple[tuple[str, str], ...]

    @property
    def is_as_promised(self) -> bool:
        """Whether at least as many clips are right as the fit promised."""
        return self.promised is None or self.accuracy.count >= self.promised[0]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain types, for JSON."""
        shares = {
            key: None if (share := getattr(self, key)) is None else vars(share)
            for key in (
                *("accuracy", "rejected_known", "rejected_unknown"),
                *("promised_share", "promised_unknown_share"),
            )
        }
        return {
            **shares,
            "promised": self.promised,
            "as_promised": self.is_as_promised,
            "promised_unknown": self.promised_unknown,
            "unknown_classes": list(self.unknown_classes),
            "confusions": [[*pair, count] for pair, count in self.confusions],
            "fitted_clips": list(self.fitted_clips),
            "unreadable": [list(item) for item in self.unreadable],
            "clips": [
                {"clip": name, "label": self.labels[name], **prediction.to_dict()}
                for name, prediction in self.predictions.items()
            ],
        }


def run_test(
    classifier: FewShotClassifier,
    clips: str | Path,
    *,
    allow_fitted: bool = False,
    **source: Any,
) -> TestResult:
    """Tests a fitted model on labelled clips.

    Args:
        classifier: of a fitted model.
        clips: a folder with one folder per class, a CSV or a split.
        allow_fitted: also count clips that the model was fitted on, known by their content.
        source: `root`, `subset`, `group` and `group_scope`, as for `fit`.

    Raises:
        UsageError: when it is an export, or no clip of the model's classes remains.
    """
    if classifier.model is None:
        raise UsageError("test: got an export; expected a model that `fewshot-i2v fit` wrote")
    labelled = read_labelled_clips(clips, **source)
    _check_spelling(labelled.classes, classifier.classes)
    label_of = {clip.name: name for name, members in labelled.by_class.items() for clip in members}
    paths = {name: labelled.split.clip_path(name) for name in label_of}
    predictions = dict(zip(label_of, classifier.iterate(paths.values()), strict=True))
    unreadable = tuple((name, p.error) for name, p in predictions.items() if p.error is not None)
    readable = [name for name, p in predictions.items() if p.error is None]
    fitted = [] if allow_fitted else _fitted_clips(classifier, {n: paths[n] for n in readable})
    tested = [name for name in readable if name not in set(fitted)]
    known = [name for name in tested if label_of[name] in classifier.classes]
    if not known:
        raise UsageError(
            f"{clips}: no clip to test the model on: {len(fitted)} it was fitted on, "
            f"{len(tested)} of other classes than {', '.join(classifier.classes)}"
        )
    groups = labelled.groups
    unknown = [name for name in tested if name not in set(known)]
    accuracy = share_of(
        [predictions[name].nearest == label_of[name] for name in known], [groups[n] for n in known]
    )
    rejection = classifier.model.description.rejection
    share = _promised_share(classifier.model.description.accuracy)
    unknown_share = None if rejection is None else _promised_share(rejection.rejected_unknown)
    return TestResult(
        predictions={name: predictions[name] for name in tested},
        labels=label_of,
        accuracy=accuracy,
        promised=None if share is None else share.expected_count(len(known), accuracy.effective),
        promised_share=share,
        rejected_known=_rejected(classifier, predictions, known, groups),
        rejected_unknown=_rejected(classifier, predictions, unknown, groups),
        promised_unknown=_promised_unknown(unknown_share, [label_of[name] for name in unknown]),
        promised_unknown_share=unknown_share if unknown else None,
        unknown_classes=tuple(sorted({label_of[name] for name in unknown})),
        confusions=_confusions(predictions, label_of, known),
        fitted_clips=tuple(fitted),
        unreadable=unreadable,
    )


def _fitted_clips(classifier: FewShotClassifier, paths: Mapping[str, Path]) -> list[str]:
    """Names the clips that the model was fitted on, by their content."""
    if classifier.model is None:
        return []
    known, digest = (
        set(classifier.model.description.digests.values()),
        classifier.scorer.content_digest,
    )
    return [name for name, path in paths.items() if digest(path)[:_DIGEST_LENGTH] in known]


def _check_spelling(labelled: Sequence[str], known: Sequence[str]) -> None:
    """Refuses classes that the model has in other letters: their clips would count as unknown."""
    by_letters = {name.casefold(): name for name in known}
    for name in labelled:
        if name not in known and name.casefold() in by_letters:
            raise UsageError(
                f"class {name!r}: the model has {by_letters[name.casefold()]!r}; expected equal "
                "letters, upper or lower case. Rename the class of these clips"
            )


def _rejected(
    classifier: FewShotClassifier,
    predictions: dict[str, Prediction],
    names: Sequence[str],
    groups: dict[str, str],
) -> Share | None:
    """Share of clips that are of none of the classes; None where that is off, or without clips."""
    if classifier.model is None or classifier.model.description.rejection is None or not names:
        return None
    return share_of(
        [predictions[name].class_name is None for name in names], [groups[name] for name in names]
    )


def _promised_share(facts: ShareFacts | None) -> Share | None:
    return None if facts is None else Share(**facts.model_dump())


def _promised_unknown(share: Share | None, labels: Sequence[str]) -> tuple[int, int] | None:
    """Between how many clips of other classes, with these labels, are promised to be rejected."""
    if share is None or not labels:
        return None
    # clips of one class are rejected or accepted together
    return share.expected_count(len(labels), len(set(labels)))


def _confusions(
    predictions: dict[str, Prediction], label_of: dict[str, str], names: Sequence[str]
) -> tuple[tuple[tuple[str, str], int], ...]:
    wrong = Counter(
        (label_of[name], predictions[name].nearest or "")
        for name in names
        if predictions[name].nearest != label_of[name]
    )
    return tuple(wrong.most_common())
