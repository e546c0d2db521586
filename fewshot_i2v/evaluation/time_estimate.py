"""Time estimate of a row, from one short trial."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from fewshot_i2v.config.evaluation import RowConfig
from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.evaluation.inputs import support_labels
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.models.adapters.base.features import Features, unpack_features
from fewshot_i2v.tuning.finetune import EpisodeInputs, finetune_and_predict, predict_from_features

EpisodeList = Sequence[Episode]
_MAX_CLIPS_PER_CHUNK = 1024


def row_cost(runner: RowRunner, row: RowConfig) -> dict[str, Any]:
    """Returns the estimated cost of a row, in plain types, from a trial on clips of zeros."""
    episodes = len(runner.episodes)
    batch = [max(runner.episodes, key=lambda episode: episode.shape)] * min(
        runner.parallel_episodes, episodes
    )
    time_trial = _time_prediction if runner.is_static else _time_fine_tuning
    seconds = time_trial(runner, row, batch) / len(batch)
    return {
        "row": row.slug,
        "episodes": episodes,
        "at_once": len(batch),
        **({"remark": "; ".join(runner.notes)} if runner.notes else {}),
        "parameters": runner.parameters,
        "seconds_per_episode": round(seconds, 4),
        "seconds": round(seconds * episodes, 1),
    }


def _time_fine_tuning(runner: RowRunner, row: RowConfig, batch: EpisodeList) -> float:
    """Seconds of some episodes, from one step and one prediction on clips of zeros."""
    tower = runner.context.encoder.tower
    indices = [episode.index for episode in batch]
    encoder, head = runner.build_encoder(indices), runner.build_head(indices)
    pixels = torch.zeros(
        row.video.frames, 3, tower.image_size, tower.image_size, dtype=tower.dtype
    ).to(tower.device)
    with torch.no_grad():
        prefix = encoder.compute_prefix(pixels, grid_sizes=head.grid_sizes)
    _, n_support, n_query = batch[0].shape
    labels = support_labels(batch, tower.device)
    batch_size = min(n_support, row.tuning.batch or n_support)
    support_tokens = _repeat_clip(prefix, len(batch), row.tuning.views * batch_size)
    chunk_size = max(1, _MAX_CLIPS_PER_CHUNK // len(batch))

    def _chunks(n_clips: int) -> Iterator[Tensor]:
        for start in range(0, n_clips, chunk_size):
            yield _repeat_clip(prefix, len(batch), min(chunk_size, n_clips - start))

    inputs = EpisodeInputs(
        lambda _step: support_tokens,
        labels,
        lambda: _chunks(n_query),
        all_support=lambda: _chunks(n_support),
        batch_indices=lambda _step: torch.arange(batch_size).expand(len(batch), -1),
        views=row.tuning.views,
    )
    times, rates = [], runner.learned_rates(encoder, head)
    for steps in (1, 0, 1):  # the first warms up
        recipe = row.tuning.model_copy(update={"steps": steps, "warmup": 0.0})
        start = perf_counter()
        finetune_and_predict(encoder, head, inputs, recipe, rates).logits.cpu()
        times.append(perf_counter() - start)
    step_seconds = max(0.0, times[2] - times[1]) if runner.parameters else 0.0
    return times[1] + step_seconds * row.tuning.steps


def _repeat_clip(prefix: Tensor, n_episodes: int, n_clips: int) -> Tensor:
    return prefix.expand(n_episodes, n_clips, *prefix.shape).contiguous()


def _time_prediction(runner: RowRunner, row: RowConfig, batch: EpisodeList) -> float:
    """Seconds of predicting some episodes from random features, since zeros have no angle."""
    tower = runner.context.encoder.tower
    head = runner.build_head([episode.index for episode in batch])
    generator = torch.Generator().manual_seed(0)

    def _features(n_clips: int) -> Features:
        shape = (1, n_clips, row.video.frames + 1, head.width)
        values = torch.randn(shape, generator=generator).to(tower.device)
        return unpack_features(values.expand(len(batch), -1, -1, -1), row.video.frames)

    _, n_support, n_query = batch[0].shape
    support, query = _features(n_support), _features(n_query)
    labels = support_labels(batch, tower.device)
    seconds = 0.0
    for _ in range(2):  # the first warms up
        start = perf_counter()
        predict_from_features(head, support, [query], labels).logits.cpu()
        seconds = perf_counter() - start
    return seconds
