"""Progress on standard error: a bar on a terminal, elsewhere one line per minute."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, TextIO

from tqdm import tqdm

from fewshot_i2v.utils.printable import printable, terminal_stream

if TYPE_CHECKING:
    from _typeshed import SupportsWrite


class _LogLines(tqdm):  # type: ignore[type-arg]  # generic in its stubs alone
    """Progress as lines of a log, which cannot redraw a bar.

    Nothing is shown for less than a minute.
    """

    seconds: ClassVar[float] = 60.0

    def __init__(self, iterable: Iterable[Any] | None, **options: Any) -> None:
        fixed = {"mininterval": self.seconds, "maxinterval": self.seconds, "delay": self.seconds}
        shape = {"ascii": True, "ncols": 0, "leave": True, "file": _PlainLines(sys.stderr)}
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
) -> tqdm[Any]:
    """Makes a progress bar.

    Args:
        iterable: what to iterate over, or None to call `update`.
        progress: whether to show anything.
        **options: those of tqdm.
    """
    if "desc" in options:
        options["desc"] = printable(options["desc"])
    if progress and not sys.stderr.isatty():
        return _LogLines(iterable, **options)
    return tqdm(iterable, disable=not progress, file=terminal_stream(), **options)
