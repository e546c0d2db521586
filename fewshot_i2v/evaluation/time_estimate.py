"""Estimate of the time and memory of rows, from short trials that rows share.

Measured is how long a few clips of noise take: through the frozen tower, through each adapter forth
and back, and through each head. The rest is reckoned: a row's seconds are these times the clips
that it is counted to encode, and its memory is what the trial kept for each clip, likewise.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.evaluation.inputs import support_labels
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.evaluation.row_work import RowWork
from fewshot_i2v.evaluation.step_memory import (
    TRAINED_BYTES,
    bytes_saved,
    cached_tokens,
    noise_clips,
    run_step,
)
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.adapters.base.frozen_prefix import (
    ClipTokens,
    GridSizes,
    prefix_tower,
    select_clips,
)
from fewshot_i2v.models.factory import resolve_options
from fewshot_i2v.tuning.augmentation import FRAMES_PER_SEGMENT, SupportAugmenter
from fewshot_i2v.tuning.support_loss import episode_losses
from fewshot_i2v.utils.environment import peak_memory_mb, reset_peak_memory
from fewshot_i2v.utils.timing import LONG_SECONDS, best_seconds

# Tokens times width of the largest trial: a small part of a batch on the CPU, where time grows with
# the clips; a full batch on a GPU, where a few clips take as long as many.
_TRIAL_ELEMENTS = {"cpu": 105_000, "cuda": 30_000 * 768}
_MAX_TRIAL_EPISODES = 4
_MIB = 2**20
# Bytes of a value of pooled features, which are in float32 in every precision.
_POOLED_BYTES = 4
# How often a head holds the features of its clips: 1.0 to 2.1 times, measured with readouts.
_HEAD_COPIES = 1.5
# Channels of a block in inference, in widths: input, qkv, attended, projected, and the MLP twice.
_BLOCK_WIDTHS = 14


class TimeLine(NamedTuple):
    """Seconds of a batch of clips: a fixed part, and one that grows with them."""

    fixed: float
    per_clip: float

    def seconds(self, clips: float) -> float:
        """Seconds of a batch of that many clips."""
        return self.fixed + self.per_clip * clips


class _ForwardTrial(NamedTuple):
    """What an adapter was measured to take without gradients.

    Attributes:
        encoder: the adapted encoder.
        prefix: of the trial's clips, (1, clips, ...), as a tuned row reads it of the caches.
        n_clips: number of the trial's clips.
        seconds: from the frozen prefix.
        features: of the trial's clips, (1, clips, ...).
    """

    encoder: AdaptedEncoder
    prefix: ClipTokens
    n_clips: int
    seconds: TimeLine
    features: Features


class _StepTrial(NamedTuple):
    """What an adapter was measured to take in a step.

    Attributes:
        seconds: forth and back, with augmentation and the prefix where these belong to a step.
        saved_bytes: that a clip keeps for the backward pass.
    """

    seconds: TimeLine
    saved_bytes: float


_NO_STEP = _StepTrial(TimeLine(0.0, 0.0), 0.0)


class _HeadTrial(NamedTuple):
    """Seconds that a head takes for an episode: to predict, and forth and back in a step."""

    predict: float
    step: float


@dataclass
class TimeEstimator:
    """Estimates rows of one evaluation; rows with equal methods share their trials.

    Attributes:
        one_thread: whether encoders of which a trial has several clips are measured with one thread
            of the CPU, and once with all, whose share of that time then counts for all trials.
            In such small products several threads mostly wait for each other, which takes processor
            time. Afterwards torch has all threads again, but MKL no longer chooses to use fewer of
            them; so this is for programs that end then.
    """

    one_thread: bool = False
    _share: float | None = None
    _forwards: dict[tuple[Hashable, ...], _ForwardTrial] = field(default_factory=dict)
    _steps: dict[Hashable, _StepTrial] = field(default_factory=dict)
    _prefixes: dict[Hashable, TimeLine] = field(default_factory=dict)
    _heads: dict[tuple[Hashable, ...], _HeadTrial] = field(default_factory=dict)

    def estimate(self, runner: RowRunner, work: RowWork) -> dict[str, Any]:
        """Returns the estimated cost of a row, in plain types."""
        with one_thread(self._measures_one_thread(runner)):
            trial, prefix = self._forward_trial(runner), self._prefix_line(runner)
            step_trial = self._step_trial(runner, trial)
        head = self._head_trial(runner, trial)
        share = self._share_of_threads(runner, trial, prefix)
        parallel = min(runner.parallel_episodes, work.episodes)
        first = work.first_clips * prefix.per_clip
        if runner.is_static:
            first += work.first_clips * trial.seconds.per_clip * (runner.start is not None)
            encoding = 0.0
        else:
            step_clips = parallel * work.step_clips
            encoding = work.steps * step_trial.seconds.seconds(step_clips) / parallel
            encoding += trial.seconds.seconds(parallel * work.predicted_clips) / parallel
        in_head = work.steps * head.step + head.predict
        per_episode = share * encoding + in_head
        alone = (encoding + in_head) * work.episodes + first
        row = runner.row
        return {
            "row": row.slug,
            "adapter": row.adapter.label,
            "start": row.start,
            "steps": row.tuning.steps,
            "head": row.head.label,
            "shot": row.shot,
            "training_seed": row.training_seed,
            "episodes": work.episodes,
            "clips": len({name for e in runner.episodes for name in e.clip_names()}),
            "at_once": parallel,
            **({"remark": "; ".join(runner.notes)} if runner.notes else {}),
            "parameters": runner.parameters,
            "seconds_per_episode": round(per_episode, 4),
            "seconds": round(per_episode * work.episodes + share * first, 1),
            "one_thread_seconds": round(alone, 1) if self._knows_one_thread(runner) else None,
            "memory_mb": round(_memory_mb(runner, work, trial, step_trial, parallel)),
        }

    def trials(self) -> dict[str, int]:
        """Returns how many adapters and heads were measured, in however many trials each."""
        adapters = {(name, options) for name, options, *_ in self._forwards}
        return {"adapters": len(adapters), "heads": len({label for label, *_ in self._heads})}

    def _measures_one_thread(self, runner: RowRunner) -> bool:
        on_cpu = runner.context.encoder.tower.device.type == "cpu"
        return (
            self.one_thread and on_cpu and torch.get_num_threads() > 1 and _trial_clips(runner) > 1
        )

    def _knows_one_thread(self, runner: RowRunner) -> bool:
        """Returns whether a row's encoder is measured with one thread of the CPU."""
        on_cpu = runner.context.encoder.tower.device.type == "cpu"
        return on_cpu and (torch.get_num_threads() == 1 or self._measures_one_thread(runner))

    def _share_of_threads(self, runner: RowRunner, trial: _ForwardTrial, prefix: TimeLine) -> float:
        """Time of all threads as a share of that of one, by the frozen encoder of the first row."""
        if not self._measures_one_thread(runner):
            return 1.0
        if self._share is None:
            n_clips, device = _trial_clips(runner), runner.context.encoder.tower.device
            passes = (
                _prefix_pass(runner, trial.encoder),
                _forward_pass(trial.encoder, trial.prefix, runner.grid_sizes),
            )
            together = sum(_best_seconds(run, n_clips, device) for run in passes)
            self._share = together / (prefix.seconds(n_clips) + trial.seconds.seconds(n_clips))
        return self._share

    def _prefix_line(self, runner: RowRunner) -> TimeLine:
        """Time of what is encoded once per clip, below the first trained block."""
        tower = runner.context.encoder.tower
        key = runner.sizes.prefix_spec.cache_key(tower), runner.sizes.frozen_spec
        if key not in self._prefixes:
            encode = _prefix_pass(runner, runner.build_encoder([0]))
            self._prefixes[key] = _fit_line(encode, _trial_clips(runner), tower.device)
        return self._prefixes[key]

    def _forward_trial(self, runner: RowRunner) -> _ForwardTrial:
        key = _adapter_key(runner)
        if key not in self._forwards:
            self._forwards[key] = _time_forward(runner)
        return self._forwards[key]

    def _step_trial(self, runner: RowRunner, trial: _ForwardTrial) -> _StepTrial:
        tuning = runner.row.tuning
        if runner.is_static or not tuning.steps:
            return _NO_STEP
        augmentation = (tuning.flip, tuning.crop_scale, tuning.colour, tuning.temporal)
        key = (_adapter_key(runner), augmentation if tuning.augments else None)
        if key not in self._steps:
            self._steps[key] = _time_step(runner, trial)
        return self._steps[key]

    def _head_trial(self, runner: RowRunner, trial: _ForwardTrial) -> _HeadTrial:
        row, shape = runner.row, _largest_episode(runner).shape
        views = 0 if runner.is_static else row.tuning.views
        key = (row.head.label, shape, views, row.tuning.batch, trial.features.frames.shape[2:])
        if key not in self._heads:
            self._heads[key] = _time_head(runner, trial.features)
        return self._heads[key]


@contextmanager
def one_thread(active: bool) -> Iterator[None]:
    """Within it, torch computes with one thread of the CPU, if it is active."""
    before = torch.get_num_threads()
    if active:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if active:
            torch.set_num_threads(before)


def _memory_mb(
    runner: RowRunner, work: RowWork, trial: _ForwardTrial, step_trial: _StepTrial, parallel: int
) -> float:
    """Peak memory in MiB: of the process on the CPU, of the tensors on a GPU."""
    tower, frames = runner.context.encoder.tower, runner.row.video.frames
    value_bytes, spec = tower.dtype.itemsize, runner.sizes.prefix_spec
    first_bytes = prefix_tower(tower, spec).dtype.itemsize
    clips = len({name for e in runner.episodes for name in e.clip_names()})
    clip_values = torch.Size(spec.clip_shape(tower, frames)).numel()
    clip_bytes = clip_values * (first_bytes if not spec.is_pooled(tower) else _POOLED_BYTES)
    cached = min(clips * clip_bytes, runner.context.caches.memory.limits().device)
    block_values = frames * tower.tokens * tower.width * _BLOCK_WIDTHS
    # where no block is adapted, none is computed for the prediction
    block_bytes = 0 if spec.is_pooled(tower) else value_bytes * block_values
    # as bytes, as numbers and as normalised ones
    pixel_bytes = frames * 3 * tower.image_size**2 * (1 + 2 * first_bytes)
    n_first = min(work.first_clips, 1)  # clips are encoded one by one
    first_pass = n_first * (first_bytes * block_values + pixel_bytes)
    step = parallel * work.step_clips * (step_trial.saved_bytes + clip_bytes)
    prediction = parallel * work.predicted_clips * (clip_bytes + block_bytes)
    _, n_support, n_query = _largest_episode(runner).shape
    features = trial.features.nbytes / trial.features.clip.shape[1]
    in_head = _HEAD_COPIES * parallel * (n_support + n_query) * features
    trained = 0 if runner.is_static else parallel * runner.parameters * TRAINED_BYTES
    used = cached + max(first_pass, trained + max(step, prediction, in_head))
    if tower.device.type == "cuda":
        return used / _MIB
    # without what the trials took for a moment: rows are measured from such a mark, too
    reset_peak_memory(tower.device)
    return peak_memory_mb(tower.device, 1) + used / _MIB


def _prefix_pass(runner: RowRunner, encoder: AdaptedEncoder) -> Callable[[int], ClipTokens]:
    """Returns a function that makes what is cached of clips of noise, (n, ...)."""
    tower, frames, grids = encoder.tower, runner.row.video.frames, runner.grid_sizes

    def _encode(n: int) -> ClipTokens:
        return cached_tokens(encoder, noise_clips(tower, n, frames), grids)

    return _encode


def _forward_pass(
    encoder: AdaptedEncoder, prefix: ClipTokens, grids: GridSizes
) -> Callable[[int], Features]:
    """Returns a function that makes the features of the first clips of a prefix, (1, n, ...)."""

    @torch.inference_mode()
    def _forward(n: int) -> Features:
        features: Features = encoder(select_clips(prefix, slice(n)), grid_sizes=grids)
        return features

    return _forward


def _adapter_key(runner: RowRunner) -> tuple[Hashable, ...]:
    """Equal for rows whose adapted encoders take the same time."""
    adapter = runner.row.adapter
    options = resolve_options("adapters", adapter).model_dump(mode="json")
    reads_frozen = any(readout.frozen for readout in runner.sizes.readouts)
    return adapter.name, repr(options), runner.grid_sizes, reads_frozen


def _largest_episode(runner: RowRunner) -> Episode:
    return max(runner.episodes, key=lambda episode: episode.shape)


def _trial_clips(runner: RowRunner) -> int:
    """Clips of the largest trial of a row: at most those of one of its batches."""
    tower = runner.context.encoder.tower
    clip_elements = runner.row.video.frames * tower.tokens * tower.width
    _, n_support, n_query = _largest_episode(runner).shape
    batch = min(runner.parallel_episodes, len(runner.episodes)) * (n_support + n_query)
    return max(1, min(batch, _TRIAL_ELEMENTS[tower.device.type] // clip_elements))


def _fit_line(run: Callable[[int], object], n_clips: int, device: torch.device) -> TimeLine:
    """Measures a function of a number of clips at a quarter of them and at all.

    Where a quarter takes long, the fixed part is small beside it, and that is all that is measured.
    """
    few = max(1, n_clips // 4)
    few_seconds = _best_seconds(run, few, device)
    if few == n_clips or few_seconds > LONG_SECONDS:
        return TimeLine(0.0, few_seconds / few)
    # the few have warmed it up
    seconds = _best_seconds(run, n_clips, device, calls=1)
    per_clip = max(0.0, seconds - few_seconds) / (n_clips - few)
    return TimeLine(max(0.0, seconds - per_clip * n_clips), per_clip)


def _best_seconds(
    run: Callable[[int], object], n_clips: int, device: torch.device, calls: int = 2
) -> float:
    """Seconds of a function of a number of clips, with the time the device takes."""

    def _run_and_wait() -> None:
        run(n_clips)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return best_seconds(_run_and_wait, calls)


def _time_forward(runner: RowRunner) -> _ForwardTrial:
    """Measures the adapted encoder of a row on a few clips."""
    tower = runner.context.encoder.tower
    encoder, grids = runner.build_encoder([0]), runner.grid_sizes
    n_clips, frames = _trial_clips(runner), runner.row.video.frames
    clips = noise_clips(tower, n_clips, frames)
    prefix = cached_tokens(encoder, clips.unsqueeze(0), grids)
    features: dict[int, Features] = {}
    forward = _forward_pass(encoder, prefix, grids)

    def _forward(n: int) -> None:
        features[n] = forward(n)

    seconds = _fit_line(_forward, n_clips, tower.device)
    return _ForwardTrial(encoder, prefix, n_clips, seconds, features[max(features)])


def _time_step(runner: RowRunner, trial: _ForwardTrial) -> _StepTrial:
    """Measures a step of the adapted encoder of a row on the clips of a trial."""
    encoder, prefix, grids = trial.encoder, trial.prefix, runner.grid_sizes
    prefix_of_step = _augmented_prefix(runner, encoder) if runner.row.tuning.augments else None
    saved_bytes: list[float] = []

    def _pass(n: int) -> None:
        tokens = prefix_of_step(n) if prefix_of_step else select_clips(prefix, slice(n))
        run_step(encoder, tokens, grids)

    def _step(n: int) -> None:
        if saved_bytes:
            _pass(n)
        else:  # the first one warms up
            saved_bytes.append(bytes_saved(lambda: _pass(n), encoder) / n)

    seconds = _fit_line(_step, trial.n_clips, encoder.tower.device)
    return _StepTrial(seconds, saved_bytes[0])


def _augmented_prefix(runner: RowRunner, encoder: AdaptedEncoder) -> Callable[[int], Tensor]:
    """Returns a function that makes the prefix of newly augmented clips, (1, n, ...)."""
    row, grids = runner.row, runner.grid_sizes
    tower = encoder.prefix_tower(grids)
    frames = row.video.frames * (FRAMES_PER_SEGMENT if row.tuning.temporal else 1)
    classes = _largest_episode(runner).classes
    augment = SupportAugmenter(row.tuning, [classes], [0], tower)

    def _prefix(n: int) -> Tensor:
        pixels = augment(noise_clips(tower, n, frames).unsqueeze(0))
        with torch.no_grad():
            return encoder.compute_prefix(pixels, grid_sizes=grids)

    return _prefix


def _time_head(runner: RowRunner, features: Features) -> _HeadTrial:
    """Measures the head of a row on the features of the trial's clips, repeated."""
    episode, row = _largest_episode(runner), runner.row
    device = runner.context.encoder.tower.device
    count = min(runner.parallel_episodes, len(runner.episodes), _MAX_TRIAL_EPISODES)
    head = runner.build_head([episode.index] * count)
    _, n_support, n_query = episode.shape

    def _repeat(n_clips: int) -> Features:
        index = torch.arange(n_clips, device=device) % features.clip.shape[1]
        return features.map(lambda x: x[:, index].expand(count, *[-1] * (x.ndim - 1)))

    support, query = _repeat(n_support), _repeat(n_query)
    labels = support_labels([episode] * count, device)

    @torch.inference_mode()
    def _predict(_count: int) -> object:
        return head(query, support, labels)

    predict = _best_seconds(_predict, 1, device) / count
    if runner.is_static or not row.tuning.steps:
        return _HeadTrial(predict, 0.0)
    batch = min(n_support, row.tuning.batch or n_support)
    batch_labels = labels[:, :batch].repeat(1, row.tuning.views)
    inputs = _repeat(batch * row.tuning.views).map(lambda x: x.clone().requires_grad_())

    def _step(_count: int) -> None:
        logits = head.compute_support_logits(inputs, batch_labels)
        loss = episode_losses(logits, batch_labels, row.tuning.label_smoothing).sum()
        torch.autograd.backward(loss)

    return _HeadTrial(predict, _best_seconds(_step, 1, device) / count)
