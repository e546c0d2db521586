"""Progress on standard error: one bar on a terminal, elsewhere a line a minute with the same facts.

A bar of a command that does several things one after the other is an `OverallProgress`: its label
says what is done now, and its length and time left count what each thing costs.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite, nan
from threading import RLock
from typing import TYPE_CHECKING, Any, ClassVar, TextIO

from tqdm import tqdm

from fewshot_i2v.utils.printable import printable, terminal_stream
from fewshot_i2v.utils.text_table import wrap_notes
from fewshot_i2v.utils.timing import format_seconds

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

_MAX_COLUMNS = 80
_MAX_LABEL = 34
_COUNT_FORMAT = "{desc} {n_fmt} of {total_fmt} {unit} |{bar}| {percentage:.0f} %{left}{postfix}"
_SHARE_FORMAT = "{desc} |{bar}| {percentage:.0f} %{left}{postfix}"


class _Bar(tqdm):  # type: ignore[type-arg]  # generic in its stubs alone
    """A bar that says the time left in words.

    Attributes:
        seconds_left: of everything; NaN: not known yet; None: as the mean speed so far says.
    """

    seconds_left: float | None = None
    # that of tqdm is a semaphore too, which is left where a worker process is killed
    _lock = RLock()

    @property
    def format_dict(self) -> dict[str, Any]:
        """What a status is made from, with the time left."""
        facts: dict[str, Any] = dict(super().format_dict)
        done, elapsed = facts["n"] - facts["initial"], facts["elapsed"]
        seconds = self.seconds_left
        if seconds is None and facts["total"] and done > 0 and elapsed > 0:
            seconds = (facts["total"] - facts["n"]) * elapsed / done
        is_known = seconds is not None and isfinite(seconds) and facts["n"] < (facts["total"] or 0)
        return facts | {"left": f", {format_seconds(seconds or 0.0)} left" if is_known else ""}


class _LogLines(_Bar):
    """Progress as lines of a log, which cannot redraw a bar.

    Nothing is shown for less than a minute.
    """

    seconds: ClassVar[float] = 60.0

    def __init__(self, iterable: Iterable[Any] | None, **options: Any) -> None:
        fixed = {"mininterval": self.seconds, "maxinterval": self.seconds, "delay": self.seconds}
        shape = {"leave": True, "file": _PlainLines(sys.stderr), "ncols": None}
        shape["bar_format"] = options["bar_format"].replace(" |{bar}|", ",")
        super().__init__(iterable, **{**options, **fixed, **shape})

    @staticmethod
    def status_printer(file: SupportsWrite[str]) -> Callable[[str], None]:
        """Returns a function that prints each new status as a line."""

        def _print(line: str) -> None:
            file.write(f"{line.strip()}\n")

        return _print


class _PlainLines:
    """A stream without the characters that move the cursor."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: str) -> int:
        """Writes text, unless it only moves the cursor."""
        return self._stream.write(line) if line.strip() else 0

    def flush(self) -> None:
        """Flushes the stream."""
        self._stream.flush()


def bar(
    iterable: Iterable[Any] | None = None,
    *,
    progress: bool,
    **options: Any,
) -> _Bar:
    """Makes a progress bar; none is shown for a single item.

    Args:
        iterable: what to iterate over, or None to call `update`.
        progress: whether to show anything.
        **options: those of tqdm; `desc` is what is done, `unit` the plural of the items.
    """
    if options.get("desc"):
        options["desc"] = _label(options["desc"])
    options.setdefault("bar_format", _COUNT_FORMAT)
    total = options.get("total")
    is_shown = progress and (total is None or total > 1)
    if is_shown and not sys.stderr.isatty():
        return _LogLines(iterable, **options)
    columns = min(_MAX_COLUMNS, shutil.get_terminal_size().columns) - 1
    return _Bar(iterable, disable=not is_shown, file=terminal_stream(), ncols=columns, **options)


def _label(text: str) -> str:
    """Cuts a label so that it leaves room for the bar in 80 columns."""
    text = printable(text)
    return text if len(text) <= _MAX_LABEL else f"{text[: _MAX_LABEL - 1]}…"


@dataclass(frozen=True)
class Task:
    """One of the things that an `OverallProgress` is about.

    Attributes:
        label: short, such as "aim 5-shot".
        kind: tasks of one kind take equally long for the same work.
        work: how much there is to do, in any unit that all tasks share.
    """

    label: str
    kind: Hashable
    work: float


@dataclass
class OverallProgress:
    """One bar over several tasks, whose work counts and not their number.

    The time left is the work left of each task times the seconds that work of its kind took so far;
    of a kind that was not seen yet, times the seconds that all work took.

    Attributes:
        tasks: in order.
        noun: what a task is, such as "row".
        display: the bar.
    """

    tasks: Sequence[Task]
    noun: str
    display: _Bar
    _current: int = 0
    _done: list[float] = field(default_factory=list)
    _seen: dict[Hashable, tuple[float, float]] = field(default_factory=dict)

    def begin(self, position: int) -> None:
        """Begins a task; what is left of those before it is taken as done."""
        self._current = position
        self.display.set_postfix_str("", refresh=False)
        self._show_label()
        left = [self.tasks[i].work - self._done[i] for i in range(position)]
        self._done[:position] = [task.work for task in self.tasks[:position]]
        self.display.update(sum(left))

    def advance(
        self, share: float, seconds: float | None, note: str = "", *, position: int | None = None
    ) -> None:
        """Counts a share of the present task.

        Args:
            share: of the task's work, in 0..1.
            seconds: that it took; None where an earlier run did it.
            note: shown behind the time left.
            position: of the task that becomes the present one, where several are done at once.
        """
        self._current = self._current if position is None else position
        task = self.tasks[self._current]
        self._done[self._current] += share * task.work
        if seconds is not None:
            work, total_seconds = self._seen.get(task.kind, (0.0, 0.0))
            self._seen[task.kind] = (work + share * task.work, total_seconds + seconds)
        self.display.seconds_left = self.seconds_left()
        self.display.set_postfix_str(note, refresh=False)
        self._show_label()
        self.display.update(share * task.work)

    def seconds_left(self) -> float:
        """Seconds that the work left takes; NaN while nothing was seen."""
        rates = {kind: seconds / work for kind, (work, seconds) in self._seen.items() if work > 0}
        if not rates:
            return nan
        mean = sum(s for _, s in self._seen.values()) / sum(w for w, _ in self._seen.values())
        return sum(
            max(0.0, task.work - done) * rates.get(task.kind, mean)
            for task, done in zip(self.tasks, self._done, strict=True)
        )

    @contextmanager
    def stage(self, label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """Shows in the label how far something is that precedes the work of a task.

        When it is complete, and whenever the work advances, the label is that of the task again.
        """
        count = 0

        def _advance(n: int) -> None:
            nonlocal count
            count += n
            self._show_label(f"{label} {count} of {total} {unit}" if count < total else "")
            self.display.update(0)

        yield _advance
        self._show_label()

    def _show_label(self, text: str = "") -> None:
        position = f"{self.noun} {self._current + 1} of {len(self.tasks)}: "
        label = _label(position + (text or self.tasks[self._current].label))
        self.display.set_description_str(label, refresh=False)


@contextmanager
def overall_progress(
    tasks: Sequence[Task], noun: str, *, progress: bool
) -> Iterator[OverallProgress]:
    """Shows one bar over several tasks.

    Args:
        tasks: in order.
        noun: what a task is, such as "row".
        progress: whether to show anything.
    """
    total = sum(task.work for task in tasks)
    options: dict[str, Any] = {"bar_format": _SHARE_FORMAT, "miniters": 0, "total": total}
    with bar(desc=f"{noun} 1 of {len(tasks)}", progress=progress, **options) as display:
        display.seconds_left = nan
        yield OverallProgress(tasks, noun, display, _done=[0.0] * len(tasks))


def show_note(progress: bool | OverallProgress, text: str) -> None:
    """Writes a line above the bars, where progress is shown.

    Args:
        progress: the overall bar; or whether to show anything.
        text: the line.
    """
    if progress.display.disable if isinstance(progress, OverallProgress) else not progress:
        return
    _Bar.write(text, file=terminal_stream())


def show_notes(progress: bool | OverallProgress, notes: Iterable[str]) -> None:
    """Writes notes above the bars, wrapped, where progress is shown; as `show_note`."""
    for line in wrap_notes(notes):
        show_note(progress, line)


@contextmanager
def stage(
    progress: bool | OverallProgress, label: str, total: int, unit: str
) -> Iterator[Callable[[int], Any]]:
    """Shows how far something is, in a bar of its own or in the label of an overall bar.

    Args:
        progress: the overall bar; or whether to show a bar.
        label: what is done.
        total: number of items.
        unit: what they are, in the plural.

    Yields:
        The function that counts items that are done.
    """
    if isinstance(progress, OverallProgress):
        with progress.stage(label, total, unit) as advance:
            yield advance
        return
    with bar(total=total, desc=label, unit=unit, progress=progress, leave=False) as display:
        yield display.update
