"""Fits a model to labelled clips, as `fewshot-i2v fit` does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fewshot_i2v.data.splits.builder.labelled_clips import read_labelled_clips
from fewshot_i2v.data.splits.split import GroupScope
from fewshot_i2v.evaluation.classifier import FewShotClassifier
from fewshot_i2v.evaluation.fitting.forecast import FitForecast, forecast_fit
from fewshot_i2v.evaluation.fitting.model_fit import TriedMethods
from fewshot_i2v.models.checkpoints.model_file import ModelDescription


class FitResult(NamedTuple):
    """A fitted model, what its file says, and what was tried."""

    classifier: FewShotClassifier
    description: ModelDescription
    tried: TriedMethods


def fit(
    clips: str | Path,
    out: str | Path | None = None,
    *,
    root: str | Path | None = None,
    subset: str | None = None,
    group: str | None = None,
    group_scope: GroupScope = "global",
    **settings: Any,
) -> FewShotClassifier:
    """Fits a model to labelled clips, as `fewshot-i2v fit` does.

    Args:
        clips: a folder with one folder per class, a CSV with the columns path and class, or a
            split.
        out: file of the model; None: it is not written.
        root: folder of the clips of a CSV or a split.
        subset: of a split; None: novel, or train.
        group: regular expression of the group in a clip's name; clips of one group are held out
            together.
        group_scope: whether equal groups of two classes are one ("global"), as persons are, or two
            ("class").
        settings: of `FewShotClassifier`, such as encoder="ViT-B-16", adapter="auto", folds=5.

    Returns:
        The model; `model.description` of it says what to expect.

    Raises:
        FewshotError: see `fewshot_i2v.errors`.
    """
    source: dict[str, Any] = {"root": root, "subset": subset, "group": group}
    classifier = run_fit(clips, settings, group_scope=group_scope, **source).classifier
    if out is not None:
        classifier.save(out)
    return classifier


def forecast(clips: str | Path, settings: Mapping[str, Any], **source: Any) -> FitForecast:
    """Estimates how long `run_fit` would take; nothing is tuned or written."""
    parameters = FewShotClassifier(**settings).get_params()
    return forecast_fit(read_labelled_clips(clips, **source), **parameters)


def run_fit(clips: str | Path, settings: Mapping[str, Any], **source: Any) -> FitResult:
    """Fits a model, and says what was tried; the arguments are those of `fit`."""
    classifier = FewShotClassifier(**settings)
    model, tried = classifier.fit_labelled(read_labelled_clips(clips, **source))
    return FitResult(classifier, model.description, tried)
