"""How long a row will take, from one short trial."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from fewshot_i2v.config.evaluation import RowConfig
from fewshot_i2v.data.episodes.episode import EpisodeSpec
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.models.adapters.base.features import Features, unpacked
from fewshot_i2v.tuning.finetune import Episodes, compare, tune_and_predict

Specs = Sequence[EpisodeSpec]
_CLIPS_AT_ONCE = 1024


def row_cost(runner: RowRunner, row: RowConfig) -> dict[str, Any]:
    """What a row would cost, in plain types, from one short trial on clips of zeros."""
    episodes = len(runner.specs)
    specs = [max(runner.specs, key=lambda spec: spec.shape)] * min(runner.at_once, episodes)
    trial = _untuned_trial if runner.untuned else _tuned_trial
    seconds = trial(runner, row, specs) / len(specs)
    return {
        "row": row.slug,
        "episodes": episodes,
        "at_once": len(specs),
        **({"remark": "; ".join(runner.remarks)} if runner.remarks else {}),
        "parameters": runner.parameters,
        "seconds_per_episode": round(seconds, 4),
        "seconds": round(seconds * episodes, 1),
    }


def _tuned_trial(runner: RowRunner, row: RowConfig, specs: Specs) -> float:
    """Seconds of some episodes, from one step and one prediction on clips of zeros."""
    tower = runner.work.encoder.tower
    encoder, head = runner.build([spec.index for spec in specs])
    pixels = torch.zeros(
        row.video.frames, 3, tower.image_size, tower.image_size, dtype=tower.dtype
    ).to(tower.device)
    with torch.no_grad():
        clip = encoder.prefix(pixels, cells=head.cells)
    _, given, asked = specs[0].shape
    labels = runner.labels(specs)
    seen = min(given, row.tuning.batch or given)
    trained = _copies(clip, len(specs), seen)
    at_once = max(1, _CLIPS_AT_ONCE // len(specs))

    def _parts(count: int) -> Iterator[Tensor]:
        for start in range(0, count, at_once):
            yield _copies(clip, len(specs), min(at_once, count - start))

    episodes = Episodes(
        lambda _step: trained,
        labels,
        lambda: _parts(asked),
        given=lambda: _parts(given),
        picked=lambda _step: torch.arange(seen).expand(len(specs), -1),
    )
    times = []
    for steps in (1, 0, 1):  # the first warms up
        recipe = row.tuning.model_copy(update={"steps": steps, "warmup": 0.0})
        start = perf_counter()
        tune_and_predict(encoder, head, episodes, recipe).logits.cpu()
        times.append(perf_counter() - start)
    step = max(0.0, times[2] - times[1]) if runner.parameters else 0.0
    return times[1] + step * row.tuning.steps


def _copies(clip: Tensor, episodes: int, clips: int) -> Tensor:
    return clip.expand(episodes, clips, *clip.shape).contiguous()


def _untuned_trial(runner: RowRunner, row: RowConfig, specs: Specs) -> float:
    """Seconds of comparing features of some episodes; they are drawn, since zeros have no angle."""
    tower, head = runner.work.encoder.tower, runner.head([spec.index for spec in specs])
    rows = runner.features_of_a_clip
    draws = torch.Generator().manual_seed(0)

    def _features(clips: int) -> Features:
        drawn = torch.randn(1, clips, rows, tower.width, generator=draws).to(tower.device)
        return unpacked(drawn.expand(len(specs), -1, -1, -1), row.video.frames)

    _, given, asked = specs[0].shape
    support, query = _features(given), _features(asked)
    seconds = 0.0
    for _ in range(2):  # the first warms up
        start = perf_counter()
        compare(head, support, [query], runner.labels(specs)).logits.cpu()
        seconds = perf_counter() - start
    return seconds
