"""Fits a model to labelled clips, as `fewshot-i2v fit` does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewshot_i2v.data.splits.builder.labelled_clips import read_labelled_clips
from fewshot_i2v.data.splits.split import GroupScope
from fewshot_i2v.evaluation.classifier import FewShotClassifier
from fewshot_i2v.evaluation.fitting.candidates import Candidate, check_fit_keys
from fewshot_i2v.models.checkpoints.model_file import ModelDescription


@dataclass(frozen=True, eq=False)
class FitResult:
    """Result of a fit.

    Attributes:
        classifier: the model.
        description: what its file says.
        candidates: what was tried, in this order.
        chosen: the one that the model is of.
        notes: messages for the user, a sentence each.
    """

    classifier: FewShotClassifier
    description: ModelDescription
    candidates: tuple[Candidate, ...]
    chosen: Candidate
    notes: tuple[str, ...]


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
    source = {"root": root, "subset": subset, "group": group, "group_scope": group_scope}
    classifier = run_fit(clips, source=source, **settings).classifier
    if out is not None:
        classifier.save(out)
    return classifier


def run_fit(
    clips: str | Path,
    *,
    source: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    **settings: Any,
) -> FitResult:
    """Fits a model and says what was tried.

    Args:
        clips: as for `fit`.
        source: `root`, `subset`, `group` and `group_scope` of `fit`.
        overrides: keys of an evaluation.
        settings: of `FewShotClassifier`.
    """
    check_fit_keys(overrides or {})
    classifier = FewShotClassifier(**settings, **(overrides or {}))
    model, tried = classifier.fit_labelled(read_labelled_clips(clips, **(source or {})))
    return FitResult(
        classifier, model.description, tried.candidates, tried.chosen, tuple(tried.job.notes)
    )
