"""One row of an evaluation: one adapter, head and shot over all episodes, with its records."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

import fewshot_i2v
from fewshot_i2v import plugins
from fewshot_i2v._config_errors import config_error
from fewshot_i2v._workspace import Workspace
from fewshot_i2v.adapters._contract import AdaptedEncoder, Adapter
from fewshot_i2v.augment import Augmenter, is_active
from fewshot_i2v.config import Choice, RowConfig
from fewshot_i2v.episodes.sampler import EpisodeSpec
from fewshot_i2v.errors import TuningError, VideoUnreadable
from fewshot_i2v.heads._contract import Head
from fewshot_i2v.records import EpisodeRecord
from fewshot_i2v.tuning import Episodes, Tuned, derive_seed, deterministic, tune_and_predict

# Tokens times width of one step that keeps the device busy: more episodes side by side than that
# bring nothing (measured with scripts/benchmarks/bench_tuning.py).
_STEP_WORK = {"cuda": 30_000 * 768, "cpu": 400_000}
# Values of support and query tokens gathered for one batch: bounds its memory.
_GATHERED_WORK = 1 << 27
_MOST_AT_ONCE = 256


def options_of(choice: Choice, cls: type[Any], kind: str) -> Any:  # noqa: ANN401 - a plug-in's own
    """The validated options of an adapter or head.

    Raises:
        UsageError: naming the option, the value and what was expected.
    """
    try:
        return cls.Options.model_validate(choice.options)
    except ValidationError as error:
        raise config_error(error, cls.Options, origin=f"{kind} {choice.name!r}") from error


@dataclass(frozen=True)
class RowRunner:
    """Builds, tunes and predicts for the episodes of one row.

    Args:
        row: what to run.
        work: what the rows share.
    """

    row: RowConfig
    work: Workspace

    def build(self, indices: Sequence[int]) -> tuple[AdaptedEncoder, Head]:
        """A fresh adapter and head, one copy per episode, each started from its own seed."""
        row, tower = self.row, self.work.encoder.tower
        adapter_class = plugins.load("adapters", row.adapter.name)
        head_class = plugins.load("heads", row.head.name)
        frames = row.video.frames
        adapter: Adapter = adapter_class(
            tower,
            options_of(row.adapter, adapter_class, "adapter"),
            frames=frames,
            seeds=[derive_seed("adapter", row.adapter.name, row.seed, i) for i in indices],
        )
        head: Head = head_class(
            options_of(row.head, head_class, "head"),
            width=tower.width,
            way=row.way,
            frames=frames,
            seeds=[derive_seed("head", row.head.name, row.seed, i) for i in indices],
        )
        return AdaptedEncoder(tower, adapter.to(tower.device)), head.to(tower.device)

    @cached_property
    def parameters(self) -> int:
        """Trained parameters of one episode."""
        return sum(p.numel() for module in self.build([0]) for p in module.parameters())

    @cached_property
    def at_once(self) -> int:
        """Episodes side by side: as asked, or as many as keep the device busy.

        It depends on the shapes and the kind of device alone, never on free memory, so that the
        same command gives the same batches everywhere.
        """
        row, tower = self.row, self.work.encoder.tower
        if row.at_once != "auto":
            return row.at_once
        encoder, head = self.build([0])
        tokens = 1 if encoder.frozen_throughout and not head.needs_grid else tower.tokens
        clip = row.video.frames * tokens * tower.width
        most = _GATHERED_WORK // (row.way * (row.shot + row.query) * clip)
        if self.parameters and row.tuning.steps:
            busy = -(-_STEP_WORK[tower.device.type] // (row.way * row.shot * clip))
            most = min(most, busy)
        return max(1, min(_MOST_AT_ONCE, most))

    def failure(self, spec: EpisodeSpec) -> VideoUnreadable | None:
        """Why an episode cannot run: its first unreadable clip."""
        bad = self.work.unreadable
        return next((bad[name] for name in spec.clips() if name in bad), None) if bad else None

    def run(self, specs: Sequence[EpisodeSpec]) -> list[EpisodeRecord]:
        """Tunes and predicts for several episodes side by side."""
        device = self.work.encoder.tower.device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        start = perf_counter()
        with deterministic(self.row.deterministic):
            tuned = self._tune(specs)
            scores = tuned.logits.softmax(-1).cpu()  # waits for the device
        seconds = (perf_counter() - start) / len(specs)
        memory = peak_memory_mb(device, len(specs))
        return [
            self._record(spec, scores[e], tuned.losses[e].tolist(), seconds, memory)
            for e, spec in enumerate(specs)
        ]

    def _tune(self, specs: Sequence[EpisodeSpec]) -> Tuned:
        row = self.row
        encoder, head = self.build([spec.index for spec in specs])
        bank = self.work.bank(encoder, grid=head.needs_grid)
        support = [[name for clips in spec.support for name in clips] for spec in specs]
        query = [[name for clips in spec.query for name in clips] for spec in specs]
        labels = torch.arange(row.way).repeat_interleave(row.shot).expand(len(specs), -1)
        episodes = Episodes(
            self._support(encoder, support, specs, head.needs_grid),
            labels.contiguous().to(encoder.tower.device),
            bank.tokens(query),
        )
        try:
            return tune_and_predict(encoder, head, episodes, row.tuning)
        except TuningError as error:
            first, last = specs[0].index, specs[-1].index
            raise TuningError(f"{row.slug}, episodes {first} to {last}: {error}") from error

    def _support(
        self,
        encoder: AdaptedEncoder,
        names: list[list[str]],
        specs: Sequence[EpisodeSpec],
        grid: bool,
    ) -> Callable[[int], Tensor]:
        plain = self.work.bank(encoder, grid=grid).tokens(names)
        if not is_active(self.row.tuning) or not self.parameters:
            return lambda _step: plain
        seeds = [derive_seed("augment", self.row.seed, spec.index) for spec in specs]
        augment = Augmenter(self.row.tuning, [spec.classes for spec in specs], seeds)
        frames = [[torch.from_numpy(self.work.frames(n).copy()) for n in row] for row in names]
        pixels = encoder.tower.pixels(torch.stack([torch.stack(row) for row in frames]))

        def _step_tokens(step: int) -> Tensor:
            if step < 0:
                return plain
            with torch.no_grad():
                return encoder.prefix(augment(pixels), grid=grid)

        return _step_tokens

    def _record(
        self, spec: EpisodeSpec, scores: Tensor, losses: list[float], seconds: float, memory: float
    ) -> EpisodeRecord:
        labels = [c for c, clips in enumerate(spec.query) for _ in clips]
        predictions = scores.argmax(-1).tolist()
        right = sum(p == label for p, label in zip(predictions, labels, strict=True))
        return EpisodeRecord(
            **_names(spec),
            status="ok",
            labels=labels,
            predictions=predictions,
            probabilities=scores.tolist(),
            accuracy=right / len(labels),
            losses=losses,
            seconds=seconds,
            peak_memory_mb=memory,
            error=None,
        )

    def failed_record(self, spec: EpisodeSpec, error: VideoUnreadable) -> EpisodeRecord:
        """The record of an episode whose clip cannot be read."""
        return EpisodeRecord(
            **_names(spec),
            status="failed",
            labels=[c for c, clips in enumerate(spec.query) for _ in clips],
            predictions=[],
            probabilities=[],
            accuracy=None,
            losses=[],
            seconds=0.0,
            peak_memory_mb=0.0,
            error={"path": error.path, "reason": error.reason},
        )

    def header(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The run's header, and the part of it that decides the results."""
        encoder, split = self.work.encoder, self.work.split
        identity = {
            "config": self.row.identity(),
            "split": {"digest": split.digest},
            "encoder": {"digest": encoder.digest},
            "at_once": self.at_once,
            "device": _device_name(encoder.tower.device),
            "versions": {
                "fewshot_i2v": fewshot_i2v.__version__,
                "torch": str(torch.__version__),
                "readers": reader_versions(),
            },
        }
        about = {
            "name": self.row.name,
            "split": {"name": split.name, "version": split.version, "path": str(split.path)},
            "encoder": {"name": encoder.name, "pretrained": encoder.pretrained},
            "parameters": self.parameters,
            "libraries": {name: version(name) for name in ("open_clip_torch", "numpy")},
            "python": sys.version.split()[0],
            "commit": commit(),
            "threads": torch.get_num_threads(),
        }
        return about, identity


def _names(spec: EpisodeSpec) -> dict[str, Any]:
    return {
        "index": spec.index,
        "classes": list(spec.classes),
        "support": [list(clips) for clips in spec.support],
        "query": [list(clips) for clips in spec.query],
    }


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def peak_memory_mb(device: torch.device, episodes: int) -> float:
    """Peak memory in MiB: an episode's share on a GPU, the whole process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / episodes / 2**20
    if sys.platform == "win32":  # no cheap way to ask there
        return 0.0
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def reader_versions() -> dict[str, str | None]:
    """Versions of what reads the clips; None for a reader that is not installed."""
    found: dict[str, str | None] = {}
    for name in ("av", "decord"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


@cache
def commit() -> str | None:
    """The commit of the checkout this package runs from, "+dirty" with changes, else None."""
    folder = Path(__file__).resolve().parent.parent
    git = shutil.which("git")
    if git is None or not (folder / ".git").exists():
        return None

    def _ask(*words: str) -> str | None:
        done = subprocess.run(  # noqa: S603 - fixed words
            [git, "-C", str(folder), *words], capture_output=True, text=True, check=False
        )
        return None if done.returncode else done.stdout.strip()

    head = _ask("rev-parse", "HEAD")
    return head and head + ("+dirty" if _ask("status", "--porcelain", "-uno") else "")
