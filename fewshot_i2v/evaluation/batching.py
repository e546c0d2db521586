"""How a row's episodes are cut up: what runs side by side, and what is in memory at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fewshot_i2v.data.episodes.episode import EpisodeSpec
from fewshot_i2v.models.feature_cache import ClipBank
from fewshot_i2v.utils.seeding import derive_seed

if TYPE_CHECKING:
    from fewshot_i2v.evaluation.row_runner import RowRunner

Names = Sequence[Sequence[str]]

# Tokens times width of one step that keeps the device busy: more episodes side by side than that
# bring nothing (measured with scripts/benchmarks/bench_tuning.py).
_STEP_WORK = {"cuda": 30_000 * 768, "cpu": 400_000}
# Values of support and query tokens gathered at once: bounds their memory.
_GATHERED_WORK = 1 << 27
# Trained values of one batch, each of which takes 16 bytes with its gradient and AdamW's two
# moments; and values that heads keep for the backward pass.
_TRAINED_VALUES = 1 << 28
_MOST_AT_ONCE = 256


def by_shape(specs: Sequence[EpisodeSpec]) -> list[list[EpisodeSpec]]:
    """Episodes that can run side by side: as many classes, support clips and query clips."""
    groups: dict[tuple[int, int, int], list[EpisodeSpec]] = defaultdict(list)
    for spec in specs:
        groups[spec.shape].append(spec)
    return list(groups.values())


def episodes_at_once(runner: RowRunner) -> int:
    """As many episodes side by side as keep the device busy, within bounds of memory.

    It depends on the shapes and the kind of device alone, never on free memory, so that the same
    command gives the same batches everywhere.
    """
    row, tower = runner.row, runner.work.encoder.tower
    encoder, head = runner.build([0])
    if runner.untuned:
        clip = runner.features_of_a_clip * tower.width
    elif encoder.adapter.alone:
        return 1
    else:
        clip = prod(encoder.adapter.reading(head.cells).shape(tower, row.video.frames))
    # not of the episodes drawn: a run that is extended keeps its batches
    _, support, query = runner.work.sources[row.shot].largest
    most: int = _GATHERED_WORK // ((support + query) * clip)
    if runner.parameters and row.tuning.steps:
        trained = min(support, row.tuning.batch or support)
        busy = -(-_STEP_WORK[tower.device.type] // (trained * clip))
        kept = max(runner.parameters, head.training_values(trained))
        most = min(most, busy, _TRAINED_VALUES // kept)
    return max(1, min(_MOST_AT_ONCE, most))


def parts_of(bank: ClipBank, names: Names) -> Callable[[], Iterator[Tensor]]:
    """Gives what is kept of E rows of clips, (E, C, ...) in parts along C that fit into memory."""

    def _parts() -> Iterator[Tensor]:
        # the first clip tells how large one is
        one = bank.tokens([row[:1] for row in names[:1]]).numel()
        size = max(1, _GATHERED_WORK // (len(names) * one))
        for start in range(0, len(names[0]), size):
            yield bank.tokens([row[start : start + size] for row in names])

    return _parts


def picked_clips(
    names: Names, specs: Sequence[EpisodeSpec], batch: int, seed: int
) -> Callable[[int], Tensor]:
    """Which support clips are seen at a step: all in turn, in another order each time around.

    Args:
        names: the S support clips of E episodes.
        specs: the episodes.
        batch: clips of a step, at most S.
        seed: of the run.

    Returns:
        From the number of a step to positions, (E, batch) int64.
    """
    count = len(names[0])

    def _order(spec: EpisodeSpec, turn: int) -> Tensor:
        draws = torch.Generator().manual_seed(derive_seed("batch", seed, spec.index, turn))
        return torch.randperm(count, generator=draws)

    def _pick(step: int) -> Tensor:
        places = range(step * batch, (step + 1) * batch)
        turns = sorted({place // count for place in places})
        rows = []
        for spec in specs:
            flat = torch.cat([_order(spec, turn) for turn in turns])
            first = places.start - turns[0] * count
            rows.append(flat[first : first + batch])
        return torch.stack(rows)

    return _pick
