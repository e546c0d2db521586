"""What a fitted model says of itself, in plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fewshot_i2v.evaluation.fitting.candidates import Candidate
from fewshot_i2v.evaluation.fitting.labels import describe_labels
from fewshot_i2v.evaluation.identity import package_versions
from fewshot_i2v.models.checkpoints.model_file import ModelDescription


def make_card(
    chosen: Candidate,
    candidates: Sequence[Candidate],
    temperature: float,
    classes: Sequence[str],
    *,
    has_seen_start: bool,
) -> dict[str, Any]:
    """What else the model says of itself, in plain values."""
    tried = [
        {
            "method": candidate.label,
            "parameters": candidate.parameters,
            "accuracy": None if candidate.accuracy is None else vars(candidate.accuracy),
            "chosen": candidate is chosen,
            "stopped": candidate.is_stopped,
        }
        for candidate in candidates
    ]
    labels = {}
    if chosen.held_out is not None:
        labels = describe_labels(chosen.held_out, temperature, classes)
    versions = package_versions()
    return {"tried": tried, "seen_start": has_seen_start, "versions": versions, **labels}


@dataclass(frozen=True)
class ComparedModel:
    """The model that methods were compared for.

    Attributes:
        classes: their names.
        clips: number of labelled clips.
        folds: in how many parts they were held out.
        is_earlier: whether classes or clips have changed since.
    """

    classes: tuple[str, ...]
    clips: int
    folds: int
    is_earlier: bool


def compared_model(description: ModelDescription) -> ComparedModel | None:
    """Finds which model the comparison of methods in a card is of; None: that is not known.

    An update that did not record it left the figures of the model before: they do not fit the
    accuracy of the new one.
    """
    fitted = description.card.get("fitted_on")
    if fitted is not None:
        classes, clips, folds = tuple(fitted["classes"]), fitted["clips"], fitted["folds"]
        return ComparedModel(classes, clips, folds, is_earlier=True)
    chosen = [row["accuracy"] for row in description.card.get("tried", ()) if row["chosen"]]
    if not chosen or chosen[0] is None or description.accuracy is None:
        return None
    own = description.accuracy
    if (chosen[0]["count"], chosen[0]["clips"]) != (own.count, own.clips):
        return None
    clips = sum(map(len, description.clips.values()))
    classes = tuple(description.checkpoint.classes)
    return ComparedModel(classes, clips, description.folds, is_earlier=False)


def updated_card(before: ModelDescription, labels: Mapping[str, Any]) -> dict[str, Any]:
    """Makes the card of a model that was updated, with what is known of its labels.

    The comparison of methods stays, with the model that it is of.
    """
    card: dict[str, Any] = {"tried": [], "versions": package_versions()}
    if before.card.get("seen_start"):
        card["seen_start"] = True
    compared = compared_model(before)
    if compared is not None:
        card["tried"] = before.card["tried"]
        card["fitted_on"] = {
            "classes": list(compared.classes),
            "clips": compared.clips,
            "folds": compared.folds,
        }
    return card | dict(labels)
