"""When Python looks for garbage: not among the imports of PyTorch, and not at the end."""

from __future__ import annotations

import gc

START_OBJECTS = 400_000
"""Objects that the imports of the slowest command make, and some more."""


def postpone_garbage_collection() -> None:
    """Looks for garbage only when more objects were made than imports make, then as usual.

    What the imports made stays, and looking through it again and again takes a tenth of their time.
    It is left out of the later searches, too.
    """
    thresholds = gc.get_threshold()

    def _collect_as_usual(phase: str, _info: object) -> None:
        if phase == "stop":
            gc.callbacks.remove(_collect_as_usual)
            gc.freeze()
            gc.set_threshold(*thresholds)

    gc.set_threshold(START_OBJECTS, *thresholds[1:])
    gc.callbacks.append(_collect_as_usual)


def leave_garbage() -> None:
    """Leaves all garbage to the end of the process, which is the next thing.

    Python looks through everything several times when it ends, for what may have to be closed.
    """
    gc.freeze()
