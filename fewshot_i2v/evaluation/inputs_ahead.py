"""Clips of the next episodes, read by a thread while the device works on these.

The thread reads what the host must have of a clip before the device can begin: its frozen prefix
or its frames from disk, and for augmented rows the frames of all support clips of a batch. All of
it goes into pinned memory, from which copies to the device do not wait. Computing stays with the
main thread, so results do not depend on when the thread is done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

from torch import Tensor

from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.data.video.clip_cache import ClipCacheError
from fewshot_i2v.errors import ClipDiskError, VideoUnreadable
from fewshot_i2v.evaluation.inputs import is_mini_batched, stack_support_frames
from fewshot_i2v.models.adapters.base.frozen_prefix import PrefixSpec
from fewshot_i2v.models.prefix_store import ClipInput

if TYPE_CHECKING:
    from types import TracebackType

    from fewshot_i2v.evaluation.row_runner import RowRunner

MAX_CLIPS_AHEAD = 128
"""Bounds the pinned memory: a prefix on disk takes at most 8 MiB, frames of ViT-B/16 1.2 MB."""

_FAILURES = (VideoUnreadable, ClipCacheError, ClipDiskError)


class InputsAhead:
    """Reads the clips of a row ahead of their use, in one thread; a context manager.

    On the CPU nothing is read ahead: there the thread would only take processor time from the
    training. Clips that are not decoded, or cannot be read, are left to the main thread.

    Attributes:
        n_clips: clips that were read before they were needed.
        n_batches: likewise, batches whose support frames were read to be augmented.
    """

    def __init__(self, runner: RowRunner) -> None:
        self._runner = runner
        self.n_clips = self.n_batches = 0
        is_useful = runner.context.encoder.tower.device.type == "cuda"
        self._thread = ThreadPoolExecutor(1, "inputs") if is_useful else None
        tuning = runner.row.tuning
        self._augments = bool(tuning.steps and tuning.augments and not runner.is_static)
        self._clips: dict[str, Future[ClipInput | None]] = {}
        self._waiting: deque[str] = deque()
        self._frames: dict[tuple[int, ...], Future[Tensor | None]] = {}

    def start(self, groups: Sequence[Sequence[Episode]]) -> None:
        """Starts to read the clips of groups of episodes, in order; those of others are dropped."""
        if self._thread is None:
            return
        if self._augments:  # first of all: tuning reads them before prediction reads the clips
            self._start_frames(self._thread, groups)
        context, key = self._runner.context, self._runner.cache_key
        names = dict.fromkeys(
            name
            for group in groups
            for clips in ("support_clips", "query_clips")
            for episode in group
            for name in getattr(episode, clips)
            if not context.caches.has(key, name)
        )
        self._clips = {name: future for name, future in self._clips.items() if name in names}
        self._waiting = deque(name for name in names if name not in self._clips)
        self._fill()

    def _start_frames(
        self, thread: ThreadPoolExecutor, groups: Sequence[Sequence[Episode]]
    ) -> None:
        tuning, earlier = self._runner.row.tuning, self._frames
        self._frames = {
            key: earlier.get(key) or thread.submit(self._read_frames, group)
            for key, group in ((_key(group), group) for group in groups)
            if not is_mini_batched(tuning, group)
        }

    def _fill(self) -> None:
        """Starts to read as many of the waiting clips as there is room for."""
        while self._thread and self._waiting and len(self._clips) < MAX_CLIPS_AHEAD:
            name = self._waiting.popleft()
            self._clips[name] = self._thread.submit(self._read_clip, name)

    def take_clip(self, name: str, spec: PrefixSpec) -> ClipInput | None:
        """Returns what was read of a clip; None where nobody began, or it must be decoded first.

        Only the prefix of the row's adapter is read ahead: of another `spec` there is nothing.
        """
        if spec != self._spec:
            return None
        future = self._clips.pop(name, None)
        self._fill()
        read = None if future is None else future.result()
        self.n_clips += read is not None
        return read

    def take_support_frames(self, group: Sequence[Episode]) -> Tensor | None:
        """Returns the frames of the support clips of a group, (E, S, ...); None as `take_clip`."""
        future = self._frames.pop(_key(group), None)
        frames = None if future is None else future.result()
        self.n_batches += frames is not None
        return frames

    @property
    def _spec(self) -> PrefixSpec:
        """The prefix of the row's adapter."""
        tower = self._runner.context.encoder.tower
        return self._runner.sizes.prefix_spec.cache_key(tower)

    def _read_clip(self, name: str) -> ClipInput | None:
        context = self._runner.context
        try:
            return context.read_clip(name, self._spec).pinned()
        except _FAILURES:
            return None  # the main thread meets the same, and says so, or waits

    def _read_frames(self, group: Sequence[Episode]) -> Tensor | None:
        clips = self._runner.context.augmentation_clips(self._runner.row.tuning)
        try:
            frames = stack_support_frames(clips.read_frames, [e.support_clips for e in group])
        except _FAILURES:
            return None  # as above
        return frames.pin_memory()

    def __enter__(self) -> Self:
        context = self._runner.context
        context.clips_ahead, context.support_frames_ahead = self.take_clip, self.take_support_frames
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends the thread; what was not taken is dropped."""
        context = self._runner.context
        context.clips_ahead = context.support_frames_ahead = None
        self._clips.clear()
        self._waiting.clear()
        self._frames.clear()
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)


def _key(group: Sequence[Episode]) -> tuple[int, ...]:
    return tuple(episode.index for episode in group)
