"""Segments of a long video: what happens when, from the predictions of overlapping windows."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot_i2v.data.video.pyav_stream import RgbImage
from fewshot_i2v.data.video.windows import WindowPlan, plan_windows
from fewshot_i2v.errors import VideoUnreadable
from fewshot_i2v.evaluation.prediction import NONE_OF_THESE, Prediction
from fewshot_i2v.report.page.figures.timeline import Span

if TYPE_CHECKING:
    from fewshot_i2v.evaluation.classifier import FewShotClassifier


@dataclass(frozen=True)
class Segment(Span):
    """A part of a video in which one class is predicted.

    Its probability is the mean of the class over its cells. Where it is of none of the classes, it
    is that of the class which is nearest in each cell, not how sure it is that there is none.

    Attributes:
        picture: (H, W, 3) uint8, from its surest window; None where pictures are not kept.
        nearest: where it is of none of the classes, the one that is nearest in most of its cells;
            None otherwise.
    """

    picture: RgbImage | None = field(default=None, repr=False, compare=False)
    nearest: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns plain types, for JSON."""
        plain = {
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "class": self.class_name,
            "probability": self.probability,
        }
        if self.class_name is None:
            plain |= {"reason": NONE_OF_THESE, "nearest": self.nearest}
        return plain


@dataclass(frozen=True)
class Timeline:
    """What happens when in a video.

    Attributes:
        path: of the video.
        plan: where its windows are.
        segments: from the first frame to the last, without gaps.
        cells: likewise, one for each stride, with the class of the surest window that covers it.
    """

    path: Path
    plan: WindowPlan
    segments: tuple[Segment, ...]
    cells: tuple[Span, ...]


def find_segments(
    classifier: FewShotClassifier, path: str | Path, window: float, stride: float
) -> list[Segment]:
    """Finds what happens when in a long video.

    Args:
        classifier: a fitted model, or an export.
        path: a video file.
        window: length in seconds of the clips that are classified; about that of the clips which
            the model was fitted to.
        stride: seconds from one to the next.

    Returns:
        The segments from the first frame to the last, see `SegmentMerger`.

    Raises:
        VideoUnreadable: if the video cannot be read; there is at least one segment otherwise.
        ConfigError: for impossible lengths.
    """
    return list(_read_timeline(classifier, path, window, stride, cells=None).segments)


def find_timeline(
    classifier: FewShotClassifier, path: str | Path, window: float, stride: float
) -> Timeline:
    """Finds what happens when in a long video, with all that a page of it shows.

    The arguments are those of `find_segments`; each segment has a picture.
    """
    return _read_timeline(classifier, path, window, stride, cells=[])


def _read_timeline(
    classifier: FewShotClassifier,
    path: str | Path,
    window: float,
    stride: float,
    cells: list[Span] | None,
) -> Timeline:
    """Classifies the windows of a video; pictures are kept where there is a list for the cells."""
    scorer = classifier.scorer
    plan = plan_windows(Path(path), window, stride, scorer.limits)
    merger = SegmentMerger(plan, cells=cells)
    segments: list[Segment] = []
    for part, prediction in scorer.score_windows(path, scorer.read_windows(path, plan)):
        picture = None if cells is None else part.frames[len(part.frames) // 2]
        segments += merger.add(part.number, prediction, picture)
    segments += merger.finish(plan.duration)
    if not segments:
        raise VideoUnreadable(path, "holds no frame that can be decoded")
    return Timeline(Path(path), plan, tuple(segments), tuple(cells or ()))


@dataclass(frozen=True)
class _ScoredWindow:
    number: int
    prediction: Prediction
    picture: RgbImage | None


class SegmentMerger:
    """Merges predictions of overlapping windows to segments, as they come.

    The video is cut into cells of one stride. Each cell has the class of the surest of the windows
    that cover it: a window that begins with the action is sure, those that cut it are not, and a
    mean over all of them would drown the first. Neighbours of the same class are one segment.
    Only windows that still cover something are kept.

    Args:
        plan: where the windows are.
        cells: a list to put the cells in; None: they are not kept.
    """

    def __init__(self, plan: WindowPlan, *, cells: list[Span] | None = None) -> None:
        self.plan, self.cells = plan, cells
        self._windows: deque[_ScoredWindow] = deque()
        self._following_cell = 0
        self._open: Segment | None = None
        self._length, self._sureness = 0, 0.0
        self._nearest: Counter[str | None] = Counter()

    def add(
        self, number: int, prediction: Prediction, picture: RgbImage | None = None
    ) -> list[Segment]:
        """Adds the prediction of a window, and returns the segments that have ended by it.

        Its number is higher than any before.
        """
        # cells before its start are covered by none that comes from now on
        ended = self._decide(number)
        self._windows.append(_ScoredWindow(number, prediction, picture))
        return ended + self._decide(number + 1)

    def finish(self, duration: float) -> list[Segment]:
        """Returns the remaining segments of a video of some seconds.

        What is after the last window belongs to it.
        """
        if not self._windows:
            return []
        self.plan = replace(self.plan, duration=duration)
        n_cells = max(1, ceil(duration / self.plan.stride - 1e-3))
        return self._decide(n_cells, last=self._windows[-1]) + self._close()

    def _decide(self, stop: int, last: _ScoredWindow | None = None) -> list[Segment]:
        """Decides the cells before a number, and returns the segments that end by it."""
        ended: list[Segment] = []
        for cell in range(self._following_cell, stop):
            covering = self._covering(cell)
            if not covering and last is not None:
                covering = [last]
            if covering:
                ended += self._extend(cell, max(covering, key=_sureness))
            else:  # windows of a stream that were dropped
                ended += self._close()
        self._following_cell = max(stop, self._following_cell)
        return ended

    def _covering(self, cell: int) -> list[_ScoredWindow]:
        """Windows that cover the middle of a cell; those that cover no later one are dropped."""
        middle = (cell + 0.5) * self.plan.stride
        first = _first_window(middle, self.plan)
        while len(self._windows) > 1 and self._windows[0].number < first:
            self._windows.popleft()
        return [
            w for w in self._windows if first <= w.number and w.number * self.plan.stride <= middle
        ]

    def _extend(self, cell: int, surest: _ScoredWindow) -> list[Segment]:
        prediction, sureness = surest.prediction, _sureness(surest)
        start = cell * self.plan.stride
        end = min((cell + 1) * self.plan.stride, self.plan.duration)
        if self.cells is not None:
            self.cells.append(Span(start, end, prediction.class_name, sureness))
        before, n = self._open, self._length
        if before is not None and before.class_name == prediction.class_name:
            probability = (before.probability * n + sureness) / (n + 1)
            picture = surest.picture if sureness > self._sureness else before.picture
            self._open = Segment(before.start, end, before.class_name, probability, picture)
            self._length, self._sureness = n + 1, max(sureness, self._sureness)
            self._nearest[prediction.nearest] += 1
            return []
        ended = self._close()
        self._open = Segment(start, end, prediction.class_name, sureness, surest.picture)
        self._length, self._sureness = 1, sureness
        self._nearest = Counter([prediction.nearest])
        return ended

    def _close(self) -> list[Segment]:
        segment, self._open = self._open, None
        if segment is None:
            return []
        if segment.class_name is None:
            segment = replace(segment, nearest=self._nearest.most_common(1)[0][0])
        return [segment]


def _sureness(window: _ScoredWindow) -> float:
    return window.prediction.probability or 0.0


def _first_window(time: float, plan: WindowPlan) -> int:
    """Number of the first window that has not ended at a time."""
    return max(0, int((time - plan.window) / plan.stride + 1))
