"""What the evaluations of this folder compute again and again is computed once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from fewshot_i2v import registry
from fewshot_i2v.evaluation import context
from fewshot_i2v.models.cost import macs_per_clip
from fewshot_i2v.models.encoders.opaque_tower import OpaqueTower
from fewshot_i2v.models.encoders.tower import Tower
from tests.tiny import clips_decoded_here


@pytest.fixture(autouse=True, scope="package")
def _clips_decoded_here() -> Iterator[None]:
    with clips_decoded_here():
        yield


_counts: dict[tuple[object, ...], float | None] = {}


@pytest.fixture(autouse=True, scope="package")
def _multiply_accumulates_counted_once() -> Iterator[None]:
    """Counting takes half the time of a tiny run; `tests/models/test_cost.py` checks the counts."""

    def count(
        tower: Tower, adapter: str, options: Mapping[str, Any], *, frames: int
    ) -> float | None:
        if isinstance(tower, OpaqueTower):  # without blocks, so without these sizes
            return macs_per_clip(tower, adapter, options, frames=frames)
        method = registry.load_method("adapters", adapter)
        sizes = tower.image_size, tower.patch, tower.width, tower.layers, tower.heads, tower.pool
        key = method, repr(options), frames, sizes
        if key not in _counts:
            _counts[key] = macs_per_clip(tower, adapter, options, frames=frames)
        return _counts[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context, "macs_per_clip", count)
        yield
