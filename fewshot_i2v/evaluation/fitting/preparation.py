"""What a fit does before it tries methods, in its main process and in each of its workers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fewshot_i2v.config.evaluation import RowConfig
from fewshot_i2v.data.splits.builder.labelled_clips import LabelledClips
from fewshot_i2v.errors import HeadError, UsageError
from fewshot_i2v.evaluation.class_texts import take_texts_of_subset
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.fitting.candidates import load_fit_config, rows_to_try
from fewshot_i2v.evaluation.fitting.job import FitJob, plan_episodes, read_clips
from fewshot_i2v.evaluation.identity import toy_encoder_warning
from fewshot_i2v.runs.row_summary import TOY_ENCODER
from fewshot_i2v.tuning.run_context import resolve_device, resolve_precision


def prepare_fit(
    labelled: LabelledClips,
    *,
    like: str | Path | None = None,
    folds: int | None = None,
    skip_unreadable: bool = False,
    progress: bool = False,
    is_shared: bool = False,
    **overrides: Any,
) -> tuple[FitJob, list[RowConfig]]:
    """Loads the encoder, decodes the clips, and plans folds; returns also the methods to try.

    Where the fit `is_shared` by several processes, a disk of clips that is away is waited for.
    """
    if folds is not None and folds < 2:
        raise UsageError(f"folds: got {folds}; expected 2 or more")
    config, has_auto_heads = load_fit_config(
        labelled.split.name, overrides, None if like is None else Path(like)
    )
    config = resolve_precision(config, resolve_device(config.device))
    config = config.model_copy(update={"subset": labelled.subset})
    config = take_texts_of_subset(config, labelled.split)
    rows = rows_to_try(config, has_auto_heads=has_auto_heads)
    context = EvaluationContext.open(config, labelled.split)
    if is_shared:
        context.disk.wait_when_away(has_clips=True)  # they were listed
    notes = list(labelled.notes)
    if config.encoder.name == TOY_ENCODER and not labelled.split.generator:
        notes.append(toy_encoder_warning())
    job = FitJob(labelled, config, context, progress, notes)
    read_clips(job, skip_unreadable=skip_unreadable)
    plan_episodes(job, rows, folds)
    return job, _possible_rows(job, rows) if has_auto_heads else rows


def _possible_rows(job: FitJob, rows: Sequence[RowConfig]) -> list[RowConfig]:
    """Returns the methods whose heads can read the encoder, and notes the others."""
    possible = []
    for row in rows:
        try:
            _ = job.runner(row, job.shot).sizes
        except HeadError as error:
            job.notes.append(f"not tried: head {row.head.label}: {error}")
        else:
            possible.append(row)
    if not possible:
        raise UsageError("head: none of the heads can read this encoder; give --head prototype")
    return possible
