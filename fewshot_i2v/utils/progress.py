"""Progress on standard error: a bar on a terminal, and elsewhere a line a minute."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, TextIO

from tqdm import tqdm

from fewshot_i2v.utils.printable import printable, terminal

if TYPE_CHECKING:
    from _typeshed import SupportsWrite


class _Lines(tqdm):  # type: ignore[type-arg]  # generic in its stubs alone
    """Says in lines how far things are, since a log has no place to draw a bar over and over.

    What takes less than a minute says nothing.
    """

    seconds: ClassVar[float] = 60.0

    def __init__(self, iterable: Iterable[Any] | None, **options: Any) -> None:
        fixed = {"mininterval": self.seconds, "maxinterval": self.seconds, "delay": self.seconds}
        shape = {"ascii": True, "ncols": 0, "leave": True, "file": _WholeLines(sys.stderr)}
        super().__init__(iterable, **{**options, **fixed, **shape})

    @staticmethod
    def status_printer(file: SupportsWrite[str]) -> Callable[[str], None]:
        """What shows a new state: in a line of its own."""

        def _print(text: str) -> None:
            file.write(f"{text.strip()}\n")

        return _print


class _WholeLines:
    """A stream without the signs that move the cursor."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes what is more than a sign that moves the cursor."""
        return self._stream.write(text) if text.strip() else 0

    def flush(self) -> None:
        """Flushes the stream."""
        self._stream.flush()


def bar(
    iterable: Iterable[Any] | None = None,
    *,
    progress: bool,
    **options: Any,
) -> tqdm[Any]:
    """What shows progress.

    Args:
        iterable: what to go through, or None to call `update`.
        progress: whether to show anything.
        **options: those of tqdm.
    """
    if "desc" in options:
        options["desc"] = printable(options["desc"])
    if progress and not sys.stderr.isatty():
        return _Lines(iterable, **options)
    return tqdm(iterable, disable=not progress, file=terminal(), **options)
