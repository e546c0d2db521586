"""Records of finished episodes, written by a thread while the next ones run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

from fewshot_i2v.runs.episode_record import EpisodeRecord

if TYPE_CHECKING:
    from types import TracebackType


class RecordWriter:
    """Writes records in their order, in one thread; a context manager.

    When it ends, in whatever way, all records are on the disk, or the error says which are not:
    after an error nothing more is written.

    Args:
        append: writes records so that they survive a kill, as `RunFolder.append`.
    """

    def __init__(self, append: Callable[[Sequence[EpisodeRecord]], object]) -> None:
        self._append = append
        self._thread = ThreadPoolExecutor(1, "records")
        self._last: Future[None] | None = None
        self._has_failed = False

    def add(self, records: Sequence[EpisodeRecord]) -> None:
        """Has records written; at most those of the call before are still being written then.

        Raises:
            RecordError: when earlier records were refused, as `RunFolder.append`.
            RecordWriteError: when the disk refused earlier ones.
        """
        # first of all: a signal while the earlier ones are awaited loses nothing
        earlier, self._last = self._last, self._thread.submit(self._write, records)
        if earlier is not None:
            earlier.result()

    def wait(self) -> None:
        """Waits until all records are on the disk; errors as `add`."""
        last = self._last
        if last is not None:
            last.result()
            self._last = None

    def _write(self, records: Sequence[EpisodeRecord]) -> None:
        if self._has_failed:
            return
        try:
            self._append(records)
        except BaseException:
            self._has_failed = True
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.wait()
        finally:
            self._thread.shutdown()
