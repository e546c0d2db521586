"""Notes for the user about what the memory of the device was too small for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fewshot_i2v.utils.text_table import count_text

if TYPE_CHECKING:
    from fewshot_i2v.evaluation.row_runner import RowRunner


def part_notes(runner: RowRunner) -> list[str]:
    """Says which parts of a row were smaller than planned, and what its workers said of theirs."""
    slug, notes = runner.row.slug, list(runner.worker_notes)
    limit = runner.part_size.limit
    if limit is not None:
        first, reason = runner.first_limit, "the memory of the device was too small"
        if first is not None and limit == first.episodes:
            reason = str(first)
        notes.append(
            f"{slug}: {reason} for {runner.parallel_episodes} episodes side by side; "
            f"{count_text(limit, 'episode')} at a time ran, which changes no more than rounding"
        )
    if runner.prediction_size.limit is not None:
        notes.append(
            f"{slug}: the memory of the device was too small to predict all clips of a batch "
            f"at once; {count_text(runner.prediction_size.limit, 'clip')} at a time ran, which "
            "changes no more than rounding"
        )
    return notes
