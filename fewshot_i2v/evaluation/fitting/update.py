"""Adds clips or classes to a fitted model, or removes classes, without tuning anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fewshot_i2v.errors import UsageError
from fewshot_i2v.evaluation.classifier import FewShotClassifier
from fewshot_i2v.evaluation.clip_scorer import ClipScorer
from fewshot_i2v.evaluation.fitting.description import updated_card
from fewshot_i2v.evaluation.fitting.held_out import HeldOutLogits
from fewshot_i2v.evaluation.fitting.labels import describe_labels
from fewshot_i2v.models.adapters.base.features import pack_features, unpack_features
from fewshot_i2v.models.checkpoints.model_file import (
    SUPPORT_FEATURES,
    SUPPORT_LABELS,
    ModelDescription,
    ModelFile,
    ShareFacts,
    tensor_facts,
)
from fewshot_i2v.models.heads.base.head import Head
from fewshot_i2v.statistics.shares import share_of
from fewshot_i2v.statistics.temperature import fit_temperature


@dataclass(frozen=True, eq=False)
class UpdateResult:
    """Result of an update.

    Attributes:
        classifier: the new model.
        notes: messages for the user, a sentence each.
    """

    classifier: FewShotClassifier
    notes: tuple[str, ...]


def update_model(
    classifier: FewShotClassifier,
    *,
    add: Mapping[str, Sequence[str | Path]] | None = None,
    remove: Sequence[str] = (),
) -> UpdateResult:
    """Adds clips to a fitted model, or removes classes from it.

    The adapter stays as it is. Where nothing was tuned on the clips, the accuracy to expect and the
    temperature are computed anew, each clip held out alone; "none of these" is off until the model
    is fitted again. Where an adapter was tuned, it has seen its clips, and nothing is promised.

    Args:
        classifier: of a fitted model.
        add: clips by class; a class that is new is added.
        remove: classes.

    Raises:
        UsageError: for an export, a class that is not there, a head whose parameters are of its
            classes, a clip that is there already, or fewer than two remaining classes.
        VideoUnreadable: naming the clips that cannot be read.
    """
    if classifier.model is None:
        raise UsageError("update: got an export; expected a model that `fewshot-i2v fit` wrote")
    scorer = classifier.scorer
    model, added = classifier.model, {name: list(clips) for name, clips in (add or {}).items()}
    _check(scorer, added, remove)
    classes = [name for name in scorer.classes if name not in remove]
    classes += [name for name in added if name not in classes]
    if len(classes) < 2:
        raise UsageError(f"update: {len(classes)} class remains; expected two or more")
    names, features, labels = _remaining_clips(model, classes)
    digests = {n: d for n, d in model.description.digests.items() if n in set(names)}
    for name, clips in added.items():
        paths = [Path(clip) for clip in clips]
        packed = pack_features(scorer.select_features(paths))[0].cpu()
        for path in paths:
            digest = scorer.content_digest(path)[: len(next(iter(digests.values()), "0" * 16))]
            if digest in digests.values():
                raise UsageError(f"{path}: this clip is in the model already")
            # the same relative name may be there, of another folder
            clip_name = str(path.resolve() if str(path) in digests else path)
            digests[clip_name] = digest
            names.append(clip_name)
        features = torch.cat([features, packed])
        labels = torch.cat([labels, torch.full((len(paths),), classes.index(name))])
    order = torch.argsort(labels, stable=True)
    names = [names[int(i)] for i in order]
    tensors = {n: t for n, t in model.tensors.items() if not n.startswith("support.")}
    tensors |= {SUPPORT_FEATURES: features[order].contiguous(), SUPPORT_LABELS: labels[order]}
    description, notes = _describe(scorer, model.description, classes, names, digests, tensors)
    updated = FewShotClassifier.of_model(ModelFile(description, tensors), scorer.encoder)
    return UpdateResult(updated, notes)


def _check(
    scorer: ClipScorer, added: Mapping[str, Sequence[str | Path]], remove: Sequence[str]
) -> None:
    head = scorer.head
    if head.uses_class_names or head.state_dict():
        raise UsageError(
            f"update: the head {type(head).__name__} has parameters or texts for the classes that "
            "it was fitted to; fit the model again with all clips"
        )
    missing = [name for name in remove if name not in scorer.classes]
    if missing:
        raise UsageError(
            f"remove: the model has no class {missing[0]!r}; it has {', '.join(scorer.classes)}"
        )
    both = sorted(set(added) & set(remove))
    if both:
        raise UsageError(f"update: {both[0]!r} is both added to and removed; give one of them")
    empty = [name for name, clips in added.items() if not clips]
    if empty:
        raise UsageError(f"add: no clip for class {empty[0]!r}")
    if not added and not remove:
        raise UsageError("update: nothing to add or to remove")


def _remaining_clips(model: ModelFile, classes: Sequence[str]) -> tuple[list[str], Tensor, Tensor]:
    """Returns names, features and labels of the clips whose classes remain."""
    names, rows, labels = [], [], []
    position = 0
    # in the order of the classes, as the features are; the file has the names in alphabetical order
    for name in model.description.checkpoint.classes:
        for clip in model.description.clips[name]:
            if name in classes:
                names.append(clip)
                rows.append(position)
                labels.append(classes.index(name))
            position += 1
    return names, model.tensors[SUPPORT_FEATURES][rows], torch.tensor(labels, dtype=torch.int64)


def _describe(
    scorer: ClipScorer,
    before: ModelDescription,
    classes: Sequence[str],
    names: Sequence[str],
    digests: Mapping[str, str],
    tensors: dict[str, Tensor],
) -> tuple[ModelDescription, tuple[str, ...]]:
    """Describes the new model, with what can be said of it without fitting it again."""
    labels = tensors[SUPPORT_LABELS]
    head = scorer.head_for(len(classes))
    notes = ['"none of these" is off until the model is fitted again'] if before.rejection else []
    accuracy, temperature, card, folds = None, before.temperature, {}, 0
    if before.tuning:
        notes.append("the adapter was tuned on earlier clips: fit again to know what to expect")
    else:
        features = tensors[SUPPORT_FEATURES]
        held_out = _leave_one_out(head, features, labels, names, scorer.device)
        if len(held_out.names):
            accuracy = ShareFacts(**vars(share_of(held_out.correct)))
            temperature = fit_temperature(held_out.logits, held_out.labels)
            card, folds = describe_labels(held_out, temperature, classes), len(held_out.names)
            notes.append("the interval takes all clips as independent: groups are not in the model")
    checkpoint = before.checkpoint.model_dump()
    checkpoint |= {"classes": list(classes), "tensors": tensor_facts(tensors).model_dump()}
    checkpoint["head"] = {**checkpoint["head"], "way": len(classes)}
    clips: dict[str, list[str]] = {name: [] for name in classes}
    for name, label in zip(names, labels.tolist(), strict=True):
        clips[classes[label]].append(name)
    values = before.model_dump() | {
        "checkpoint": checkpoint,
        "clips": clips,
        "digests": dict(digests),
        "accuracy": accuracy and accuracy.model_dump(),
        "folds": folds,
        "temperature": temperature,
        "rejection": None,
        "card": updated_card(before, card),
    }
    return ModelDescription.model_validate(values), tuple(notes)


def _leave_one_out(
    head: Head, features: Tensor, labels: Tensor, names: Sequence[str], device: torch.device
) -> HeldOutLogits:
    """Predicts each clip from all others; the only clip of a class is left out."""
    counts = torch.bincount(labels, minlength=head.way)
    tested = [i for i in range(len(labels)) if counts[labels[i]] > 1]
    packed = features[None].to(device)
    rows = []
    for i in tested:
        others = [j for j in range(len(labels)) if j != i]
        query = unpack_features(packed[:, i : i + 1], head.frames)
        support = unpack_features(packed[:, others], head.frames)
        with torch.inference_mode():
            logits = head.selected_logits(query, support, labels[None, others].to(device))
        rows.append(logits[0, 0].double().cpu().numpy())
    return HeldOutLogits(
        tuple(names[i] for i in tested),
        labels[tested].numpy(),
        np.array(rows).reshape(len(rows), head.way),
    )
