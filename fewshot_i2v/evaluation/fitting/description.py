"""What a fitted model says of itself, in plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fewshot_i2v.evaluation.fitting.candidates import Candidate
from fewshot_i2v.evaluation.fitting.labels import describe_labels
from fewshot_i2v.evaluation.identity import package_versions


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
