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

from fewshot_i2v._objectives import Objective
from fewshot_i2v._progress import bar
from fewshot_i2v._train_batches import TrainBatches
from fewshot_i2v._train_state import Moving, Progress, load_state, save_state
from fewshot_i2v._train_validation import Validation
from fewshot_i2v.errors import TuningError
from fewshot_i2v.train_config import TrainConfig
from fewshot_i2v.tuning import rate_factor

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
        stored = load_state(self.output, self.identity, self._moving)
        known = stored or Progress()
        self._saved = known.step
        self.batches.prepare(progress=progress)
        if self.validation is not None:
            self.validation.prepare(progress=progress)
        with _memory_named():
            self._begin(known)
            self._go_on(known, progress=progress)
        if known.best:
            self._moving.adapter.load_state_dict(known.best)
        return known

    def _begin(self, known: Progress) -> None:
        """The validation before the first step, and what the rest will take."""
        start = perf_counter()
        seconds = 0.0
        if self.validation is not None and not known.curve:
            self._look(known)
            seconds = perf_counter() - start
        if self.tell is None or known.step == self.config.steps:
            return
        each = self._trial(known.step)
        todo = self.config.steps - known.step
        looks = -(-todo // self.config.validation.every)
        where = f"after step {known.step}: " if known.step else ""
        watched = f" and {looks} validations of {seconds:.1f} s" if seconds else ""
        clips = self.config.clips_per_step
        self.tell(
            f"{where}{todo} steps of {clips} clips, {each:.2f} s each ({clips / each:.0f} clips/s)"
            f"{watched}: about {(todo * each + looks * seconds) / 60:.1f} min"
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
        losses = [self.objective.backward(part) for part in self.batches.parts(step)]
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
        interval = None if self.validation is None else self.validation.accuracy()
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

    def _save(self, known: Progress) -> None:
        self._check_finite(known.step)
        save_state(self.output, self.identity, self._moving, known)
        self._saved = known.step

    def _check_finite(self, step: int) -> None:
        if not all(bool(p.isfinite().all()) for p in self.objective.trained()):
            raise self._broken(f"a parameter is not finite after step {step}")

    def _broken(self, what: str) -> TuningError:
        kept = f"the state after step {self._saved} is kept in {self.output}"
        return TuningError(
            f"{what}; {kept if self._saved else 'no state was saved before it'}. A smaller lr, a "
            "longer warmup or precision fp32 may help: give them with another --output"
        )

    def _shown(self, known: Progress) -> str:
        """For the bar: loss, last accuracy, throughput."""
        parts = [f"loss {known.losses[-1]:.3f}"] if known.losses else []
        last = known.curve[-1]["accuracy"] if known.curve else None
        if last is not None and known.best_accuracy is not None:
            parts.append(f"val {100 * last:.1f} % (best {100 * known.best_accuracy:.1f} %)")
        parts.append(f"{self.config.clips_per_step * self.steps / self.seconds:.0f} clips/s")
        return ", ".join(parts)


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
