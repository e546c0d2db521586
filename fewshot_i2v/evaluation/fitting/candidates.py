"""Methods that `fit` tries on labelled clips, and the choice among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.config.evaluation import EvaluationConfig, RowConfig
from fewshot_i2v.config.method import MethodSpec
from fewshot_i2v.errors import UsageError
from fewshot_i2v.evaluation.fitting.held_out import HeldOutLogits
from fewshot_i2v.evaluation.reproduce import method_of_row
from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.runs.run_folder import read_run
from fewshot_i2v.statistics.method_choice import accuracy_of_choice, choose_method
from fewshot_i2v.statistics.shares import Share, share_of

FROZEN, AUTO = "frozen", "auto"
_ORDERED = "prototype:pooling=ordered,center=true"
COMBINED_HEAD = f"{_ORDERED},tokens=summary+grid4+motion,weights=loo"
"""Head of adapters where none is named: it reads all that an adapter changes."""
AUTO_HEADS = (
    "prototype",
    _ORDERED,
    f"{_ORDERED},tokens=grid4",
    f"{_ORDERED},tokens=grid4+motion",
    COMBINED_HEAD,
)
"""Heads that are tried with the frozen encoder where none is named, the simplest first."""
AUTO_ADAPTERS = (FROZEN, "st-adapter", "aim")
"""Adapters that are tried with `auto`."""


_KEYS = frozenset(
    {"adapter", "head", "start", "tokens", "untuned", "tuning", "recipes", "encoder", "video"}
    | {"limits", "precision", "device", "deterministic", "workers", "cache", "cache_limit"}
    | {"class_texts", "feature_cache", "verify", "seed", "allow_seen", "at_once", "compile"}
)
"""Keys of an evaluation that a fit takes."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A method that was tried.

    Attributes:
        row: adapter, start, head and tuning.
        parameters: that are trained.
        held_out: its predictions of held-out clips; None where no clip could be held out.
        accuracy: share of them that is right; None likewise.
        seconds: of the cross-validation.
        position: among the methods to try.
        is_stopped: whether it was stopped before it had predicted all of these clips, because it
            could not be chosen any more.
    """

    row: RowConfig
    parameters: int
    held_out: HeldOutLogits | None
    accuracy: Share | None
    seconds: float
    position: int = 0
    is_stopped: bool = False

    @property
    def label(self) -> str:
        """Adapter, start and head in words."""
        return f"{self.adapter_label}, {self.row.head.label}"

    @property
    def adapter_label(self) -> str:
        """Adapter and start in words."""
        start = "" if self.row.start == "fresh" else f" from {self.row.start}"
        untuned = " untuned" if start and not self.row.tuning.steps else ""
        return f"{self.row.adapter.label}{start}{untuned}"

    @property
    def is_tuned(self) -> bool:
        """Whether anything is fine-tuned on the labelled clips."""
        return self.parameters > 0 and self.row.tuning.steps > 0


def load_fit_config(
    source: str, overrides: Mapping[str, Any], like: Path | None = None
) -> tuple[EvaluationConfig, bool]:
    """Reads what is to be tried.

    Args:
        source: name of the labelled clips.
        overrides: keys of an evaluation, dotted or nested. The adapter may be auto.
        like: run folder of a row whose method is taken where the overrides do not say otherwise.

    Returns:
        The configuration, and whether the heads are those of `AUTO_HEADS`.
    """
    values = dict(overrides)
    check_fit_keys(values)
    if like is not None:
        method = method_of_row(read_run(like).header)
        return load_config({"split": source, **method}, values), False
    adapters = values.pop("adapter", None) or [FROZEN]
    names = [adapters] if isinstance(adapters, str | Mapping) else list(adapters)
    values["adapter"] = list(AUTO_ADAPTERS) if AUTO in names else names
    has_auto_heads = not values.get("head") and not values.get("tokens")
    if has_auto_heads:
        values["head"] = list(AUTO_HEADS)
    if AUTO in names and values.get("start"):
        values.setdefault("untuned", True)
    config = load_config({"split": source}, values)
    if any(section.untuned_weight for section in (config.tuning, *config.recipes.values())):
        raise UsageError(
            "tuning.untuned_weight: has no meaning for a fit, whose model holds one encoder, the "
            "tuned one; leave it out"
        )
    return config, has_auto_heads


def check_fit_keys(keys: Iterable[str]) -> None:
    """Refuses keys of an evaluation that a fit does not take; UsageError."""
    wrong = sorted({key.partition(".")[0] for key in keys} - _KEYS)
    if wrong:
        raise UsageError(
            f"{wrong[0]}: has no meaning for a fit; expected keys of {', '.join(sorted(_KEYS))}"
        )


def rows_to_try(config: EvaluationConfig, *, has_auto_heads: bool) -> list[RowConfig]:
    """Returns the methods to try; of automatic heads adapters have the one that reads most."""
    return [
        row
        for row in expand_rows(config)
        if not has_auto_heads
        or row.adapter.name == FROZEN
        or row.head.label == expanded_label(COMBINED_HEAD)
    ]


def expanded_label(head: str) -> str:
    """Label of a head, its options in order."""
    return MethodSpec.parse(head).label


def by_simplicity(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Sorts candidates: those without fine-tuning first, otherwise as they are."""
    return sorted(candidates, key=lambda candidate: candidate.is_tuned)


def candidates_to_finish(candidates: Sequence[Candidate], chosen: Candidate) -> list[Candidate]:
    """Returns the stopped candidates that could still be chosen: those simpler than the chosen.

    A candidate was stopped because one without fine-tuning was ahead of it. Where another one,
    which comes later, is ahead of that, the earlier ones may be near enough to it to be chosen.
    """
    ordered = by_simplicity(candidates)
    return [c for c in ordered[: ordered.index(chosen) + 1] if c.is_stopped]


def _answers(held_out: HeldOutLogits, names: Sequence[str]) -> NDArray[np.float64]:
    """Whether each clip is right, (R,); NaN where it was not predicted."""
    correct = dict(zip(held_out.names, held_out.correct, strict=True))
    return np.array([correct.get(name, np.nan) for name in names], dtype=np.float64)


def choose_candidate(
    candidates: Sequence[Candidate], groups: Mapping[str, str], *, seed: int = 0
) -> tuple[Candidate, Share | None]:
    """Chooses the simplest candidate that is about as good as the best, see `choose_method`.

    Simpler are those without fine-tuning, and of equal ones the earlier. Without held-out clips it
    is the last one without fine-tuning, or the first if there is none. One that was stopped counts
    at its rate so far; see `candidates_to_finish`.

    Args:
        candidates: what was tried.
        groups: group of each clip, by name.
        seed: of the resamples.

    Returns:
        The candidate, and the accuracy to expect of it, less what the choice among them adds.
    """
    ordered = by_simplicity(candidates)
    held_out = [candidate.held_out for candidate in ordered if candidate.held_out is not None]
    if len(held_out) < len(ordered):
        untuned = [candidate for candidate in ordered if not candidate.is_tuned]
        return (untuned[-1] if untuned else ordered[0]), None
    names = max((logits.names for logits in held_out), key=len)
    correct = np.stack([_answers(logits, names) for logits in held_out], axis=1)
    group_of_clip = [groups[name] for name in names]
    chosen = choose_method(correct, group_of_clip)
    hits = correct[:, chosen]
    expected = accuracy_of_choice(correct, group_of_clip, seed=seed)
    optimism = float(hits.mean()) - expected
    return ordered[chosen], share_of(hits, group_of_clip, optimism=optimism)
