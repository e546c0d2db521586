"""A function for worker processes that complains as native code does."""

from __future__ import annotations

import os

from fewshot_i2v.data.video.worker_pool import native_log_reader


def complaint(text: str) -> int:
    """Write to standard error, and tell how many bytes have been seen there."""
    log = native_log_reader()
    if log is None:
        return -1
    before = log()
    while text:
        text = text[os.write(2, text.encode()) :]
    return log() - before
