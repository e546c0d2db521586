"""Processes of tests, most of them killed: started from one that has imported the package."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
# what a run imports at its start or on its way
_CONTEXT.set_forkserver_preload(
    ["fewshot_i2v.evaluation.evaluate", "fewshot_i2v.training.train", "open_clip", "torch._dynamo"]
)


def start(function: Callable[..., object], *args: Any) -> ForkServerProcess:
    """Runs a function in a process of its own, which `kill` ends as SIGKILL does."""
    process = _CONTEXT.Process(target=function, args=args)
    process.start()
    return process
