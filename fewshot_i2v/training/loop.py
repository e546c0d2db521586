"""Training loop: steps, validations, saved states, and the stop at non-finite values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from fewshot_i2v.errors import CheckpointError, TuningError
from fewshot_i2v.models.device_memory import release_device_memory
from fewshot_i2v.runs.header import check_clip_digests
from fewshot_i2v.training.batches import TrainBatches
from fewshot_i2v.training.objective import MicroBatchLoss, NotFiniteError, Objective
from fewshot_i2v.training.state import (
    STATE_FILE,
    STATE_FOLDER,
    CurveEntry,
    TrainableState,
    TrainingProgress,
    load_state,
    save_state,
)
from fewshot_i2v.training.unread_steps import UnreadSteps
from fewshot_i2v.training.validation import EpisodicValidation
from fewshot_i2v.tuning.finetune import lr_factor
from fewshot_i2v.utils.progress import bar
from fewshot_i2v.utils.text_table import count_text

Log = Callable[[str], object]


@dataclass
class TrainingLoop:
    """Trains from the last saved state to the end.

    Attributes:
        objective: what is minimised, with the configuration of the training.
        batches: batches of each step.
        validation: None where there is none.
        output: folder with the state.
        identity: what decides the result, compared with that of the state.
        log: called with notes to show; None: no notes are made.
        seconds: time of the steps of this run, without validations.
        steps: number of steps of this run.
        progress: of the training, those of earlier runs included.
    """

    objective: Objective
    batches: TrainBatches
    validation: EpisodicValidation | None
    output: Path
    identity: dict[str, Any]
    log: Log | None
    seconds: float = 0.0
    steps: int = 0
    progress: TrainingProgress = field(default_factory=TrainingProgress.before_first_step)

    def __post_init__(self) -> None:
        self.config = self.objective.config
        objective = self.objective
        self._trainable = TrainableState(
            objective.encoder.adapter,
            objective.extra,
            objective.optimizer(),
            start_extra=objective.start_extra,
        )
        self._saved_step = 0
        self._unread = UnreadSteps()
        if self.validation is not None:
            self.validation.part_size.on_halved = self._log_smaller_validation

    @property
    def has_start_extra(self) -> bool:
        """Whether what the start holds beside the adapter is of the selected state."""
        return self._trainable.has_best_extra

    def run(self, *, show_bar: bool) -> TrainingProgress:
        """Trains; the adapter then holds the selected state.

        Args:
            show_bar: whether to show progress bars on standard error.

        Raises:
            CheckpointError: when the state on disk is damaged or of another training.
            RecordError: when clips changed since the training began.
            TuningError: when a clip cannot be read, memory is short, or a number is not finite,
                naming the step and the state to resume from.
        """
        self._load_state()
        self.batches.prepare(progress=show_bar)
        if self.validation is not None:
            self.validation.prepare(progress=show_bar)
        self._record_clips()
        with _explain_out_of_memory():
            if self.validation is not None and not self.progress.curve:
                self._validate()
            if self.log is not None and self.progress.step < self.config.steps:
                self._log_time_estimate(self.log)
            self._run_steps(show_bar=show_bar)
            self._log_cache_notes()
            self._trainable.restore_best()
            if self.validation is None:
                self._check_finite_loss()
        return self.progress

    def finish(self) -> TrainingProgress:
        """Ends a training at its last saved state; the adapter then holds the best state so far.

        Raises:
            CheckpointError: when no state was saved, or it is damaged or of another training.
            RecordError: when clips that it reads changed since the training began.
            TuningError: when the state was never validated and gives no finite loss.
        """
        self._load_state()
        if not self.progress.step:
            raise CheckpointError(f"{self.output}: no state was saved that could be made a start")
        if self.validation is None:
            self.progress.best_step = self.progress.step
            self._trainable.forget_best()
            self.batches.prepare(progress=False)
            self._record_clips()
            self._check_finite_loss()
        self._trainable.restore_best()
        return self.progress

    def load_state(self) -> TrainingProgress:
        """Loads the last saved state, and returns how far it is.

        Raises:
            CheckpointError: when the state on disk is damaged or of another training.
        """
        self._load_state()
        return self.progress

    def _load_state(self) -> None:
        progress = load_state(self.output, self.identity, self._trainable) or self.progress
        threads = threads_of(self.objective.encoder.tower.device)
        if 0 < progress.step < self.config.steps and self.log and progress.threads != threads:
            self.log(
                f"CPU threads were {progress.threads} up to step {progress.step}, and now they are "
                f"{threads}: sums are rounded in another way, so the digest at the end will not be "
                "that of a training without a stop"
            )
        self.progress, self._saved_step, progress.threads = progress, progress.step, threads

    def _record_clips(self) -> None:
        """Verifies that the clips are those that the training began with, and records new ones.

        From here on, a clip of another content is refused.
        """
        validation_clips = [] if self.validation is None else self.validation.clips
        clips = [*self.batches.drawn_clips, *validation_clips]
        digests = self.batches.context.content_digests(clips)
        check_clip_digests(self.output / STATE_FOLDER / STATE_FILE, self.progress.clips, digests)
        self.progress.clips.update(digests)

    def _backward(self, step: int) -> list[MicroBatchLoss]:
        """Adds the gradients of a step; returns the losses of its micro-batches.

        Where they do not fit into the memory of the device, they become smaller.
        """
        while True:
            try:
                micro_batches = self.batches.micro_batches(step)
                return [self.objective.backward(micro_batch) for micro_batch in micro_batches]
            except torch.OutOfMemoryError:
                if not self.batches.split_further():
                    raise
            # not inside of `except`: the error holds the tensors of the step
            self._trainable.optimizer.zero_grad(set_to_none=True)
            release_device_memory()
            self._log(
                "the device is out of memory: from here on a step is computed in "
                f"{self.batches.n_micro_batches} parts, as with "
                f"accumulate {self.batches.n_micro_batches}"
            )

    def _log(self, text: str) -> None:
        if self.log is not None:
            self.log(text)

    def _log_cache_notes(self) -> None:
        contexts = [self.batches.context] + ([self.validation.context] if self.validation else [])
        for note in dict.fromkeys(note for context in contexts for note in context.caches.notes()):
            self._log(note)

    def _log_smaller_validation(self, limit: int) -> None:
        self._log(
            "the device is out of memory: from here on a validation computes "
            f"{count_text(limit, 'clip')} at a time, which changes no more than rounding"
        )

    def _check_finite_loss(self) -> None:
        """Raises when a state that was never validated gives no finite loss."""
        trial = UnreadSteps()
        trial.add(0, self._backward(0))
        self._trainable.optimizer.zero_grad(set_to_none=True)
        try:
            trial.read()
        except NotFiniteError as error:
            raise self._training_error(
                f"the loss of the state after step {self.progress.step} is not finite"
            ) from error

    def _log_time_estimate(self, log: Log) -> None:
        """Logs an estimate of the remaining time, from a step that changes no state."""
        step, look_seconds = self.progress.step, self.progress.look_seconds
        trial = UnreadSteps()
        try:
            for _ in range(2):  # the first one fills caches
                start = perf_counter()
                trial.add(step, self._backward(step))
                trial.read()  # waits for the device
                self._trainable.optimizer.zero_grad(set_to_none=True)
                time = perf_counter() - start
        except NotFiniteError:
            self._trainable.optimizer.zero_grad(set_to_none=True)
            return  # the step itself says it better
        todo = self.config.steps - step
        count = 0 if self.validation is None else -(-todo // self.config.validation.every)
        after = f"after step {step}: " if step else ""
        noun = "validation" if count == 1 else "validations"
        checks = f" and {count} {noun} of {look_seconds:.1f} s" if count else ""
        clips = self.config.clips_per_step
        log(
            f"{after}{todo} steps of {clips} clips, {time:.2f} s each ({clips / time:.0f} clips/s)"
            f"{checks}: about {(todo * time + count * look_seconds) / 60:.1f} min"
        )

    def _run_steps(self, *, show_bar: bool) -> None:
        config, progress = self.config, self.progress
        with bar(
            total=config.steps,
            desc="train",
            unit="steps",
            initial=progress.step,
            progress=show_bar,
        ) as display:
            while progress.step < config.steps:
                self._step(progress.step)
                progress.step += 1
                validates = (
                    progress.step % config.validation.every == 0 or progress.step == config.steps
                )
                saves = validates or bool(
                    config.save_every and progress.step % config.save_every == 0
                )
                # whatever is validated or saved comes of finite numbers alone
                if saves or self._unread.is_due:
                    self._read_losses()
                if validates:
                    self._validate()
                if saves:
                    self._check_finite_parameters()
                    save_state(self.output, self.identity, self._trainable, progress)
                    self._saved_step = progress.step
                display.set_postfix_str(self._bar_text(), refresh=False)
                display.update()

    def _step(self, step: int) -> None:
        """Runs one optimizer step, without waiting for the device."""
        start = perf_counter()
        optimizer = self._trainable.optimizer
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * lr_factor(step, self.config)
        optimizer.zero_grad(set_to_none=True)
        try:
            losses = self._backward(step)
        except Exception:
            self._read_losses()  # an earlier step whose numbers broke is the cause
            raise
        limit = self.config.clip_norm if self.objective.clips_gradient else None
        norm = clip_gradient_norm(self.objective.trainable_parameters(), limit)
        self._unread.add(step, losses, norm)
        optimizer.step()
        self.seconds += perf_counter() - start
        self.steps += 1

    def _read_losses(self) -> None:
        """Reads the losses of the last steps, for the curve, and stops at the first broken one."""
        start = perf_counter()
        try:
            self.progress.losses += self._unread.read()
        except NotFiniteError as error:
            raise self._training_error(str(error)) from error
        self.seconds += perf_counter() - start

    def _validate(self) -> None:
        """Adds an entry to the curve, and stores the adapter when its accuracy is the best so far.

        Of equal accuracies the earliest is the best. Without validation the last adapter is.
        """
        self._check_finite_parameters()
        progress, accuracy, half_width = self.progress, None, None
        if self.validation is not None:
            start = perf_counter()
            try:
                interval = self.validation.accuracy()
            except NotFiniteError as error:
                raise self._training_error(f"after step {progress.step} {error}") from error
            progress.look_seconds = perf_counter() - start
            accuracy, half_width = interval.mean, interval.half_width
        loss = sum(progress.losses) / len(progress.losses) if progress.losses else None
        progress.losses.clear()
        progress.curve.append(
            CurveEntry(step=progress.step, loss=loss, accuracy=accuracy, half_width=half_width)
        )
        best = progress.best_accuracy
        if accuracy is None or best is None or accuracy > best:
            progress.best_step, progress.best_accuracy = progress.step, accuracy
            self._trainable.store_best()

    def _check_finite_parameters(self) -> None:
        parameters = self.objective.trainable_parameters()
        if not bool(torch.stack([p.isfinite().all() for p in parameters]).all()):
            raise self._training_error(f"a parameter is not finite after step {self.progress.step}")

    def _training_error(self, problem: str) -> TuningError:
        hint, best = "no state was saved before it", self.progress.best_accuracy
        if self._saved_step:
            hint = f"the state after step {self._saved_step} is saved in {self.output}"
            source = "it"
            if best is not None:
                step = self.progress.best_step
                source = f"the best so far, {100 * best:.1f} % on validation after step {step}"
            hint += f", and the same command with --finish makes a start of {source}"
        return TuningError(
            f"{problem}; {hint}. A smaller lr, inner.lr or a longer warmup, or precision fp32 may "
            "help: give them with another --output"
        )

    def _bar_text(self) -> str:
        """Text for the progress bar: loss, and the last accuracy on validation."""
        progress = self.progress
        figures = [f"loss {progress.losses[-1]:.3f}"] if progress.losses else []
        last = progress.curve[-1].accuracy if progress.curve else None
        if last is not None:
            figures.append(f"validation {100 * last:.1f} %")
        return ", ".join(figures)


def threads_of(device: torch.device) -> int | None:
    """Number of CPU threads, on which the rounding of sums depends; None on a GPU."""
    return torch.get_num_threads() if device.type == "cpu" else None


def clip_gradient_norm(parameters: list[nn.Parameter], limit: float | None) -> Tensor:
    """Scales all gradients down so that their joint norm is at most `limit`.

    Args:
        parameters: with or without a gradient.
        limit: largest Euclidean norm; None: nothing is scaled.

    Returns:
        The norm before scaling, a float32 scalar on the device.
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    if not grads:
        return parameters[0].new_zeros(())
    norm: Tensor = torch.stack([g.square().sum() for g in grads]).sum().sqrt()
    if limit is not None:
        # as in torch's `clip_grad_norm_`: 1e-6 keeps a norm of zero from 0 / 0
        scale = (limit / (norm + 1e-6)).clamp(max=1.0)
        for grad in grads:
            grad.mul_(scale)
    return norm


@contextmanager
def _explain_out_of_memory() -> Iterator[None]:
    """Raises an error that says what to change when memory is short."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TuningError(
            "the device is out of memory with one episode or clip at a time; give checkpointing, "
            f"--precision bf16 or fewer frames ({str(error).splitlines()[0]})"
        ) from error
