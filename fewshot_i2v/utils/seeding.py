"""Random seeds of episodes and steps, and deterministic kernels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager


def derive_seed(*components: str | int) -> int:
    """Derives a 63-bit seed from `components` only, with no library's generator."""
    joined = "\x1f".join(str(component) for component in components)
    digest = hashlib.blake2b(joined.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextmanager
def deterministic(enabled: bool) -> Iterator[None]:
    """Refuses operations without a deterministic kernel while it is active."""
    import torch

    if not enabled or torch.are_deterministic_algorithms_enabled():
        yield  # setting what is set already imports PyTorch's compiler, for seconds
        return
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
