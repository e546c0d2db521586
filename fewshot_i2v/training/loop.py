"""The loop of a training: steps, validations, saved states, and the stop when numbers break."""

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

from fewshot_i2v.config.training import TrainConfig
from fewshot_i2v.errors import CheckpointError, TuningError
from fewshot_i2v.statistics import Interval
from fewshot_i2v.training.batches import TrainBatches
from fewshot_i2v.training.objective import NotFiniteError, Objective
from fewshot_i2v.training.state import Moving, Progress, load_state, save_state
from fewshot_i2v.training.validation import Validation
from fewshot_i2v.tuning.finetune import rate_factor
from fewshot_i2v.utils.progress import bar

Tell = Callable[[str], object]


@dataclass
class Loop:
    """Trains from the last saved state to the end.

    Attributes:
        config: what to train.
        objective: what is minimised.
        batches: what each step sees.
        validation: None where there is none.
        output: folder with the state.
        identity: what decides the result, compared with that of the state.
        tell: takes notes to show; None: none are made.
        seconds: that the steps of this run took, validations left out.
        steps: that this run did.
    """

    config: TrainConfig
    objective: Objective
    batches: TrainBatches
    validation: Validation | None
    output: Path
    identity: dict[str, Any]
    tell: Tell | None
    seconds: float = 0.0
    steps: int = 0

    def __post_init__(self) -> None:
        adapter, extra = self.objective.encoder.adapter, self.objective.extra
        self._moving = Moving(adapter, extra, self.objective.optimizer())
        self._known = Progress()
        self._saved = 0

    def run(self, *, progress: bool) -> Progress:
        """Trains; the adapter then holds the state that was kept.

        Args:
            progress: whether to show bars on standard error.

        Raises:
            CheckpointError: when the state on disk is damaged or of another training.
            TuningError: when a clip cannot be read, memory is short, or a number is not finite,
                naming the step and the state to go on from.
        """
        known = self._load()
        self.batches.prepare(progress=progress)
        if self.validation is not None:
            self.validation.prepare(progress=progress)
        with _memory_named():
            self._begin(known)
            self._go_on(known, progress=progress)
            self._keep(known)
            if self.validation is None:
                self._try_it(known)
        return known

    def finish(self) -> Progress:
        """Ends a training at its last saved state; the adapter then holds the best one so far.

        Raises:
            CheckpointError: when no state was saved, or it is damaged or of another training.
            TuningError: when the state was never validated and gives no finite loss.
        """
        known = self._load()
        if not known.step:
            raise CheckpointError(f"{self.output}: no state was saved that could be made a start")
        if self.validation is None:
            known.best_step, known.best = known.step, {}
            self.batches.prepare(progress=False)
            self._try_it(known)
        self._keep(known)
        return known

    def _load(self) -> Progress:
        known = load_state(self.output, self.identity, self._moving) or self._known
        here = threads_of(self.objective.encoder.tower.device)
        if 0 < known.step < self.config.steps and self.tell and known.threads != here:
            self.tell(
                f"CPU threads were {known.threads} up to step {known.step}, and now they are "
                f"{here}: sums are rounded in another way, so the digest at the end will not be "
                "that of a training without a stop"
            )
        self._known, self._saved, known.threads = known, known.step, here
        return known

    def _keep(self, known: Progress) -> None:
        if known.best:
            self._moving.adapter.load_state_dict(known.best)

    def _try_it(self, known: Progress) -> None:
        """Refuses to keep a state that was never looked at and gives no numbers."""
        losses = [self.objective.backward(part) for part in self.batches.parts(0)]
        self._moving.optimizer.zero_grad(set_to_none=True)
        if not all(isfinite(float(loss)) for loss in losses):
            raise self._broken(f"the loss of the state after step {known.step} is not finite")

    def _begin(self, known: Progress) -> None:
        """The validation before the first step, and what the rest will take."""
        if self.validation is not None and not known.curve:
            self._look(known)
        if self.tell is None or known.step == self.config.steps:
            return
        try:
            each = self._trial(known.step)
        except NotFiniteError:
            return  # the step itself says it better
        todo = self.config.steps - known.step
        looks = 0 if self.validation is None else -(-todo // self.config.validation.every)
        where = f"after step {known.step}: " if known.step else ""
        kind = "validation" if looks == 1 else "validations"
        watched = f" and {looks} {kind} of {known.look_seconds:.1f} s" if looks else ""
        clips = self.config.clips_per_step
        self.tell(
            f"{where}{todo} steps of {clips} clips, {each:.2f} s each ({clips / each:.0f} clips/s)"
            f"{watched}: about {(todo * each + looks * known.look_seconds) / 60:.1f} min"
        )

    def _trial(self, step: int) -> float:
        """Seconds of a step, from one that leaves nothing behind."""
        for _ in range(2):  # the first one fills caches
            start = perf_counter()
            losses = [self.objective.backward(part) for part in self.batches.parts(step)]
            float(torch.stack(losses).sum())  # waits for the device
            self._moving.optimizer.zero_grad(set_to_none=True)
            seconds = perf_counter() - start
        return seconds

    def _go_on(self, known: Progress, *, progress: bool) -> None:
        config = self.config
        with bar(total=config.steps, unit="step", initial=known.step, progress=progress) as shown:
            while known.step < config.steps:
                known.losses.append(self._step(known.step))
                known.step += 1
                looks = known.step % config.validation.every == 0 or known.step == config.steps
                if looks:
                    self._look(known)
                if looks or (config.save_every and known.step % config.save_every == 0):
                    self._save(known)
                shown.update()
                shown.set_postfix_str(self._shown(known), refresh=False)

    def _step(self, step: int) -> float:
        """One step of the optimizer; the loss before it."""
        start = perf_counter()
        optimizer = self._moving.optimizer
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * rate_factor(step, self.config)
        optimizer.zero_grad(set_to_none=True)
        try:
            losses = [self.objective.backward(part) for part in self.batches.parts(step)]
        except NotFiniteError as error:
            raise self._broken(str(error)) from error
        loss = float(torch.stack(losses).sum())
        limit = self.config.clip_norm if self.objective.limits_gradient else None
        norm = limit_gradient(self.objective.trained(), limit)
        for what, value in (("loss", loss), ("gradient", norm)):
            if not isfinite(value):
                raise self._broken(f"the {what} of step {step + 1} is not finite")
        optimizer.step()
        self.seconds += perf_counter() - start
        self.steps += 1
        return loss

    def _look(self, known: Progress) -> None:
        """Adds to the curve, and keeps the adapter when it is the best so far (the first of them).

        Without validation the last adapter is the best.
        """
        self._check_finite(known.step)
        interval = None if self.validation is None else self._accuracy(self.validation, known)
        mean = sum(known.losses) / len(known.losses) if known.losses else None
        known.losses.clear()
        accuracy = None if interval is None else interval.mean
        width = None if interval is None else interval.half_width
        entry = {"step": known.step, "loss": mean, "accuracy": accuracy, "half_width": width}
        known.curve.append(entry)
        best = known.best_accuracy
        if accuracy is None or best is None or accuracy > best:
            known.best_step, known.best_accuracy = known.step, accuracy
            state = self._moving.adapter.state_dict()
            known.best = {name: t.to("cpu", copy=True) for name, t in state.items()}

    def _accuracy(self, validation: Validation, known: Progress) -> Interval:
        start = perf_counter()
        try:
            found = validation.accuracy()
        except NotFiniteError as error:
            raise self._broken(f"after step {known.step} {error}") from error
        known.look_seconds = perf_counter() - start
        return found

    def _save(self, known: Progress) -> None:
        self._check_finite(known.step)
        save_state(self.output, self.identity, self._moving, known)
        self._saved = known.step

    def _check_finite(self, step: int) -> None:
        if not all(bool(p.isfinite().all()) for p in self.objective.trained()):
            raise self._broken(f"a parameter is not finite after step {step}")

    def _broken(self, what: str) -> TuningError:
        kept, best = "no state was saved before it", self._known.best_accuracy
        if self._saved:
            kept = f"the state after step {self._saved} is kept in {self.output}"
            of_it = "it"
            if best is not None:
                step = self._known.best_step
                of_it = f"the best so far, {100 * best:.1f} % on validation after step {step}"
            kept += f", and the same command with --finish makes a start of {of_it}"
        return TuningError(
            f"{what}; {kept}. A smaller lr, inner.lr or a longer warmup, or precision fp32 may "
            "help: give them with another --output"
        )

    def _shown(self, known: Progress) -> str:
        """For the bar: loss, last accuracy, throughput."""
        parts = [f"loss {known.losses[-1]:.3f}"] if known.losses else []
        last = known.curve[-1]["accuracy"] if known.curve else None
        if last is not None and known.best_accuracy is not None:
            parts.append(f"val {100 * last:.1f} % (best {100 * known.best_accuracy:.1f} %)")
        parts.append(f"{self.config.clips_per_step * self.steps / self.seconds:.0f} clips/s")
        return ", ".join(parts)


def threads_of(device: torch.device) -> int | None:
    """CPU threads, on which the rounding of sums depends; None on a GPU."""
    return torch.get_num_threads() if device.type == "cpu" else None


def limit_gradient(parameters: list[nn.Parameter], limit: float | None) -> float:
    """The norm over all gradients; they are scaled down so that it is at most `limit`.

    Args:
        parameters: with or without a gradient.
        limit: largest Euclidean norm; None: nothing is scaled.

    Returns:
        The norm before that.
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
def _memory_named() -> Iterator[None]:
    """Says what to change when memory is short."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TuningError(
            "the device is out of memory; give a larger accumulate, checkpointing, --precision "
            f"bf16 or a smaller batch ({str(error).splitlines()[0]})"
        ) from error
