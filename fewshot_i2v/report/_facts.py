"""A row as plain values, for files that programs read."""

from __future__ import annotations

from typing import Any

from fewshot_i2v.report._beyond import Bin, bins_of
from fewshot_i2v.report._measures import Measures
from fewshot_i2v.report._order import ORDERS, Reliance, order_of
from fewshot_i2v.report._verdicts import Against
from fewshot_i2v.report.comparison import where
from fewshot_i2v.report.reach import CLASSES, CLIPS, SEEDS, Reach
from fewshot_i2v.report.sections import LEVEL, Row, Section
from fewshot_i2v.report.terminal import escaped
from fewshot_i2v.statistics import Interval


def facts_of(
    section: Section,
    row: Row,
    mean: Interval | None,
    gain: Interval | None,
    against: Against | None,
    order: Reliance | None,
) -> dict[str, Any]:
    """All that is known of a row; shares are from 0 to 1, and every row has the same keys.

    Args:
        section: that it is in.
        row: the row.
        mean: its accuracy.
        gain: over the frozen encoder.
        against: what may be said of that gain.
        order: what it loses with its frames in other orders.
    """
    return (
        _row_facts(section, row, mean, gain)
        | _judged(against)
        | _measured(row.measures)
        | _reached(row.reach)
        | {"reliability": [_bin(one) for one in bins_of([row])]}
        | _lost(row, order)
        | {"folder": row.folder}
    )


def _row_facts(
    section: Section, row: Row, mean: Interval | None, gain: Interval | None
) -> dict[str, Any]:
    t = row.table
    return {
        "table": section.title,
        "setting": section.setting,
        "adapter": escaped(t.adapter),
        "note": t.note,
        "start": t.start,
        "start_name": t.start_name,
        "seen": t.seen,
        "head": t.head,
        "uses_names": t.uses_names,
        "way": section.way,
        "shot": t.shot,
        "accuracy": None if mean is None else mean.mean,
        "accuracy_low": None if mean is None else mean.low,
        "accuracy_high": None if mean is None else mean.high,
        "over_frozen": None if gain is None else gain.mean,
        "over_frozen_low": None if gain is None else gain.low,
        "over_frozen_high": None if gain is None else gain.high,
        "level": LEVEL,
        "method": None if mean is None else mean.method,
        "interval_covers": None if mean is None else mean.covers,
        "training_seeds": len(t.seed_means) or 1,
        "seed_deviation": t.seed_deviation,
        "episodes": len(t.accuracies),
        "failed": t.failed,
        "parameters": t.parameters,
        "macs_per_clip": t.macs_per_clip,
        "seconds_per_episode": t.seconds_per_episode if t.accuracies else None,
        "peak_memory_mb": t.peak_memory_mb if t.accuracies else None,
    }


def _judged(against: Against | None) -> dict[str, Any]:
    others = None if against is None else against.other_clips
    shown = against is not None and against.verdict != "open"
    return {
        "over_frozen_other_clips_low": None if others is None else others.low,
        "over_frozen_other_clips_high": None if others is None else others.high,
        "over_frozen_verdict": None if against is None else against.verdict,
        "over_frozen_verdict_on": where(against.unit, also=against.also)
        if against is not None and shown
        else None,
    }


def _measured(m: Measures | None) -> dict[str, Any]:
    return {
        "balanced_accuracy": None if m is None else m.balanced,
        "ece": None if m is None else m.ece.mean,
        "ece_low": None if m is None else m.ece.low,
        "ece_high": None if m is None else m.ece.high,
        "ece_by_chance": None if m is None else m.by_chance,
        "ece_covers": None if m is None else m.ece.covers,
        "over_confident": None if m is None else m.over_confident,
        "log_loss": None if m is None else m.log_loss,
        "log_loss_is_a_bound": None if m is None else bool(m.unresolved),
        "brier": None if m is None else m.brier,
        "predictions": None if m is None else m.predictions,
    }


def _reached(found: Reach | None) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for question in (CLIPS, CLASSES, SEEDS):
        interval = None if found is None else found.intervals.get(question)
        name = question.replace(" ", "_")
        facts[f"{name}_low"] = None if interval is None else interval.low
        facts[f"{name}_high"] = None if interval is None else interval.high
    return facts


def _bin(one: Bin) -> dict[str, Any]:
    return {key: value for key, value in vars(one).items() if key != "row"}


def _lost(row: Row, reliance: Reliance | None) -> dict[str, Any]:
    facts: dict[str, Any] = {"frame_order": order_of(row)}
    for order in ORDERS:
        lost = None if reliance is None else reliance.lost.get(order)
        facts |= {
            f"lost_{order}": None if lost is None else lost.mean,
            f"lost_{order}_low": None if lost is None else lost.low,
            f"lost_{order}_high": None if lost is None else lost.high,
        }
    return facts
