"""Training loop: steps, validations, saved states, and the stop at non-finite values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from fewshot_i2v.config.training import TrainingConfig
from fewshot_i2v.errors import CheckpointError, TuningError
from fewshot_i2v.statistics import Interval
from fewshot_i2v.training.batches import TrainBatches
from fewshot_i2v.training.objective import NotFiniteError, Objective
from fewshot_i2v.training.state import TrainableState, TrainingProgress, load_state, save_state
from fewshot_i2v.training.validation import EpisodicValidation
from fewshot_i2v.tuning.finetune import lr_factor
from fewshot_i2v.utils.progress import bar

Log = Callable[[str], object]


@dataclass
class TrainingLoop:
    """Trains from the last saved state to the end.

    Attributes:
        config: what to train.
        objective: what is minimised.
        batches: batches of each step.
        validation: None where there is none.
        output: folder with the state.
        identity: what decides the result, compared with that of the state.
        log: called with notes to show; None: no notes are made.
        seconds: time of the steps of this run, without validations.
        steps: number of steps of this run.
    """

    config: TrainingConfig
    objective: Objective
    batches: TrainBatches
    validation: EpisodicValidation | None
    output: Path
    identity: dict[str, Any]
    log: Log | None
    seconds: float = 0.0
    steps: int = 0

    def __post_init__(self) -> None:
        adapter, extra = self.objective.encoder.adapter, self.objective.extra
        self._trainable = TrainableState(adapter, extra, self.objective.optimizer())
        self._status = TrainingProgress()
        self._saved_step = 0

    def run(self, *, progress: bool) -> TrainingProgress:
        """Trains; the adapter then holds the selected state.

        Args:
            progress: whether to show progress bars on standard error.

        Raises:
            CheckpointError: when the state on disk is damaged or of another training.
            TuningError: when a clip cannot be read, memory is short, or a number is not finite,
                naming the step and the state to resume from.
        """
        status = self._load_state()
        self.batches.prepare(progress=progress)
        if self.validation is not None:
            self.validation.prepare(progress=progress)
        with _explain_out_of_memory():
            self._initial_validation(status)
            self._run_steps(status, progress=progress)
            self._restore_best(status)
            if self.validation is None:
                self._check_finite_loss(status)
        return status

    def finish(self) -> TrainingProgress:
        """Ends a training at its last saved state; the adapter then holds the best state so far.

        Raises:
            CheckpointError: when no state was saved, or it is damaged or of another training.
            TuningError: when the state was never validated and gives no finite loss.
        """
        status = self._load_state()
        if not status.step:
            raise CheckpointError(f"{self.output}: no state was saved that could be made a start")
        if self.validation is None:
            status.best_step, status.best = status.step, {}
            self.batches.prepare(progress=False)
            self._check_finite_loss(status)
        self._restore_best(status)
        return status

    def _load_state(self) -> TrainingProgress:
        status = load_state(self.output, self.identity, self._trainable) or self._status
        threads = threads_of(self.objective.encoder.tower.device)
        if 0 < status.step < self.config.steps and self.log and status.threads != threads:
            self.log(
                f"CPU threads were {status.threads} up to step {status.step}, and now they are "
                f"{threads}: sums are rounded in another way, so the digest at the end will not be "
                "that of a training without a stop"
            )
        self._status, self._saved_step, status.threads = status, status.step, threads
        return status

    def _restore_best(self, status: TrainingProgress) -> None:
        if status.best:
            self._trainable.adapter.load_state_dict(status.best)

    def _check_finite_loss(self, status: TrainingProgress) -> None:
        """Raises when a state that was never validated gives no finite loss."""
        losses = [
            self.objective.backward(micro_batch) for micro_batch in self.batches.micro_batches(0)
        ]
        self._trainable.optimizer.zero_grad(set_to_none=True)
        if not all(isfinite(float(loss)) for loss in losses):
            raise self._training_error(
                f"the loss of the state after step {status.step} is not finite"
            )

    def _initial_validation(self, status: TrainingProgress) -> None:
        """Validates before the first step, and logs an estimate of the remaining time."""
        if self.validation is not None and not status.curve:
            self._validate(status)
        if self.log is None or status.step == self.config.steps:
            return
        try:
            time = self._measure_step(status.step)
        except NotFiniteError:
            return  # the step itself says it better
        todo = self.config.steps - status.step
        count = 0 if self.validation is None else -(-todo // self.config.validation.every)
        after = f"after step {status.step}: " if status.step else ""
        noun = "validation" if count == 1 else "validations"
        checks = f" and {count} {noun} of {status.look_seconds:.1f} s" if count else ""
        clips = self.config.clips_per_step
        self.log(
            f"{after}{todo} steps of {clips} clips, {time:.2f} s each ({clips / time:.0f} clips/s)"
            f"{checks}: about {(todo * time + count * status.look_seconds) / 60:.1f} min"
        )

    def _measure_step(self, step: int) -> float:
        """Measures the seconds of a step, without changing any state."""
        for _ in range(2):  # the first one fills caches
            start = perf_counter()
            losses = [
                self.objective.backward(micro_batch)
                for micro_batch in self.batches.micro_batches(step)
            ]
            float(torch.stack(losses).sum())  # waits for the device
            self._trainable.optimizer.zero_grad(set_to_none=True)
            seconds = perf_counter() - start
        return seconds

    def _run_steps(self, status: TrainingProgress, *, progress: bool) -> None:
        config = self.config
        with bar(
            total=config.steps, unit="step", initial=status.step, progress=progress
        ) as display:
            while status.step < config.steps:
                status.losses.append(self._step(status.step))
                status.step += 1
                validates = (
                    status.step % config.validation.every == 0 or status.step == config.steps
                )
                if validates:
                    self._validate(status)
                if validates or (config.save_every and status.step % config.save_every == 0):
                    self._save(status)
                display.update()
                display.set_postfix_str(self._bar_text(status), refresh=False)

    def _step(self, step: int) -> float:
        """Runs one optimizer step; returns the loss before it."""
        start = perf_counter()
        optimizer = self._trainable.optimizer
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * lr_factor(step, self.config)
        optimizer.zero_grad(set_to_none=True)
        try:
            losses = [
                self.objective.backward(micro_batch)
                for micro_batch in self.batches.micro_batches(step)
            ]
        except NotFiniteError as error:
            raise self._training_error(str(error)) from error
        loss = float(torch.stack(losses).sum())
        limit = self.config.clip_norm if self.objective.clips_gradient else None
        norm = clip_gradient_norm(self.objective.trainable_parameters(), limit)
        for quantity, value in (("loss", loss), ("gradient", norm)):
            if not isfinite(value):
                raise self._training_error(f"the {quantity} of step {step + 1} is not finite")
        optimizer.step()
        self.seconds += perf_counter() - start
        self.steps += 1
        return loss

    def _validate(self, status: TrainingProgress) -> None:
        """Adds an entry to the curve, and stores the adapter when its accuracy is the best so far.

        Of equal accuracies the earliest is the best. Without validation the last adapter is.
        """
        self._check_finite(status.step)
        interval = (
            None if self.validation is None else self._validation_accuracy(self.validation, status)
        )
        mean = sum(status.losses) / len(status.losses) if status.losses else None
        status.losses.clear()
        accuracy = None if interval is None else interval.mean
        width = None if interval is None else interval.half_width
        entry = {"step": status.step, "loss": mean, "accuracy": accuracy, "half_width": width}
        status.curve.append(entry)
        best = status.best_accuracy
        if accuracy is None or best is None or accuracy > best:
            status.best_step, status.best_accuracy = status.step, accuracy
            state = self._trainable.adapter.state_dict()
            status.best = {name: t.to("cpu", copy=True) for name, t in state.items()}

    def _validation_accuracy(
        self, validation: EpisodicValidation, status: TrainingProgress
    ) -> Interval:
        start = perf_counter()
        try:
            interval = validation.accuracy()
        except NotFiniteError as error:
            raise self._training_error(f"after step {status.step} {error}") from error
        status.look_seconds = perf_counter() - start
        return interval

    def _save(self, status: TrainingProgress) -> None:
        self._check_finite(status.step)
        save_state(self.output, self.identity, self._trainable, status)
        self._saved_step = status.step

    def _check_finite(self, step: int) -> None:
        if not all(bool(p.isfinite().all()) for p in self.objective.trainable_parameters()):
            raise self._training_error(f"a parameter is not finite after step {step}")

    def _training_error(self, problem: str) -> TuningError:
        hint, best = "no state was saved before it", self._status.best_accuracy
        if self._saved_step:
            hint = f"the state after step {self._saved_step} is kept in {self.output}"
            source = "it"
            if best is not None:
                step = self._status.best_step
                source = f"the best so far, {100 * best:.1f} % on validation after step {step}"
            hint += f", and the same command with --finish makes a start of {source}"
        return TuningError(
            f"{problem}; {hint}. A smaller lr, inner.lr or a longer warmup, or precision fp32 may "
            "help: give them with another --output"
        )

    def _bar_text(self, status: TrainingProgress) -> str:
        """Text for the progress bar: loss, last accuracy, throughput."""
        figures = [f"loss {status.losses[-1]:.3f}"] if status.losses else []
        last = status.curve[-1]["accuracy"] if status.curve else None
        if last is not None and status.best_accuracy is not None:
            figures.append(f"val {100 * last:.1f} % (best {100 * status.best_accuracy:.1f} %)")
        figures.append(f"{self.config.clips_per_step * self.steps / self.seconds:.0f} clips/s")
        return ", ".join(figures)


def threads_of(device: torch.device) -> int | None:
    """Number of CPU threads, on which the rounding of sums depends; None on a GPU."""
    return torch.get_num_threads() if device.type == "cpu" else None


def clip_gradient_norm(parameters: list[nn.Parameter], limit: float | None) -> float:
    """Scales all gradients down so that their joint norm is at most `limit`.

    Args:
        parameters: with or without a gradient.
        limit: largest Euclidean norm; None: nothing is scaled.

    Returns:
        The norm before scaling.
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    if not grads:
        return 0.0
    norm: Tensor = torch.stack([g.square().sum() for g in grads]).sum().sqrt()
    if limit is not None:
        scale = (limit / (norm + 1e-6)).clamp(max=1.0)
        for grad in grads:
            grad.mul_(scale)
    return float(norm)


@contextmanager
def _explain_out_of_memory() -> Iterator[None]:
    """Raises an error that says what to change when memory is short."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TuningError(
            "the device is out of memory; give a larger accumulate, checkpointing, --precision "
            f"bf16 or a smaller batch ({str(error).splitlines()[0]})"
        ) from error
