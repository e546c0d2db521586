"""Segments of a camera or a stream, while it runs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from time import monotonic

from fewshot_i2v.data.video.live import LiveCounts, LiveReader, LiveSource
from fewshot_i2v.data.video.windows import VideoWindow, WindowPlan
from fewshot_i2v.errors import VideoUnreadable
from fewshot_i2v.evaluation.clip_scorer import ClipScorer
from fewshot_i2v.evaluation.prediction import Prediction
from fewshot_i2v.evaluation.segments import Segment, SegmentMerger


@dataclass(frozen=True)
class LiveStatus:
    """What is known after a window of a live source.

    Attributes:
        prediction: of the window.
        end: of the window, in seconds from the first picture.
        latency: seconds from the arrival of the window's last picture to its prediction.
        counts: what was read so far.
    """

    prediction: Prediction
    end: float
    latency: float
    counts: LiveCounts


class LiveSegments:
    """Segments of a live source, each as soon as the next one begins; memory does not grow.

    Args:
        scorer: of a fitted model, or an export.
        source: camera or stream.
        window: length in seconds of the clips that are classified.
        stride: seconds from one to the next.
        on_window: called after each window; None: nothing is.

    Attributes:
        counts: what was read so far.
        windows: number of windows that were classified.
        mean_latency: seconds from the arrival of a window's last picture to its prediction.
        max_latency: the longest of these.

    Raises:
        ConfigError: for impossible lengths.
    """

    def __init__(
        self,
        scorer: ClipScorer,
        source: LiveSource,
        window: float,
        stride: float,
        on_window: Callable[[LiveStatus], object] | None = None,
    ) -> None:
        plan = WindowPlan.endless(window, stride)
        self._scorer, self._source, self._on_window = scorer, source, on_window
        self._reader = LiveReader(source, plan, scorer.decode_options, scorer.limits)
        self._merger = SegmentMerger(plan)
        self._arrived, self._end = 0.0, 0.0
        self.counts = self._reader.counts
        self.windows, self.mean_latency, self.max_latency = 0, 0.0, 0.0

    def __iter__(self) -> Iterator[Segment]:
        """Yields the segments until the source ends.

        Raises:
            VideoUnreadable: when it cannot be opened, breaks off, after what was predicted, or ends
                before its first window is complete.
        """
        windows = self._read_windows()
        try:
            # one at a time: waiting for more would add to the latency
            for part, prediction in self._scorer.score_windows(self._source.name, windows, 1):
                self._measure(part, prediction)
                yield from self._merger.add(part.number, prediction)
        except VideoUnreadable:
            yield from self.finish()
            raise
        finally:
            windows.close()
        yield from self.finish()
        if not self.windows:
            raise VideoUnreadable(self._source.name, self._describe_short_source())

    def finish(self) -> list[Segment]:
        """Returns the segments that have not ended, as after Ctrl-C; none a second time."""
        # what was read but not classified is in none
        return self._merger.finish(min(self.counts.seconds, self._end + self._merger.plan.stride))

    def _read_windows(self) -> Generator[VideoWindow]:
        for live in self._reader.windows():
            self._arrived = live.arrived
            yield live.window

    def _describe_short_source(self) -> str:
        """Says why there is no window, and what to do."""
        if not self.counts.pictures:
            return "ended before its first picture"
        window = self._merger.plan.window
        return (
            f"ended after {self.counts.seconds:.1f} s, before its first window of {window:g} s was "
            "complete; a shorter window helps"
        )

    def _measure(self, part: VideoWindow, prediction: Prediction) -> None:
        latency, self._end = monotonic() - self._arrived, part.end
        self.windows += 1
        self.mean_latency += (latency - self.mean_latency) / self.windows
        self.max_latency = max(latency, self.max_latency)
        if self._on_window is not None:
            self._on_window(LiveStatus(prediction, part.end, latency, self.counts))
