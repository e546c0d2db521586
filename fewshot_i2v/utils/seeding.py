"""Random seeds of episodes and steps, and deterministic kernels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager


def derive_seed(*parts: str | int) -> int:
    """A 63-bit seed that depends on `parts` alone, not on any library's generator."""
    text = "\x1f".join(str(part) for part in parts)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextmanager
def deterministic(enabled: bool) -> Iterator[None]:
    """Refuses operations without a deterministic kernel while it is active."""
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(enabled or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
