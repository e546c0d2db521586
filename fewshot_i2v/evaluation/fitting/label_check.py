"""Checks labels: clips that look mislabelled, and classes that are hard to tell apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewshot_i2v.data.splits.builder.labelled_clips import LabelledClips, read_labelled_clips
from fewshot_i2v.errors import UsageError
from fewshot_i2v.evaluation.fitting.labels import (
    ConfusedPair,
    SuspectLabel,
    confused_pairs,
    find_suspects,
)
from fewshot_i2v.evaluation.fitting.model_fit import try_methods
from fewshot_i2v.statistics.shares import Share
from fewshot_i2v.statistics.temperature import fit_temperature, softmax


@dataclass(frozen=True)
class LabelCheck:
    """What models that have not seen a clip say of its label.

    Attributes:
        subset: of the split.
        method: that predicted the clips: adapter, start and head.
        accuracy: share of clips whose label is what was predicted.
        suspects: clips that look mislabelled, the surest first.
        confused: pairs of classes that are hard to tell apart, most first.
        untested: classes of which no clip could be held out.
        notes: messages for the user, a sentence each.
    """

    subset: str
    method: str
    accuracy: Share
    suspects: tuple[SuspectLabel, ...]
    confused: tuple[ConfusedPair, ...]
    untested: tuple[str, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain types, for JSON."""
        return {
            **vars(self),
            "accuracy": vars(self.accuracy),
            "suspects": [vars(suspect) for suspect in self.suspects],
            "confused": [{**vars(p), "classes": list(p.classes)} for p in self.confused],
            "untested": list(self.untested),
            "notes": list(self.notes),
        }


def check_labels(
    clips: LabelledClips | str | Path,
    *,
    like: str | Path | None = None,
    folds: int | None = None,
    progress: bool = False,
    root: str | Path | None = None,
    subset: str | None = None,
    group: str | None = None,
    **overrides: Any,
) -> LabelCheck:
    """Checks the labels of clips, as `fewshot-i2v episodes check --labels` does.

    Every clip is predicted by a model that has not seen it, as in a fit. Clips that cannot be read
    are left out.

    Args:
        clips: a folder with one folder per class, a CSV with the columns path and class, a split,
            or labelled clips.
        like: run folder of a row, whose encoder, adapter, start, head and tuning are taken.
        folds: of the cross-validation, as for `fewshot_i2v.fit`.
        progress: whether to show progress bars on standard error.
        root: folder of the clips of a CSV or a split.
        subset: of a split; None: novel, or train.
        group: regular expression of the group in a clip's name; clips of one group are held out
            together.
        overrides: keys of an evaluation, such as encoder="ViT-B-16", adapter, head.

    Raises:
        UsageError: when there are fewer than two classes, or no class has two clips.
    """
    if not isinstance(clips, LabelledClips):
        clips = read_labelled_clips(clips, root=root, subset=subset, group=group)
    tried = try_methods(
        clips, like=like, folds=folds, skip_unreadable=True, progress=progress, **overrides
    )
    chosen, job = tried.chosen, tried.job
    held_out = chosen.held_out
    if held_out is None or tried.accuracy is None:
        raise UsageError(
            f"{clips.split.name} ({clips.subset}): one clip of each class; expected two or more of "
            "a class, so that one can be held out"
        )
    probabilities = softmax(held_out.logits, fit_temperature(held_out.logits, held_out.labels))
    tested = set(held_out.labels.tolist())
    return LabelCheck(
        subset=clips.subset,
        method=chosen.label,
        accuracy=tried.accuracy,
        suspects=tuple(find_suspects(held_out, probabilities, job.classes)),
        confused=tuple(confused_pairs(held_out, job.classes)),
        untested=tuple(name for c, name in enumerate(job.classes) if c not in tested),
        notes=tuple(job.all_notes),
    )
